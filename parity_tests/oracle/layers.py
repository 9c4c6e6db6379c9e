"""The layers of all networks, forward, in float64: what PyTorch in double, the truth of their cases, is held to.

Arrays are (B, C, H, W) and weights are shaped as PyTorch's. Inputs of any float type; results float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from .process import as_float64

Array = np.ndarray
Weights = Mapping[str, ArrayLike]


def part(weights: Weights, prefix: str) -> dict[str, ArrayLike]:
    """The weights called PREFIX.NAME, by NAME."""
    return {name[len(prefix) + 1 :]: value for name, value in weights.items() if name.startswith(f"{prefix}.")}


def _per_channel(gain: ArrayLike) -> Array:
    """(C,) or (1, C, 1, 1) as (C, 1, 1)."""
    return as_float64(gain).reshape(-1, 1, 1)


def rms_norm(x: ArrayLike, g: ArrayLike) -> Array:
    """x / max(||x||_2 over the channels, 1e-12) * sqrt(C) * g (arXiv 1910.07467, without eps)."""
    x = as_float64(x)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x * (math.sqrt(x.shape[1]) / np.maximum(norm, 1e-12)) * _per_channel(g)


def group_norm(x: ArrayLike, groups: int, weight: ArrayLike, bias: ArrayLike, eps: float = 1e-5) -> Array:
    """Wu & He 2018 (arXiv 1803.08494) eq. 1: biased variance over a group's channels and all positions."""
    x = as_float64(x)
    grouped = x.reshape(x.shape[0], groups, -1)
    centred = grouped - grouped.mean(-1, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + eps)
    return scaled.reshape(x.shape) * _per_channel(weight) + _per_channel(bias)


def channel_layer_norm(x: ArrayLike, g: ArrayLike, eps: float = 1e-5) -> Array:
    """Ba et al. 2016 (arXiv 1607.06450) over the channels of each pixel: biased variance, gain only."""
    x = as_float64(x)
    centred = x - x.mean(1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(1, keepdims=True) + eps) * _per_channel(g)


