"""The U-Net as somebody would port it who knows PyTorch's source and MindSpore's manual, and has measured nothing.

Slicing for chunk, interpolate for upsampling, L2Normalize, nn.GroupNorm and var for norms, softmax over the axis that
the source names, stock layers throughout. Members are named as in `ms_ddpm.models`, so that the same weights load.
"""

from __future__ import annotations

import math
from itertools import pairwise

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

HEADS, DIM_HEAD, MEMORY = 4, 32, 4


def conv(dim: int, dim_out: int, kernel: int, padding: int = 0, stride: int = 1, bias: bool = True) -> nn.Cell:
    """nn.Conv2d with PyTorch's padding."""
    return nn.Conv2d(dim, dim_out, kernel, stride=stride, pad_mode="pad", padding=padding, has_bias=bias)


class WeightStandardizedConv2d(nn.Conv2d):
    """F.conv2d of (weight - mean) / sqrt(var + eps)."""

    def __init__(self, dim: int, dim_out: int):
        super().__init__(dim, dim_out, 3, pad_mode="pad", padding=1, has_bias=True)

    def construct(self, x):
        mean = self.weight.mean((1, 2, 3), keep_dims=True)
        var = ops.var(self.weight, (1, 2, 3), ddof=0, keepdims=True)
        weight = (self.weight - mean) / ops.sqrt(var + 1e-5)
        return ops.conv2d(x, weight, self.bias, 1, "pad", 1)


class RMSNorm(nn.Cell):
    """normalize(x, dim=1) * g * sqrt(C)."""

    def __init__(self, dim: int):
        super().__init__()
        self.scale = dim**0.5
        self.g = Parameter(Tensor(np.ones((1, dim, 1, 1), np.float32)), name="g")
        self.normalize = ops.L2Normalize(axis=1, epsilon=1e-12)

    def construct(self, x):
        return self.normalize(x) * self.g * self.scale


class LayerNorm(nn.Cell):
    """(x - mean) / sqrt(var + eps) * g over channels."""

    def __init__(self, dim: int):
        super().__init__()
        self.g = Parameter(Tensor(np.ones((1, dim, 1, 1), np.float32)), name="g")

    def construct(self, x):
        var = ops.var(x, 1, ddof=0, keepdims=True)
        return (x - x.mean(1, keep_dims=True)) / ops.sqrt(var + 1e-5) * self.g


class Block(nn.Cell):
    """proj, norm, scale and shift, SiLU."""

    def __init__(self, dim: int, dim_out: int, norm: str):
        super().__init__()
        rms = norm == "rms"
        self.proj = conv(dim, dim_out, 3, 1) if rms else WeightStandardizedConv2d(dim, dim_out)
        self.norm = RMSNorm(dim_out) if rms else nn.GroupNorm(8, dim_out)
        self.act = nn.SiLU()

    def construct(self, x, scale=None, shift=None):
        x = self.norm(self.proj(x))
        if scale is not None:
            x = x * (scale + 1) + shift
        return self.act(x)


class ResnetBlock(nn.Cell):
    """Two blocks and a residual."""

    def __init__(self, dim: int, dim_out: int, time_dim: int, norm: str):
        super().__init__()
        self.act = nn.SiLU()
        self.mlp = nn.Dense(time_dim, dim_out * 2)
        self.block1 = Block(dim, dim_out, norm)
        self.block2 = Block(dim_out, dim_out, norm)
        self.res_conv = conv(dim, dim_out, 1) if dim != dim_out else nn.Identity()
        self.dim_out = dim_out

    def construct(self, x, time):
        time = self.mlp(self.act(time))[:, :, None, None]
        scale, shift = time[:, : self.dim_out], time[:, self.dim_out :]
        return self.block2(self.block1(x, scale, shift)) + self.res_conv(x)


class _Attention(nn.Cell):
    def __init__(self, dim: int, norm: str, memory: tuple[int, ...]):
        super().__init__()
        self.norm_kind = norm
        self.hidden = HEADS * DIM_HEAD
        self.norm = RMSNorm(dim) if norm == "rms" else LayerNorm(dim)
        if norm == "rms":
            self.mem_kv = Parameter(Tensor(np.zeros(memory, np.float32)), name="mem_kv")
        self.to_qkv = conv(dim, self.hidden * 3, 1, bias=False)
        self.to_out = conv(self.hidden, dim, 1)
        self.scale = DIM_HEAD**-0.5

    def qkv(self, x):
        b, _, h, w = x.shape
        qkv = self.to_qkv(self.norm(x))
        q, k, v = qkv[:, : self.hidden], qkv[:, self.hidden : 2 * self.hidden], qkv[:, 2 * self.hidden :]
        shape = (b, HEADS, DIM_HEAD, h * w)
        return q.reshape(shape), k.reshape(shape), v.reshape(shape)

    def memory(self, i, b):
        return ops.tile(self.mem_kv[i].expand_dims(0), (b, 1, 1, 1))


class LinearAttention(_Attention):
    """softmax(q) (softmax(k)^T v)."""

    def __init__(self, dim: int, norm: str):
        super().__init__(dim, norm, (2, HEADS, DIM_HEAD, MEMORY))
        self.out_norm = RMSNorm(dim) if norm == "rms" else LayerNorm(dim)

    def construct(self, x):
        b, _, h, w = x.shape
        q, k, v = self.qkv(x)
        if self.norm_kind == "rms":
            k = ops.concat((self.memory(0, b), k), -1)
            v = ops.concat((self.memory(1, b), v), -1)
        else:
            v = v / (h * w)
        q = ops.softmax(q, -2) * self.scale
        k = ops.softmax(k, -1)
        context = ops.matmul(k, v.swapaxes(-2, -1))
        out = ops.matmul(context.swapaxes(-2, -1), q)
        return self.out_norm(self.to_out(out.reshape(b, self.hidden, h, w)))


