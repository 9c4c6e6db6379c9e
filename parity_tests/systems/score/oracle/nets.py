"""The layers and networks that estimate a score, forward, in float64: a second truth, as `layers`.

Arrays are (B, C, H, W), sequences (B, length, width); weights have PyTorch's names and shapes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from parity_tests.oracle.layers import (
    Array,
    Weights,
    conv2d,
    conv_transpose2d,
    full_attention,
    gelu,
    group_norm,
    linear,
    part,
    silu,
)
from parity_tests.oracle.process import as_float64


def gaussian_fourier(t: ArrayLike, frequencies: ArrayLike) -> Array:
    """(B, 2 n) from n frequencies: sin(2 pi t w), cos(2 pi t w); Tancik et al. 2020 (arXiv 2006.10739) eq. 5."""
    turn = np.exp(2j * np.pi * np.outer(as_float64(t), as_float64(frequencies)))
    return np.concatenate([turn.imag, turn.real], axis=1)


def layer_norm(x: ArrayLike, weight: ArrayLike, bias: ArrayLike, eps: float = 1e-5) -> Array:
    """Ba et al. 2016 (arXiv 1607.06450) over the last axis: biased variance."""
    x = as_float64(x)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def cross_attention(x: ArrayLike, weights: Weights, context: ArrayLike | None = None, heads: int = 1) -> Array:
    """Vaswani et al. 2017 (arXiv 1706.03762) eq. 1, head by head; no output projection."""
    source = x if context is None else context

    def split(name: str, of: ArrayLike) -> Array:
        return np.stack(np.split(linear(of, weights[f"{name}.weight"]), heads, axis=-1), axis=1)

    out = full_attention(split("query", x), split("key", source), split("value", source))
    return np.concatenate([out[:, i] for i in range(heads)], axis=-1)


def transformer_block(x: ArrayLike, weights: Weights, context: ArrayLike, heads: int = 1) -> Array:
    """Self-attention, cross-attention, MLP: each of a normalised input, added to it."""

    def norm(i: int) -> Array:
        return layer_norm(x, weights[f"norm{i}.weight"], weights[f"norm{i}.bias"])

    x = as_float64(x)
    x = x + cross_attention(norm(1), part(weights, "attn_self"), None, heads)
    x = x + cross_attention(norm(2), part(weights, "attn_cross"), context, heads)
    hidden = gelu(linear(norm(3), weights["ffn.0.weight"], weights["ffn.0.bias"]))
    return x + linear(hidden, weights["ffn.2.weight"], weights["ffn.2.bias"])


def spatial_transformer(x: ArrayLike, weights: Weights, context: ArrayLike, heads: int = 1) -> Array:
    """A `transformer_block` over the pixels of x, row by row, added to x."""
    x = as_float64(x)
    pixels = np.moveaxis(x, 1, -1).reshape(len(x), -1, x.shape[1])
    out = transformer_block(pixels, part(weights, "transformer"), context, heads)
    return x + np.moveaxis(out.reshape(len(x), *x.shape[2:], -1), -1, 1)


def score_net(
    x: ArrayLike,
    t: ArrayLike,
    weights: Weights,
    deviation: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    groups: int = 32,
    heads: int = 1,
    concat: bool = False,
    whole: bool = False,
) -> Array:
    """Any of the three networks; which one, its weights' names tell. ``groups``: of every norm but the first (4).

    Stages down: conv1, conv2, ...; up: the transposed convolutions in falling order, of which the last, tconv1, has no
    norm. Attention follows the stage of its number; on the way up that is attn6, after tconv3. ``whole``: x is framed
    with zeros to sides of 4k + 1, the odd one behind, and the frame cut off the result.
    """
    first = silu(
        linear(
            gaussian_fourier(t, weights["time_embed.0.W"]), weights["time_embed.1.weight"], weights["time_embed.1.bias"]
        )
    )
    context = None if labels is None else as_float64(weights["cond_embed.weight"])[labels][:, None]

    def attend(name: str, h: Array) -> Array:
        of = part(weights, name)
        return spatial_transformer(h, of, context, heads) if of else h

    def stage(h: Array, dense: int, norm: str, of: int) -> Array:
        name = f"dense{dense}.dense"
        shift = linear(first, weights[f"{name}.weight"], weights[f"{name}.bias"])
        h = group_norm(h + shift[:, :, None, None], of, weights[f"{norm}.weight"], weights[f"{norm}.bias"])
        return silu(h)

    depth = max(i for i in (3, 4) if f"conv{i}.weight" in weights)
    h, left = as_float64(x), []
    sides = h.shape[2:]
    frame = [-(-(side - 1) // 4) * 4 + 1 - side if whole else 0 for side in sides]
    h = np.pad(h, [(0, 0), (0, 0), *((more // 2, (more + 1) // 2) for more in frame)])
    for i in range(1, depth + 1):
        h = conv2d(h, weights[f"conv{i}.weight"], stride=1 if i == 1 else 2)
        h = attend(f"attn{i}", stage(h, i, f"gnorm{i}", 4 if i == 1 else groups))
        left.append(h)
    left.pop()
    for i in range(depth, 1, -1):
        skip = left[-1]
        more = [skip.shape[axis] - (2 * h.shape[axis] + 1) for axis in (2, 3)]
        h = conv_transpose2d(h, weights[f"tconv{i}.weight"], None, 2, 0, tuple(more))
        h = stage(h, 9 - i, f"tgnorm{i}", groups)
        h = attend("attn6", h) if i == 3 else h
        left.pop()
        h = np.concatenate([h, skip], axis=1) if concat else h + skip
    h = conv_transpose2d(h, weights["tconv1.weight"], weights["tconv1.bias"])
    (above, beside), (height, width) = (more // 2 for more in frame), sides
    h = h[:, :, above : above + height, beside : beside + width]
    return h / as_float64(deviation).reshape(-1, 1, 1, 1)
