"""The U-Net's blocks but attention. Layouts are told apart by ``norm``:

    "rms"     today's: convolution -> RMSNorm
    "group"   2022's:  weight-standardised convolution -> GroupNorm(8)
    "group-1.7.0", "group-1.7.1", "group-1.7.2", "group-1.7.4", "group-1.8.0", "group-1.9.0": of releases between

Names of sub-modules are those of the PyTorch library, because they are the keys of published checkpoints.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 8


class Layout(NamedTuple):
    """What tells the layouts apart.

    ``standardise``: how the blocks' filters are ("add" eps to the variance, take eps as the "least", or not at all).
    ``mean``: attention's norms take the mean off. ``memory``: attention has learned keys and values. ``divide``: linear
    attention divides v by the number of positions. ``wrapped``: attention stands in Residual(PreNorm(...)).
    """

    group: bool = True
    standardise: str = ""
    mean: bool = False
    memory: bool = False
    divide: bool = False
    wrapped: bool = False


LAYOUTS = {
    "rms": Layout(group=False, memory=True),
    "group": Layout(standardise="add", mean=True, divide=True, wrapped=True),
    "group-1.7.0": Layout(standardise="add", divide=True, wrapped=True),
    "group-1.7.1": Layout(standardise="least", divide=True, wrapped=True),
    "group-1.7.2": Layout(divide=True, wrapped=True),
    "group-1.7.4": Layout(wrapped=True),
    "group-1.8.0": Layout(),
    "group-1.9.0": Layout(memory=True),
}


def variance_eps(x: Tensor) -> float:
    """What is added to a variance before its root: half precision cannot hold 1e-5 beside 1."""
    return 1e-3 if x.dtype in (torch.float16, torch.bfloat16) else 1e-5


class Dropout(nn.Module):
    """x * mask / (1 - p) (Srivastava et al. 2014), the 0/1 mask given from outside; the identity while it is None."""

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p = p
        self.mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x and the mask have one shape."""
        return x if self.mask is None else x * self.mask / (1 - self.p)