class Attention(_Attention):
    """softmax(q k^T) v."""

    def __init__(self, dim: int, norm: str):
        super().__init__(dim, norm, (2, HEADS, MEMORY, DIM_HEAD))

    def construct(self, x):
        b, _, h, w = x.shape
        q, k, v = self.qkv(x)
        q, k, v = q.swapaxes(-2, -1), k.swapaxes(-2, -1), v.swapaxes(-2, -1)
        if self.norm_kind == "rms":
            k = ops.concat((self.memory(0, b), k), -2)
            v = ops.concat((self.memory(1, b), v), -2)
        attention = ops.softmax(ops.matmul(q * self.scale, k.swapaxes(-2, -1)), -1)
        out = ops.matmul(attention, v).swapaxes(-2, -1)
        return self.to_out(out.reshape(b, self.hidden, h, w))


class Unshuffle(nn.Cell):
    """pixel_unshuffle, then a 1x1 convolution."""

    def __init__(self, dim: int, dim_out: int):
        super().__init__()
        self.conv = conv(dim * 4, dim_out, 1)

    def construct(self, x):
        return self.conv(ops.pixel_unshuffle(x, 2))


class Upsample(nn.Cell):
    """interpolate, then a 3x3 convolution."""

    def __init__(self, dim: int, dim_out: int):
        super().__init__()
        self.conv = conv(dim, dim_out, 3, 1)

    def construct(self, x):
        h, w = x.shape[2:]
        return self.conv(ops.interpolate(x, size=(h * 2, w * 2), mode="nearest"))


class Stage(nn.Cell):
    """Two residual blocks, attention, change of resolution."""

    def __init__(self, block1: nn.Cell, block2: nn.Cell, attn: nn.Cell, resample: nn.Cell):
        super().__init__()
        self.block1 = block1
        self.block2 = block2
        self.attn = attn
        self.resample = resample


class TimeMLP(nn.Cell):
    """Sinusoids, dense, GELU, dense."""

    def __init__(self, dim: int):
        super().__init__()
        half = dim // 2
        self.frequencies = Tensor(np.exp(-math.log(10000) / (half - 1) * np.arange(half)).astype(np.float32))
        self.linear1 = nn.Dense(dim, dim * 4)
        self.linear2 = nn.Dense(dim * 4, dim * 4)
        self.act = nn.GELU(approximate=False)

    def construct(self, time):
        phase = time.astype(ms.float32)[:, None] * self.frequencies[None, :]
        return self.linear2(self.act(self.linear1(ops.concat((ops.sin(phase), ops.cos(phase)), -1))))


class Unet(nn.Cell):
    """``unet(x, t)`` in either layout; the arguments are those of `ms_ddpm.Unet`."""

    def __init__(self, dim: int, dim_mults: tuple[int, ...], channels: int, norm: str, downsample: str):
        super().__init__()
        self.channels = channels
        self.out_dim = channels
        self.self_condition = False
        self.init_conv = conv(channels, dim, 7, 3)
        self.time_mlp = TimeMLP(dim)
        widths = [dim, *(dim * mult for mult in dim_mults)]
        last = len(dim_mults) - 1

        def block(width: int, width_out: int) -> ResnetBlock:
            return ResnetBlock(width, width_out, dim * 4, norm)

        def attention(width: int, i: int) -> nn.Cell:
            return (Attention if i == last and norm == "rms" else LinearAttention)(width, norm)

        def smaller(width: int, width_out: int) -> nn.Cell:
            return Unshuffle(width, width_out) if downsample == "unshuffle" else conv(width, width_out, 4, 1, stride=2)

        downs, ups = [], []
        for i, (width, wider) in enumerate(pairwise(widths)):
            resample = conv(width, wider, 3, 1) if i == last else smaller(width, wider)
            downs.append(Stage(block(width, width), block(width, width), attention(width, i), resample))
            wide = width + wider
            resample = conv(wider, width, 3, 1) if i == 0 else Upsample(wider, width)
            ups.insert(0, Stage(block(wide, wider), block(wide, wider), attention(wider, i), resample))
        self.downs = nn.CellList(downs)
        self.ups = nn.CellList(ups)
        self.mid_block1 = block(widths[-1], widths[-1])
        self.mid_block2 = block(widths[-1], widths[-1])
        self.mid_attn = Attention(widths[-1], norm)
        self.final_res_block = block(dim * 2, dim)
        self.final_conv = conv(dim, channels, 1)

    def construct(self, x, time, x_self_cond=None):
        x = self.init_conv(x)
        first = x
        t = self.time_mlp(time)
        skips = ()  # the graph parser knows no list.pop
        for stage in self.downs:
            x = stage.block1(x, t)
            skips = skips + (x,)
            x = stage.block2(x, t)
            x = stage.attn(x) + x
            skips = skips + (x,)
            x = stage.resample(x)
        x = self.mid_block1(x, t)
        x = self.mid_attn(x) + x
        x = self.mid_block2(x, t)
        for stage in self.ups:
            x = stage.block1(ops.concat((x, skips[-1]), 1), t)
            x = stage.block2(ops.concat((x, skips[-2]), 1), t)
            skips = skips[:-2]
            x = stage.attn(x) + x
            x = stage.resample(x)
        return self.final_conv(self.final_res_block(ops.concat((x, first), 1), t))
