"""What layers are made of, by MindSpore's own operators, on images (B, C, H, W): any device, any precision.

`ops.by_kernels` has the same names for the C++ kernels on images (B, H, W, C). A layer takes what it needs from one or
the other when it is placed (``place(on)``), a function as it stands here or what one returns, and its ``construct`` is
one program for both. Nothing here has weights.

Primitives are made once and called as such: in a graph every function of ``mindspore.ops`` and every method of a
Tensor is compiled anew wherever it stands (2.10: a method 5 to 12 ms, a primitive 1 to 4), and so is every function
that is another one. Hence what needs no argument is made by nobody, but stands here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops.auto_generate import SiLU

from .sums import channel_sum, spread

QUERY_CHUNK = 256  # queries per block when the whole (n, n) matrix is not to exist at once
NUM_MEM_KV = 4

_reshape, _transpose, _cast = ops.Reshape(), ops.Transpose(), ops.Cast()
_channels, _silu, _add_bias = ops.Concat(1), SiLU(), ops.BiasAdd()
_halves, _thirds, _last_halves = ops.Split(1, 2), ops.Split(1, 3), ops.Split(2, 2)
_softmax, _mean, _tile = ops.Softmax(-1), ops.ReduceMean(keep_dims=True), ops.Tile()


# --- images -------------------------------------------------------------------------------------------------------


def enter(x: Tensor) -> Tensor:
    """(B, C, H, W) -> the layers' layout."""
    return x


def leave(x: Tensor) -> Tensor:
    """The inverse of `enter`."""
    return x


def sides(x: Tensor) -> tuple[int, int]:
    """Image -> (H, W)."""
    return x.shape[2], x.shape[3]


def tokens(x: Tensor) -> Tensor:
    """Image -> its pixels as a sequence (B, H W, C)."""
    b, c, h, w = x.shape
    return _transpose(_reshape(x, (b, c, h * w)), (0, 2, 1))


def of_tokens(sequence: Tensor, like: Tensor) -> Tensor:
    """The sequence as an image of the shape of ``like``: the inverse of `tokens`."""
    return _reshape(_transpose(sequence, (0, 2, 1)), like.shape)


def numbering(shape: tuple[int, ...]) -> Tensor:
    """The number that each element of an image has in the order of (B, C, H, W), (n,) int32."""
    return Tensor(np.arange(math.prod(shape), dtype=np.int32))


def _joined(a: Tensor, b: Tensor) -> Tensor:
    return _channels((a, b))


def _sum(x: Tensor, y: Tensor) -> Tensor:
    return x + y


def plus() -> Callable:
    """-> (array, array of its shape) -> their sum."""
    return _sum


def concat() -> Callable:
    """-> (image, image) -> both, one behind the other along the channels."""
    return _joined


def max_pool() -> Callable:
    """-> image -> the largest of every 2x2 square; of equal values the first, row by row, gets the gradient."""
    return ops.MaxPool(kernel_size=2, strides=2, pad_mode="valid")