def standardize_weight(weight: ArrayLike, eps: float = 1e-5) -> Array:
    """Qiao et al. 2019 (arXiv 1903.10520): every filter (weight[o]) to mean 0 and biased variance 1."""
    weight = as_float64(weight)
    filters = weight.reshape(len(weight), -1)
    centred = filters - filters.mean(1, keepdims=True)
    return (centred / np.sqrt(np.square(centred).mean(1, keepdims=True) + eps)).reshape(weight.shape)


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x)), written in exp(-|x|), which neither overflows nor cancels."""
    x = as_float64(x)
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1 + e)


def silu(x: ArrayLike) -> Array:
    """x sigmoid(x) (Elfwing et al. 2017, arXiv 1702.03118)."""
    return as_float64(x) * sigmoid(x)


def gelu(x: ArrayLike) -> Array:
    """x Phi(x), exactly: x / 2 erfc(-x / sqrt(2)) (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""
    x = as_float64(x)
    erfc = np.frompyfunc(math.erfc, 1, 1)
    return x / 2 * np.asarray(erfc(-x / math.sqrt(2)), np.float64)


def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """exp(x) / sum exp(x) along ``axis``."""
    x = as_float64(x)
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def linear(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Array:
    """x (..., in) times weight (out, in) transposed, plus bias (out,)."""
    y = np.einsum("...i,oi->...o", as_float64(x), as_float64(weight))
    return y if bias is None else y + as_float64(bias)


def conv2d(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, stride: int = 1, padding: int = 0) -> Array:
    """Cross-correlation of x (B, I, H, W) with weight (O, I, kh, kw), zeros around: a sum over the kernel's taps."""
    x, weight = as_float64(x), as_float64(weight)
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kh, kw = weight.shape[2:]
    height, width = ((side - k) // stride + 1 for side, k in zip(x.shape[2:], (kh, kw), strict=True))
    y = np.zeros((len(x), len(weight), height, width))
    for i in range(kh):
        for j in range(kw):
            seen = x[:, :, i : i + stride * height : stride, j : j + stride * width : stride]
            y += np.einsum("bihw,oi->bohw", seen, weight[:, :, i, j])
    return y if bias is None else y + _per_channel(bias)


def conv_transpose2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int = 1,
    padding: int = 0,
    output_padding: int | tuple[int, int] = 0,
) -> Array:
    """Every pixel of x (B, I, H, W) puts a copy of its filter weight[i] (I, O, k, k) into the output, ``stride`` apart.

    Dumoulin & Visin 2016 (arXiv 1603.07285), chapter 4. ``padding`` is cut off all around,
    ``output_padding`` less of it below and to the right.
    """
    x, weight = as_float64(x), as_float64(weight)
    (b, _, h, w), (_, o, k, _) = x.shape, weight.shape
    more = np.broadcast_to(output_padding, 2)
    y = np.zeros((b, o, (h - 1) * stride + k + more[0], (w - 1) * stride + k + more[1]))
    for i in range(h):
        for j in range(w):
            y[:, :, i * stride : i * stride + k, j * stride : j * stride + k] += np.einsum(
                "bi,ioyx->boyx", x[:, :, i, j], weight
            )
    y = y[:, :, padding : y.shape[2] - padding, padding : y.shape[3] - padding]
    return y if bias is None else y + _per_channel(bias)


def sinusoidal_embedding(t: ArrayLike, dim: int, theta: float = 10000) -> Array:
    """(B, dim): sin(t w), then cos(t w), w_k = theta^(-k / (dim/2 - 1)); after Vaswani et al. 2017, sec. 3.5."""
    half = dim // 2
    angle = np.outer(as_float64(t), theta ** (-np.arange(half) / (half - 1)))
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def fourier_embedding(t: ArrayLike, weights: ArrayLike) -> Array:
    """(B, 1 + 2 n) from n frequencies: t, sin(2 pi t w), cos(2 pi t w); Tancik et al. 2020 (arXiv 2006.10739) eq. 5."""
    t = as_float64(t)
    angle = 2 * np.pi * np.outer(t, as_float64(weights))
    return np.concatenate([t[:, None], np.sin(angle), np.cos(angle)], axis=1)


def pixel_unshuffle(x: ArrayLike, r: int = 2) -> Array:
    """(B, C, H, W) -> (B, C r^2, H/r, W/r): channel c r^2 + r i + j holds the pixels (i, j) of c's r x r blocks."""
    x = as_float64(x)
    blocks = [x[:, :, i::r, j::r] for i in range(r) for j in range(r)]
    return np.stack(blocks, axis=2).reshape(len(x), -1, x.shape[2] // r, x.shape[3] // r)


def nearest_upsample(x: ArrayLike, factor: int = 2) -> Array:
    """Every pixel becomes a factor x factor block."""
    return np.kron(as_float64(x), np.ones((factor, factor)))


def linear_attention(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, mem_kv: ArrayLike | None = None, divide_values: bool = False
) -> Array:
    """Shen et al. 2018 (arXiv 1812.01243) eq. 5-6: (B, heads, d, n) each in and out.

    softmax of q over its features and of k over positions, q times d^-1/2. ``mem_kv`` (2, heads, d, m): learned keys
    and values before those of the image (the 2.3 layout). ``divide_values``: v / n (the 2022 layout). The paper forms
    v k^T first; here the n x n weights k^T q, which is the same product.
    """
    q, k, v = as_float64(q), as_float64(k), as_float64(v)
    d, n = q.shape[-2:]
    if divide_values:
        v = v / n
    if mem_kv is not None:
        memory = np.broadcast_to(as_float64(mem_kv)[:, None], (2, len(q), *np.shape(mem_kv)[1:]))
        k, v = np.concatenate([memory[0], k], -1), np.concatenate([memory[1], v], -1)
    weights = np.einsum("bhdm,bhdn->bhmn", softmax(k, -1), softmax(q, -2) / math.sqrt(d))
    return np.einsum("bhem,bhmn->bhen", v, weights)


def full_attention(q: ArrayLike, k: ArrayLike, v: ArrayLike, mem_kv: ArrayLike | None = None) -> Array:
    """softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017, eq. 1): (B, heads, n, d) each in and out.

    ``mem_kv`` (2, heads, m, d): learned keys and values before those of the image (the 2.3 layout).
    """
    q, k, v = as_float64(q), as_float64(k), as_float64(v)
    if mem_kv is not None:
        memory = np.broadcast_to(as_float64(mem_kv)[:, None], (2, len(q), *np.shape(mem_kv)[1:]))
        k, v = np.concatenate([memory[0], k], -2), np.concatenate([memory[1], v], -2)
    logits = np.einsum("bhnd,bhmd->bhnm", q, k) / math.sqrt(q.shape[-1])
    return np.einsum("bhnm,bhmd->bhnd", softmax(logits), v)


NORMS = {"rms": rms_norm, "group": channel_layer_norm}  # of attention, by the layout's ``norm``


def _heads(x: ArrayLike, weights: Weights, heads: int, norm: str) -> Array:
    """q, k, v of the normalised input: (3, B, heads, d, H W)."""
    x = as_float64(x)
    qkv = conv2d(NORMS[norm](x, weights["norm.g"]), weights["to_qkv.weight"])
    return np.moveaxis(qkv.reshape(len(x), 3, heads, -1, x.shape[2] * x.shape[3]), 1, 0)


def linear_attention_layer(x: ArrayLike, weights: Weights, heads: int = 4, norm: str = "rms") -> Array:
    """From the input's norm to the output's: (B, C, H, W). The residual is not in it.

    ``weights``: norm.g, to_qkv.weight, to_out.0.weight, to_out.0.bias, to_out.1.g and, for the 2.3 layout
    (``norm="rms"``), mem_kv. ``norm="group"`` is the 2022 layout: v divided by H W, channel LayerNorm on both sides.
    """
    out = linear_attention(*_heads(x, weights, heads, norm), weights.get("mem_kv"), divide_values=norm == "group")
    out = conv2d(out.reshape(len(out), -1, *np.shape(x)[2:]), weights["to_out.0.weight"], weights["to_out.0.bias"])
    return NORMS[norm](out, weights["to_out.1.g"])


def full_attention_layer(x: ArrayLike, weights: Weights, heads: int = 4, norm: str = "rms") -> Array:
    """From the input's norm to the output's convolution: (B, C, H, W). The residual is not in it.

    ``weights``: norm.g, to_qkv.weight, to_out.weight, to_out.bias and, for the 2.3 layout, mem_kv.
    """
    q, k, v = np.swapaxes(_heads(x, weights, heads, norm), -1, -2)
    out = np.swapaxes(full_attention(q, k, v, weights.get("mem_kv")), -1, -2)
    out = out.reshape(len(out), -1, *np.shape(x)[2:])
    return conv2d(out, weights["to_out.weight"], weights["to_out.bias"])


def max_pool(x: ArrayLike, kernel: int, ceil: bool) -> Array:
    """The largest of every kernel x kernel square, stride 2; with ``ceil`` a square may stand over the edge."""
    x = as_float64(x)

    def starts(side: int) -> range:
        count = math.ceil((side - kernel) / 2) if ceil else (side - kernel) // 2
        return range(0, 2 * count + 1, 2)

    tops, lefts = (starts(side) for side in x.shape[2:])
    rows = [[x[:, :, i : i + kernel, j : j + kernel].max((2, 3)) for j in lefts] for i in tops]
    return np.moveaxis(np.array(rows), (0, 1), (2, 3))
