"""The stages of a U-Net or autoencoder by diffusers' names: residual blocks of one resolution with their attentions.

A stage is told how to make an attention of a width (``attention``: width -> Cell, called with an image and a context),
or None where it has none. It is one class for what diffusers has several of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

from mindspore import Tensor, nn

from ..ops import by_operators
from ..ops.placed import Placed

OfWidth = Callable[[int], nn.Cell]  # a width -> what keeps it: an attention, a change of size
OfWidths = Callable[[int, int], nn.Cell]  # widths in and out -> a residual block


class _Stage(Placed):
    """Residual blocks of ``widths`` (in, out), an attention behind each, and then perhaps a change of size."""

    def __init__(
        self,
        widths: Sequence[tuple[int, int]],
        block: OfWidths,
        attention: OfWidth | None,
    ):
        super().__init__()
        self.resnets = nn.CellList([block(dim, dim_out) for dim, dim_out in widths])
        self.attends = attention is not None
        if attention is not None:
            self.attentions = nn.CellList([attention(dim_out) for _, dim_out in widths])

    def place(self, on: ModuleType) -> None:
        self.concat, self.sides = on.concat(), on.sides

    def layer(self, i: int, x: Tensor, time_act: Tensor | None, context: Tensor | None) -> Tensor:
        """Residual block ``i`` and the attention behind it."""
        x = self.resnets[i](x, time_act)
        return self.attentions[i](x, context) if self.attends else x


class DownStage(_Stage):
    """x (B, dim, H, W) -> (x (B, dim_out, H', W'), what was made on the way, the last of which is x).

    Args:
        dim, dim_out, layers: widths in and out, and how many residual blocks.
        block, attention: see above.
        downsample: width -> the Cell that halves the image at the end, None: it stays as large as it is.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        layers: int,
        block: OfWidths,
        attention: OfWidth | None = None,
        downsample: OfWidth | None = None,
    ):
        super().__init__([(dim if i == 0 else dim_out, dim_out) for i in range(layers)], block, attention)
        self.count = layers
        self.halves = downsample is not None
        if downsample is not None:
            self.downsamplers = nn.CellList([downsample(dim_out)])
        self.place(by_operators)

    def construct(self, x: Tensor, time_act: Tensor | None = None, context: Tensor | None = None) -> tuple:
        made = ()
        for i in range(self.count):
            x = self.layer(i, x, time_act, context)
            made = made + (x,)
        if self.halves:
            x = self.downsamplers[0](x)
            made = made + (x,)
        return x, made


class UpStage(_Stage):
    """x (B, below, H, W), skips (as many as layers, the last one first in) -> (B, dim_out, H', W').

    Args:
        below, dim_out: widths in and out.
        skips: the widths of what is joined to the input of each residual block, in that order.
        block, attention: see above.
        upsample: width -> the Cell that doubles the image at the end, None: it stays as large as it is.
    """

    def __init__(
        self,
        below: int,
        dim_out: int,
        skips: Sequence[int],
        block: OfWidths,
        attention: OfWidth | None = None,
        upsample: OfWidth | None = None,
    ):
        widths = [((below if i == 0 else dim_out) + skip, dim_out) for i, skip in enumerate(skips)]
        super().__init__(widths, block, attention)
        self.count = len(skips)
        self.doubles = upsample is not None
        if upsample is not None:
            self.upsamplers = nn.CellList([upsample(dim_out)])
        self.place(by_operators)

    def construct(
        self,
        x: Tensor,
        skips: tuple[Tensor, ...],
        time_act: Tensor | None = None,
        context: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        for i in range(self.count):
            x = self.layer(i, self.concat(x, skips[self.count - 1 - i]), time_act, context)
        return self.upsamplers[0](x, size) if self.doubles else x


class DecoderStage(_Stage):
    """`UpStage` of a decoder, which has nothing to join: x (B, dim, H, W) -> (B, dim_out, H', W')."""

    def __init__(self, dim: int, dim_out: int, layers: int, block: OfWidths, upsample: OfWidth | None = None):
        super().__init__([(dim if i == 0 else dim_out, dim_out) for i in range(layers)], block, None)
        self.count = layers
        self.doubles = upsample is not None
        if upsample is not None:
            self.upsamplers = nn.CellList([upsample(dim_out)])
        self.place(by_operators)

    def construct(self, x: Tensor) -> Tensor:
        for i in range(self.count):
            x = self.resnets[i](x)
        return self.upsamplers[0](x) if self.doubles else x


class MidStage(nn.Cell):
    """A residual block, an attention, a residual block: x (B, dim, H, W) -> the same."""

    def __init__(self, dim: int, block: OfWidths, attention: OfWidth):
        super().__init__()
        self.resnets = nn.CellList([block(dim, dim), block(dim, dim)])
        self.attentions = nn.CellList([attention(dim)])

    def construct(self, x: Tensor, time_act: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        x = self.resnets[0](x, time_act)
        return self.resnets[1](self.attentions[0](x, context), time_act)
