"""BasicNet: the smallest U-Net that denoises 28x28 images, without any notion of time or amount."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn

from ..errors import UserError
from ..maths.random import host_rng
from ..nn.activations import ReLU
from ..nn.layers import Conv2d, KernelNet
from ..ops.pooling import MaxPool2, Upsample2
from ..storage.fingerprint import remembers

WIDTHS = (32, 64)
KERNEL = 5


@remembers()
class BasicNet(KernelNet):
    """Three 5x5 convolutions down, three up, skips added: (B, in_channels, H, W) -> (B, out_channels, H, W).

    H and W divisible by 4. Parameters are named and shaped as in the PyTorch class that it comes from
    (``down_layers.0.weight`` (32, C, 5, 5) ...), so that its checkpoints load. As there a ReLU follows every
    convolution, the last one too: images come out at 0 or more, and a pixel that is below 0 before that ReLU for every
    input learns nothing any more. Its amount of noise is nothing the network is told; it sees it.

    Args:
        in_channels, out_channels: of the images.
        widths: channels at full and at lower resolution; (32, 64) are the corruption article's (docs/systems.md).
        rng: numpy Generator or seed of the initial weights, which follow PyTorch's distributions.
        use_kernels: run by the C++ kernels for CPU (default: where they are there, see `ms_ddpm.ops.kernels`).

    Raises:
        UserError: for widths that are not two positive ones, and for kernels that are wanted and not there.
    """

    named_as_torch = True

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        widths: tuple[int, int] = WIDTHS,
        rng: np.random.Generator | int | None = None,
        use_kernels: bool | None = None,
    ):
        super().__init__()
        if len(widths) != 2 or min(widths) < 1 or min(in_channels, out_channels) < 1:
            raise UserError(
                f"BasicNet of widths {tuple(widths)} for {in_channels} -> {out_channels} channels, expected two "
                "positive widths and positive channels"
            )
        rng = host_rng(rng)
        wide, deep = widths
        self.channels, self.out_dim = in_channels, out_channels

        def conv(dim_in: int, dim_out: int) -> Conv2d:
            return Conv2d(dim_in, dim_out, KERNEL, padding=KERNEL // 2, rng=rng)

        down = [conv(in_channels, wide), conv(wide, deep), conv(deep, deep)]
        up = [conv(deep, deep), conv(deep, wide), conv(wide, out_channels)]
        self.down_layers = nn.CellList(down)
        self.up_layers = nn.CellList(up)
        self.act = ReLU()
        self.pool = MaxPool2()
        self.upsample = Upsample2()
        self.choose_kernels(use_kernels)

    @staticmethod
    def check_size(height: int, width: int) -> None:
        """Raises UserError unless the image can be halved twice."""
        if min(height, width) < 4 or height % 4 or width % 4:
            raise UserError(
                f"image size {height}x{width} cannot be halved twice: both sides of BasicNet's images must be "
                "divisible by 4"
            )

    def construct(self, x: Tensor) -> Tensor:
        first = self.act(self.down_layers[0](self.enter(x)))
        second = self.act(self.down_layers[1](self.pool(first)))
        x = self.act(self.down_layers[2](self.pool(second)))
        x = self.act(self.up_layers[0](x))
        x = self.act(self.up_layers[1](self.upsample(x) + second))
        return self.leave(self.act(self.up_layers[2](self.upsample(x) + first)))
