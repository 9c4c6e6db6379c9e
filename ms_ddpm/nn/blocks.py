"""Residual blocks, down- and upsampling of the U-Net."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from mindspore import Tensor, nn

from ..config.layouts import LAYOUTS
from ..ops import by_operators
from ..ops.dropout import HashDropout
from ..ops.placed import Placed
from .layers import Conv2d, Linear, WeightStandardizedConv2d
from .norms import GroupNorm, RMSNorm


class Block(nn.Cell):
    """3x3 convolution -> norm, scaled and shifted by the time -> SiLU [+ residual] -> dropout.

    ``scale_shift`` (B, 2 dim_out) is both in one; it and ``residual`` exclude each other.
    """

    def __init__(self, dim: int, dim_out: int, norm: str, dropout: float, layer: int, rng: np.random.Generator):
        super().__init__()
        layout = LAYOUTS[norm]
        if layout.standardise:
            self.proj = WeightStandardizedConv2d(dim, dim_out, 3, padding=1, rng=rng)
            self.proj.least_variance = layout.standardise == "least"
        else:
            self.proj = Conv2d(dim, dim_out, 3, padding=1, rng=rng)
        self.norm = GroupNorm(8, dim_out) if layout.group else RMSNorm(dim_out)
        self.dropout = HashDropout(dropout, layer)

    def construct(
        self, x: Tensor, scale_shift: Tensor | None = None, dropout_key=None, residual: Tensor | None = None
    ) -> Tensor:
        return self.dropout(self.norm.silu(self.proj(x), scale_shift, residual), dropout_key)


class ResnetBlock(nn.Cell):
    """Two Blocks and a shortcut; the time enters the first one as scale and shift.

    x (B, dim, H, W), time_act (B, time_dim), the time embedding *after* its SiLU -> (B, dim_out, H, W).
    """

    def __init__(
        self, dim: int, dim_out: int, time_dim: int, *, norm: str, dropout: float, layer: int, rng: np.random.Generator
    ):
        super().__init__()
        self.mlp = Linear(time_dim, dim_out * 2, rng=rng)
        self.block1 = Block(dim, dim_out, norm, dropout, layer, rng)
        self.block2 = Block(dim_out, dim_out, norm, 0.0, layer, rng)
        self.widens = dim != dim_out
        if self.widens:
            self.res_conv = Conv2d(dim, dim_out, 1, rng=rng)

    def construct(self, x: Tensor, time_act: Tensor, dropout_key=None) -> Tensor:
        h = self.block1(x, self.mlp(time_act), dropout_key)
        return self.block2(h, None, None, self.res_conv(x) if self.widens else x)


class UnshuffleDownsample(Placed):
    """(B, C, H, W) -> (B, dim_out, H/2, W/2): 2x2 pixels become channels, then a 1x1 convolution."""

    def __init__(self, dim: int, dim_out: int, rng: np.random.Generator):
        super().__init__()
        self.conv = Conv2d(dim * 4, dim_out, 1, rng=rng)
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.unshuffled = on.unshuffled()

    def construct(self, x: Tensor) -> Tensor:
        return self.unshuffled(self.conv, x)


class Upsample(Placed):
    """(B, C, H, W) -> (B, dim_out, 2H, 2W): nearest neighbour, then a 3x3 convolution."""

    def __init__(self, dim: int, dim_out: int, rng: np.random.Generator):
        super().__init__()
        self.conv = Conv2d(dim, dim_out, 3, padding=1, rng=rng)
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.upsample = on.upsample()

    def construct(self, x: Tensor) -> Tensor:
        return self.conv(self.upsample(x))


def downsample(kind: str, dim: int, dim_out: int, rng: np.random.Generator) -> nn.Cell:
    """The halving of resolution that ``Unet(downsample=kind)`` asks for."""
    if kind == "unshuffle":
        return UnshuffleDownsample(dim, dim_out, rng)
    return Conv2d(dim, dim_out, 4, stride=2, padding=1, rng=rng)