def _doubled(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    return _reshape(ops.broadcast_to(_reshape(x, (b, c, h, 1, w, 1)), (b, c, h, 2, w, 2)), (b, c, h * 2, w * 2))


def upsample() -> Callable:
    """-> image -> every pixel doubled in both directions."""
    return _doubled


_pad_end = ops.Pad(((0, 0), (0, 0), (0, 1), (0, 1)))


def pad_end() -> Callable:
    """-> image -> the same with a row of zeros below and a column of zeros to the right."""
    return _pad_end


def cropped(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(image, (H, W), at most its own) -> its upper left part."""
    return x if sides(x) == size else x[:, :, : size[0], : size[1]]


# --- products -----------------------------------------------------------------------------------------------------


def _with_bias(product: Callable, bias: bool) -> Callable:
    def call(x, weight, bias, *size):
        return _add_bias(product(x, weight, *size), bias)

    return call if bias else product


def conv(dim_out: int, kernel_size: int, stride: int, padding: int, bias: bool) -> Callable:
    """-> (image, weight (dim_out, C, k, k)[, bias]) -> image of dim_out channels."""
    return _with_bias(ops.Conv2D(dim_out, kernel_size, pad_mode="pad", pad=padding, stride=stride), bias)


def conv_transpose(dim_in: int, dim_out: int, kernel_size: int, stride: int, padding: int, bias: bool) -> Callable:
    """-> (image, weight (dim_in, dim_out, k, k)[, bias], sides of the output) -> image of dim_out channels."""
    product = ops.Conv2DTranspose(dim_in, kernel_size, pad_mode="pad", pad=padding, stride=stride)

    def call(x, weight, size):
        return product(x, weight, (x.shape[0], dim_out, size[0], size[1]))

    return _with_bias(call, bias)


def _unshuffled(conv: Callable, x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    x = _transpose(_reshape(x, (b, c, h // 2, 2, w // 2, 2)), (0, 1, 3, 5, 2, 4))
    return conv(_reshape(x, (b, c * 4, h // 2, w // 2)))


def unshuffled() -> Callable:
    """-> (1x1 convolution of 4 C channels, image) -> its result on the image, every 2x2 square's pixels as channels."""
    return _unshuffled


def linear(bias: bool) -> Callable:
    """-> (x (n, in), weight (out, in)[, bias (out,)]) -> (n, out)."""
    return _with_bias(ops.MatMul(transpose_b=True), bias)


def lowered(product: Callable, compute: ms.Type, output: ms.Type | None, bias: bool) -> Callable:
    """One of the four above in the precision ``compute``, its result in ``output`` (None: in ``compute`` too)."""

    def call(x, weight, *size):
        y = product(_cast(x, compute), _cast(weight, compute), *size)
        return y if output is None else _cast(y, output)

    def call_with_bias(x, weight, bias, *size):
        y = product(_cast(x, compute), _cast(weight, compute), _cast(bias, compute), *size)
        return y if output is None else _cast(y, output)

    return call_with_bias if bias else call


def _geglu(x: Tensor) -> Tensor:
    value, gate = _last_halves(x)
    return value * ops.gelu(gate, approximate="none")


def geglu() -> Callable:
    """-> (B, T, 2 C), values and then gates -> values gelu(gates), (B, T, C); the exact GELU."""
    return _geglu


# --- norms, in float32 whatever the precision of their input ------------------------------------------------------


def _of_time(scale_shift: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 2 C) -> scale and shift, (B, C, 1, 1)."""
    return _halves(_reshape(scale_shift, scale_shift.shape + (1, 1)))


def _added(y: Tensor, residual: Tensor | None) -> Tensor:
    return y if residual is None else y + residual


def _rms(x: Tensor, g: Tensor, scale_shift: Tensor | None) -> Tensor:
    dtype, root_dim = x.dtype, x.shape[1] ** 0.5
    x = _cast(x, ms.float32)
    # Clamping the square, not its root, keeps the gradient finite where a pixel is zero.
    x = x * ops.rsqrt(ops.maximum(channel_sum(x * x), 1e-24))
    gain = g * root_dim
    if scale_shift is None:
        return _cast(x * spread(gain, x), dtype)
    # The two gains of a channel are multiplied before they meet the image, which saves a pass over it.
    scale, shift = _of_time(scale_shift)
    return _cast(x * spread(gain * (scale + 1), x) + spread(shift, x), dtype)


def _rms_norm(x: Tensor, g: Tensor, residual: Tensor | None = None) -> Tensor:
    return _added(_rms(x, g, None), residual)


def _rms_norm_silu(x: Tensor, g: Tensor, scale_shift: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
    return _added(_silu(_rms(x, g, scale_shift)), residual)


def rms_norm() -> Callable:
    """-> (image, g (1, C, 1, 1)[, residual]) -> x / max(||x||_2 over channels, 1e-12) sqrt(C) g [+ residual]."""
    return _rms_norm


def rms_norm_silu() -> Callable:
    """-> (image, g[, (scale, shift) (B, 2 C)][, residual]) -> silu(rms_norm(x) (scale + 1) + shift) [+ residual]."""
    return _rms_norm_silu


def _group(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, scale_shift: Tensor | None) -> Tensor:
    dtype, shape = x.dtype, x.shape
    x = _reshape(_cast(x, ms.float32), (shape[0], groups, -1))
    x = x - _mean(x, 2)
    x = x * ops.rsqrt(_mean(x * x, 2) + eps)
    gain, bias = _reshape(weight, (1, -1, 1, 1)), _reshape(bias, (1, -1, 1, 1))
    if scale_shift is not None:
        scale, shift = _of_time(scale_shift)
        gain, bias = gain * (scale + 1), bias * (scale + 1) + shift
    return _cast(_reshape(x, shape) * gain + bias, dtype)


def group_norm(groups: int, eps: float) -> Callable:
    """-> (image, weight (C,), bias (C,)) -> image, normalised over the pixels and channels of each group."""

    def call(x, weight, bias):
        return _group(x, weight, bias, groups, eps, None)

    return call


def group_norm_silu(groups: int, eps: float) -> Callable:
    """As `rms_norm_silu`, of `group_norm`."""

    def call(x, weight, bias, scale_shift=None, residual=None):
        return _added(_silu(_group(x, weight, bias, groups, eps, scale_shift)), residual)

    return call


def group_norm_silu_of_sum(groups: int, eps: float) -> Callable:
    """-> (image, weight, bias, shift (B, C)[, residual]) -> silu(group_norm(x + shift)) [+ residual]."""

    def call(x, weight, bias, shift, residual=None):
        dtype = x.dtype
        x = _cast(x, ms.float32)
        x = x + spread(_cast(_reshape(shift, shift.shape + (1, 1)), ms.float32), x)
        return _added(_silu(_cast(_group(x, weight, bias, groups, eps, None), dtype)), residual)

    return call


def _channel_norm(x: Tensor, g: Tensor, residual: Tensor | None = None) -> Tensor:
    dtype = x.dtype
    eps = 1e-5 if dtype == ms.float32 else 1e-3
    x = _cast(x, ms.float32)
    x = x - _mean(x, 1)
    x = x * ops.rsqrt(_mean(x * x, 1) + eps)
    return _added(_cast(x * g, dtype), residual)


def channel_norm() -> Callable:
    """-> (image, g (1, C, 1, 1)[, residual]) -> image, normalised over the channels of each pixel [+ residual]."""
    return _channel_norm


def layer_norm(eps: float) -> Callable:
    """-> (x (..., C), weight (C,), bias (C,)) -> normalised over the last axis."""

    def call(x, weight, bias):
        dtype = x.dtype
        x = _cast(x, ms.float32)
        x = x - _mean(x, -1)
        x = x * ops.rsqrt(_mean(x * x, -1) + eps)
        return _cast(x * weight + bias, dtype)

    return call


# --- attention ----------------------------------------------------------------------------------------------------
# Heads are folded into the batch and pixels run last, (B heads, d, n), which is what a 1x1 convolution delivers.
# Softmax always runs over the last axis: MindSpore's CPU kernel needs three to five times as long over any other
# (measured on 2.10, forward and backward).


def softmax(x: Tensor) -> Tensor:
    """Softmax over the last axis, in float32."""
    return _cast(_softmax(_cast(x, ms.float32)), x.dtype)


def _heads_of(qkv: Tensor, heads: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    b, _, h, w = qkv.shape
    q, k, v = _thirds(qkv)
    shape = (b * heads, dim, h * w)
    return _reshape(q, shape), _reshape(k, shape), _reshape(v, shape)


def _with_memory(memory: Tensor, x: Tensor, heads: int, dim: int) -> Tensor:
    """The learned columns (heads, d, 4) before those of the image: (B heads, d, 4 + n)."""
    memory = _reshape(_cast(memory, x.dtype), (1, heads, dim, NUM_MEM_KV))
    memory = _tile(memory, (x.shape[0] // heads, 1, 1, 1))
    return ops.Concat(2)((_reshape(memory, (-1, dim, NUM_MEM_KV)), x))


def linear_attention(heads: int, dim: int, memory: bool, divides_values: bool) -> Callable:
    """-> (qkv, an image of 3 heads d channels, memory (2, heads, d, 4) or None) -> the heads' results side by side.

    softmax of q over features and of k over pixels, then (v k^T) q.
    """
    product, scale, memory_halves = ops.BatchMatMul(transpose_b=True), dim**-0.5, ops.Split(0, 2)

    def call(qkv, mem_kv):
        b, _, h, w = qkv.shape
        q, k, v = _heads_of(qkv, heads, dim)
        if memory:
            mem_k, mem_v = memory_halves(mem_kv)
            k, v = _with_memory(mem_k, k, heads, dim), _with_memory(mem_v, v, heads, dim)
        if divides_values:
            v = v / (h * w)
        q = softmax(_transpose(q, (0, 2, 1))) * scale  # (B heads, n, d)
        context = product(v, softmax(k))  # (B heads, e, d)
        return _reshape(product(context, q), (b, heads * dim, h, w))

    return call


def full_attention(heads: int, dim: int, memory: bool, chunked: bool) -> Callable:
    """-> (qkv as of `linear_attention`, memory (2, heads, 4, d) or None) -> softmax(q^T k / sqrt(d)) v of each head."""
    product_at, product_bt = ops.BatchMatMul(transpose_a=True), ops.BatchMatMul(transpose_b=True)
    scale, memory_halves = dim**-0.5, ops.Split(0, 2)

    def attend(q, k, v):
        """q (B heads, d, i), k and v (B heads, d, j) -> (B heads, d, i)."""
        return product_bt(v, softmax(product_at(q, k)))

    def call(qkv, mem_kv):
        b, _, h, w = qkv.shape
        q, k, v = _heads_of(qkv, heads, dim)
        if memory:
            mem_k, mem_v = memory_halves(mem_kv)
            k = _with_memory(_transpose(mem_k, (0, 1, 3, 2)), k, heads, dim)
            v = _with_memory(_transpose(mem_v, (0, 1, 3, 2)), v, heads, dim)
        q = q * scale
        if chunked and h * w > QUERY_CHUNK:
            out = ()
            for block in ops.split(q, QUERY_CHUNK, 2):
                out = out + (attend(block, k, v),)
            out = ops.concat(out, 2)
        else:
            out = attend(q, k, v)
        return _reshape(out, (b, heads * dim, h, w))

    return call


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, length, width) -> (B heads, length, width / heads)."""
    if heads == 1:
        return x
    b, length, width = x.shape
    x = _transpose(_reshape(x, (b, length, heads, width // heads)), (0, 2, 1, 3))
    return _reshape(x, (b * heads, length, width // heads))


def _joined_heads(x: Tensor, heads: int) -> Tensor:
    """The inverse of `_split_heads`."""
    if heads == 1:
        return x
    b, length, width = x.shape
    x = _transpose(_reshape(x, (b // heads, heads, length, width)), (0, 2, 1, 3))
    return _reshape(x, (b // heads, length, width * heads))


def attend(heads: int, scale: float) -> Callable:
    """-> (q (B, T, width), k and v (B, S, width)) -> softmax(q k^T scale) v of each head, (B, T, width)."""
    product, product_bt = ops.BatchMatMul(), ops.BatchMatMul(transpose_b=True)

    def call(q, k, v):
        if k.shape[1] == 1:  # see `cross_attention`
            return ops.broadcast_to(v, (v.shape[0], q.shape[1], v.shape[2]))
        q, k, v = _split_heads(q, heads) * scale, _split_heads(k, heads), _split_heads(v, heads)
        return _joined_heads(product(softmax(product_bt(q, k)), v), heads)

    return call


def cross_attention(heads: int, scale: float) -> Callable:
    """-> (tokens, source, the dense layers query, key and value) -> softmax(q k^T scale) v, tokens' length."""
    product, product_bt = ops.BatchMatMul(), ops.BatchMatMul(transpose_b=True)

    def call(tokens, source, query, key, value):
        # A softmax over one key is 1. Computed all the same, in PyNative (2.10), it made the gradients of every
        # self-attention before it wrong: cases network/score_conditional-* show whether it still does.
        if source.shape[1] == 1:
            v = value(source)
            return ops.broadcast_to(v, (v.shape[0], tokens.shape[1], v.shape[2]))
        q = _split_heads(query(tokens), heads) * scale
        k, v = _split_heads(key(source), heads), _split_heads(value(source), heads)
        return _joined_heads(product(softmax(product_bt(q, k)), v), heads)

    return call


def self_attention(heads: int, scale: float) -> Callable:
    """`cross_attention` for a source that is the tokens, where query, key and value are of one width."""
    return cross_attention(heads, scale)
