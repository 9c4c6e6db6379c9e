"""The layers of Stable Diffusion's networks, forward, in float64, a second truth; and guidance.

Images are (B, C, H, W), sequences (B, T, width); weights have the names of published files and PyTorch's shapes. Some
are computed another way than the frameworks do: attention query by query, images enlarged by their pixels' numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from parity_tests.oracle.layers import Array, Weights, conv2d, gelu, group_norm, linear, part, silu, softmax
from parity_tests.oracle.process import as_float64

TRANSFORMER_EPS = 1e-6  # of the image's normalisation in front of a transformer, whatever the others have


def timesteps(t: ArrayLike, dim: int, cos_first: bool, shift: float) -> Array:
    """(B, dim): cos and sin of t f_i, f_i = 10000^(-i / (dim / 2 - shift)), a table of float32 numbers."""
    half = dim // 2
    frequencies = np.float32(1 / np.power(10000.0, np.arange(half) / (half - shift)))
    angle = np.outer(as_float64(t), as_float64(frequencies))
    return np.concatenate([np.cos(angle), np.sin(angle)][:: 1 if cos_first else -1], axis=1)


def timestep_embedding(x: ArrayLike, weights: Weights) -> Array:
    """A dense layer, a SiLU, a dense layer."""
    return linear(silu(linear(x, **part(weights, "linear_1"))), **part(weights, "linear_2"))


def resnet_block(x: ArrayLike, weights: Weights, groups: int, eps: float, emb: ArrayLike | None = None) -> Array:
    """Ho et al. 2020 (arXiv 2006.11239), appendix B: norm, SiLU, convolution; the time; the same again; the sum."""
    h = silu(group_norm(x, groups, **part(weights, "norm1"), eps=eps))
    h = conv2d(h, **part(weights, "conv1"), padding=1)
    if emb is not None:
        h = h + linear(emb, **part(weights, "time_emb_proj"))[:, :, None, None]
    h = silu(group_norm(h, groups, **part(weights, "norm2"), eps=eps))
    shortcut = part(weights, "conv_shortcut")
    return conv2d(h, **part(weights, "conv2"), padding=1) + (conv2d(x, **shortcut) if shortcut else as_float64(x))


def downsample(x: ArrayLike, weights: Weights, padding: int) -> Array:
    """Every second pixel of a 3x3 convolution; without ``padding`` one row and one column of zeros at the ends."""
    x = as_float64(x)
    if not padding:
        b, c, h, w = x.shape
        wider = np.zeros((b, c, h + 1, w + 1))
        wider[:, :, :h, :w] = x
        x = wider
    return conv2d(x, **part(weights, "conv"), padding=padding)[:, :, ::2, ::2]


def upsample(x: ArrayLike, weights: Weights, size: Sequence[int] | None) -> Array:
    """A 3x3 convolution of the image in twice its size, or in ``size``, each pixel the nearest of x."""
    x = as_float64(x)
    height, width = size or (2 * x.shape[2], 2 * x.shape[3])
    rows, columns = np.arange(height) * x.shape[2] // height, np.arange(width) * x.shape[3] // width
    return conv2d(x[:, :, rows][:, :, :, columns], **part(weights, "conv"), padding=1)


def attention(x: ArrayLike, weights: Weights, heads: int, context: ArrayLike | None = None) -> Array:
    """Vaswani et al. 2017 (arXiv 1706.03762) eq. 1, head by head and query by query, to x itself or to a context."""
    source = x if context is None else context
    q, k, v = (
        np.split(linear(given, **part(weights, f"to_{name}")), heads, axis=-1)
        for name, given in zip("qkv", (x, source, source), strict=True)
    )
    out = np.zeros(q[0].shape[:2] + (sum(part.shape[-1] for part in q),))
    for of_q, of_k, of_v, of_out in zip(q, k, v, np.split(out, heads, axis=-1), strict=True):
        for t in range(out.shape[1]):
            odds = softmax(np.einsum("bd,bsd->bs", of_q[:, t], of_k) / np.sqrt(of_q.shape[-1]))
            of_out[:, t] = np.einsum("bs,bsd->bd", odds, of_v)
    return linear(out, **part(weights, "to_out.0"))


def pixels(x: ArrayLike) -> Array:
    """(B, C, H, W) -> (B, H W, C), row by row."""
    x = as_float64(x)
    return np.stack([x[:, :, i, j] for i in range(x.shape[2]) for j in range(x.shape[3])], axis=1)


def image_of(tokens: Array, like: ArrayLike) -> Array:
    """The inverse of `pixels`, of the shape of ``like``."""
    return np.moveaxis(tokens, 2, 1).reshape(np.shape(like))


def image_attention(x: ArrayLike, weights: Weights, heads: int, groups: int, eps: float) -> Array:
    """Of the pixels of the normalised image to each other, added to it."""
    tokens = pixels(group_norm(x, groups, **part(weights, "group_norm"), eps=eps))
    return as_float64(x) + image_of(attention(tokens, weights, heads), x)


def geglu(x: ArrayLike, weights: Weights) -> Array:
    """Shazeer 2020 (arXiv 2002.05202) eq. 6: the first half of a dense layer times the GELU of the second."""
    both = linear(x, **part(weights, "proj"))
    half = both.shape[-1] // 2
    return both[..., :half] * gelu(both[..., half:])


def feed_forward(x: ArrayLike, weights: Weights) -> Array:
    """A GEGLU and a dense layer."""
    return linear(geglu(x, part(weights, "net.0")), **part(weights, "net.2"))


def layer_norm(x: ArrayLike, weight: ArrayLike, bias: ArrayLike) -> Array:
    """Ba et al. 2016 (arXiv 1607.06450) over the last axis: biased variance, eps 1e-5."""
    x = as_float64(x)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def transformer_block(x: Array, weights: Weights, heads: int, context: ArrayLike) -> Array:
    """Attention to itself, to the context, and a feed-forward, each of what is normalised and added to it."""
    x = x + attention(layer_norm(x, **part(weights, "norm1")), part(weights, "attn1"), heads)
    x = x + attention(layer_norm(x, **part(weights, "norm2")), part(weights, "attn2"), heads, context)
    return x + feed_forward(layer_norm(x, **part(weights, "norm3")), part(weights, "ff"))


def transformer(x: ArrayLike, weights: Weights, heads: int, layers: int, groups: int, context: ArrayLike) -> Array:
    """Rombach et al. 2022 (arXiv 2112.10752), appendix E.2.1. A 1x1 convolution is a dense layer of each pixel."""

    def projected(tokens: Array, name: str) -> Array:
        weight = as_float64(weights[f"{name}.weight"])
        return linear(tokens, weight.reshape(weight.shape[:2]), weights[f"{name}.bias"])

    tokens = projected(pixels(group_norm(x, groups, **part(weights, "norm"), eps=TRANSFORMER_EPS)), "proj_in")
    for i in range(layers):
        tokens = transformer_block(tokens, part(weights, f"transformer_blocks.{i}"), heads, context)
    return as_float64(x) + image_of(projected(tokens, "proj_out"), x)


def guided(plain: ArrayLike, prompted: ArrayLike, scale: float, share: float) -> tuple[Array, Array]:
    """(1 + w) eps(prompt) - w eps(negative), w = scale - 1; and the magnitude of the larger term.

    Ho & Salimans, https://arxiv.org/abs/2207.12598, eq. 6. With a ``share`` times
    1 + share (sigma_prompt / sigma_guided - 1), image by image: Lin et al., https://arxiv.org/abs/2305.08891, eq. 16.
    """
    w, plain, prompted = scale - 1, as_float64(plain), as_float64(prompted)
    found = (1 + w) * prompted - w * plain
    deviation = [np.sqrt(np.var(x.reshape(len(x), -1), axis=1)).reshape(-1, 1, 1, 1) for x in (prompted, found)]
    factor = 1 + share * (deviation[0] / deviation[1] - 1)
    return factor * found, factor * np.maximum(abs((1 + w) * prompted), abs(w * plain))