class RMSNorm(nn.Module):
    """x / ||x|| * sqrt(C) * g over channels (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, eq. 4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = dim**0.5
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp(min=1e-12)
        return x / norm * self.scale * self.g


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) * g over channels (Ba et al. 2016, https://arxiv.org/abs/1607.06450), no bias."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        mean = x.mean(dim=1, keepdim=True)
        variance = x.var(dim=1, unbiased=False, keepdim=True)
        return (x - mean) / torch.sqrt(variance + variance_eps(x)) * self.g


class WeightStandardizedConv2d(nn.Conv2d):
    """A convolution whose every filter has mean 0 and variance 1 (Qiao et al. 2019, https://arxiv.org/abs/1903.10520).

    With ``least`` eps is the least variance; else it is added to the variance.
    """

    least = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        over = (1, 2, 3)
        mean = self.weight.mean(dim=over, keepdim=True)
        variance = self.weight.var(dim=over, unbiased=False, keepdim=True)
        least = variance.clamp(min=variance_eps(x))
        weight = (self.weight - mean) / (torch.sqrt(least) if self.least else torch.sqrt(variance + variance_eps(x)))
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class SinusoidalPosEmb(nn.Module):
    """[sin(t w_i), cos(t w_i)], i < dim/2, w_i = theta^(-i / (dim/2 - 1)).

    Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762), section 3.5; there the exponent divides by dim/2.
    """

    def __init__(self, dim: int, theta: float = 10000) -> None:
        super().__init__()
        if dim % 2 or dim < 4:
            raise ValueError(f"dim is {dim}, expected an even number from 4 on")
        self.dim = dim
        self.theta = theta

    def forward(self, time: Tensor) -> Tensor:
        """(B,) -> (B, dim), in the precision of ``time`` (of PyTorch's default if that is an integer)."""
        time = time if time.is_floating_point() else time.to(torch.get_default_dtype())
        half = self.dim // 2
        i = torch.arange(half, dtype=time.dtype, device=time.device)
        angle = time[:, None] * torch.exp(-math.log(self.theta) / (half - 1) * i)
        return torch.cat((angle.sin(), angle.cos()), dim=1)


class FourierPosEmb(nn.Module):
    """[t, sin(2 pi w t), cos(2 pi w t)], w learned or random (Tancik et al. 2020, https://arxiv.org/abs/2006.10739)."""

    def __init__(self, dim: int, is_random: bool = False) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim is {dim}, expected an even number")
        self.weights = nn.Parameter(torch.randn(dim // 2), requires_grad=not is_random)

    def forward(self, time: Tensor) -> Tensor:
        """(B,) -> (B, dim + 1)."""
        time = time.to(self.weights.dtype)[:, None]
        angle = 2 * math.pi * time * self.weights
        return torch.cat((time, angle.sin(), angle.cos()), dim=1)


def time_mlp(embedding: nn.Module, embedding_dim: int, time_dim: int) -> nn.Sequential:
    """t (B,) -> the time vector (B, time_dim) that every ResnetBlock reads; GELU is the exact one."""
    return nn.Sequential(embedding, nn.Linear(embedding_dim, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim))


class Block(nn.Module):
    """3x3 convolution -> norm -> x (scale + 1) + shift -> SiLU -> dropout."""

    def __init__(self, dim: int, dim_out: int, norm: str = "rms", dropout: float = 0.0) -> None:
        super().__init__()
        layout = LAYOUTS[norm]
        convolution = WeightStandardizedConv2d if layout.standardise else nn.Conv2d
        self.proj = convolution(dim, dim_out, 3, padding=1)
        self.proj.least = layout.standardise == "least"
        self.norm = nn.GroupNorm(GROUPS, dim_out) if layout.group else RMSNorm(dim_out)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, dim, H, W) -> (B, dim_out, H, W); scale and shift are (B, dim_out, 1, 1)."""
        x = self.norm(self.proj(x))
        if scale_shift is not None:
            scale, shift = scale_shift
            x = x * (scale + 1) + shift  # Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672, appendix A
        return self.dropout(F.silu(x))


class ResnetBlock(nn.Module):
    """Two Blocks, the first of them moved by time, around a residual that is 1x1-convolved where widths differ."""

    def __init__(self, dim: int, dim_out: int, time_dim: int, norm: str = "rms", dropout: float = 0.0) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time_dim, 2 * dim_out))
        self.block1 = Block(dim, dim_out, norm, dropout)
        self.block2 = Block(dim_out, dim_out, norm)
        self.res_conv = nn.Conv2d(dim, dim_out, 1) if dim != dim_out else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, dim, H, W) and the time vector t (B, time_dim) -> (B, dim_out, H, W)."""
        scale, shift = self.mlp(t)[:, :, None, None].chunk(2, dim=1)
        return self.block2(self.block1(x, (scale, shift))) + self.res_conv(x)


def downsample(kind: str, dim: int, dim_out: int) -> nn.Module:
    """(B, dim, H, W) -> (B, dim_out, H/2, W/2), in one of two ways.

    "unshuffle": each 2x2 square becomes four channels (Shi et al. 2016, https://arxiv.org/abs/1609.05158, backwards),
    then a 1x1 convolution. "conv": a 4x4 convolution of stride 2.
    """
    if kind == "conv":
        return nn.Conv2d(dim, dim_out, 4, stride=2, padding=1)
    if kind == "unshuffle":
        return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * dim, dim_out, 1))
    raise ValueError(f"downsample is {kind!r}, expected one of: unshuffle, conv")


class Upsample(nn.Sequential):
    """(B, dim, H, W) -> (B, dim_out, 2H, 2W): each pixel doubled, then a 3x3 convolution."""

    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(dim, dim_out, 3, padding=1))


def initialise(module: nn.Module, rng: np.random.Generator) -> None:
    """PyTorch's initial distributions, from ``rng``: U(+-1/sqrt(fan_in)) for layers, N(0, 1) for mem_kv and w."""
    for child in module.modules():
        for name, parameter in child.named_parameters(recurse=False):
            if isinstance(child, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                bound = child.weight[0].numel() ** -0.5
                value = rng.uniform(-bound, bound, parameter.shape)
            elif name in ("mem_kv", "weights"):
                value = rng.standard_normal(parameter.shape)
            else:
                continue  # gains are 1 and the biases of norms 0 already
            parameter.data = torch.tensor(value, dtype=parameter.dtype, device=parameter.device)
