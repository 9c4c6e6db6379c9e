"""Residual blocks, down- and upsampling of the U-Net."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn, ops

from ..layouts import LAYOUTS
from ..ops import conv_kernels, kernels
from ..ops.dropout import HashDropout
from .layers import Conv2d, Linear, WeightStandardizedConv2d
from .norms import GroupNorm, RMSNorm


class Block(nn.Cell):
    """3x3 convolution -> norm, scaled and shifted by the time -> SiLU -> dropout.

    ``scale_shift`` (B, 2 dim_out), both in one, and ``residual``, added at the end, are for the C++ kernels alone.
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
        self.channels_last = False

    def construct(self, x: Tensor, scale=None, shift=None, dropout_key=None, scale_shift=None, residual=None) -> Tensor:
        if self.channels_last:
            if scale is not None:
                scale_shift = ops.concat((scale, shift), 1).reshape(x.shape[0], -1)
            return self.dropout(self.norm.fused_silu(self.proj(x), scale_shift, residual), dropout_key)
        return self.dropout(ops.silu(self.norm(self.proj(x), scale, shift)), dropout_key)


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
        self.halves = ops.Split(axis=1, output_num=2)
        self.dim_out = dim_out
        self.channels_last = False

    def construct(self, x: Tensor, time_act: Tensor, dropout_key=None) -> Tensor:
        if self.channels_last:
            h = self.block1(x, None, None, dropout_key, self.mlp(time_act))
            return self.block2(h, None, None, None, None, self.res_conv(x) if self.widens else x)
        scale, shift = self.halves(self.mlp(time_act).reshape(-1, 2 * self.dim_out, 1, 1))
        h = self.block2(self.block1(x, scale, shift, dropout_key))
        return h + (self.res_conv(x) if self.widens else x)


class UnshuffleDownsample(nn.Cell):
    """(B, C, H, W) -> (B, dim_out, H/2, W/2): 2x2 pixels become channels, then a 1x1 convolution."""

    def __init__(self, dim: int, dim_out: int, rng: np.random.Generator):
        super().__init__()
        self.conv = Conv2d(dim * 4, dim_out, 1, rng=rng)
        self.channels_last = False

    def prepare_channels_last(self) -> None:
        """Called by `layers.use_channels_last`."""
        self.kernel = conv_kernels.conv(2, 2, True)

    def construct(self, x: Tensor) -> Tensor:
        if self.channels_last:  # the four channels of a square are a 2x2 filter's, so nothing has to be moved
            weight = self.conv.weight
            return self.kernel(x, weight.reshape(weight.shape[0], -1, 2, 2), self.conv.bias)
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 5, 2, 4)
        return self.conv(x.reshape(b, c * 4, h // 2, w // 2))


class Upsample(nn.Cell):
    """(B, C, H, W) -> (B, dim_out, 2H, 2W): nearest neighbour, then a 3x3 convolution."""

    def __init__(self, dim: int, dim_out: int, rng: np.random.Generator):
        super().__init__()
        self.conv = Conv2d(dim, dim_out, 3, padding=1, rng=rng)
        self.channels_last = False

    def prepare_channels_last(self) -> None:
        """Called by `layers.use_channels_last`."""
        self.kernel = kernels.upsample()

    def construct(self, x: Tensor) -> Tensor:
        if self.channels_last:
            return self.conv(self.kernel(x))
        b, c, h, w = x.shape
        x = ops.broadcast_to(x.reshape(b, c, h, 1, w, 1), (b, c, h, 2, w, 2))
        return self.conv(x.reshape(b, c, h * 2, w * 2))


def downsample(kind: str, dim: int, dim_out: int, rng: np.random.Generator) -> nn.Cell:
    """The halving of resolution that ``Unet(downsample=kind)`` asks for."""
    if kind == "unshuffle":
        return UnshuffleDownsample(dim, dim_out, rng)
    return Conv2d(dim, dim_out, 4, stride=2, padding=1, rng=rng)
