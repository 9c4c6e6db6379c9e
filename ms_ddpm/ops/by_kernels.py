"""What layers are made of, by the C++ kernels, on images (B, H, W, C) in float32: see `ops.by_operators`.

The same names with the same arguments. What is fused here, a norm with its SiLU and what is added to it, is one call
there too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from mindspore import Tensor, ops

from ..errors import UserError
from . import conv_kernels, kernels
from .by_operators import cross_attention  # noqa: F401  sequences have one layout, and no kernel
from .pooling import Larger

_reshape, _transpose, _rows = ops.Reshape(), ops.Transpose(), ops.Concat(0)
_columns, _thirds = ops.Concat(1), ops.Split(1, 3)


def enter(x: Tensor) -> Tensor:
    return _transpose(x, (0, 2, 3, 1))


def leave(x: Tensor) -> Tensor:
    return _transpose(x, (0, 3, 1, 2))


def sides(x: Tensor) -> tuple[int, int]:
    return x.shape[1], x.shape[2]


def tokens(x: Tensor) -> Tensor:
    return _reshape(x, (x.shape[0], -1, x.shape[3]))


def of_tokens(sequence: Tensor, like: Tensor) -> Tensor:
    return _reshape(sequence, like.shape)


def numbering(shape: tuple[int, ...]) -> Tensor:
    b, h, w, c = shape
    numbers = np.arange(math.prod(shape), dtype=np.int32)
    return Tensor(numbers.reshape(b, c, h * w).transpose(0, 2, 1).reshape(-1))


def plus() -> Callable:
    return kernels.plus()


def concat() -> Callable:
    return kernels.concat()


def upsample() -> Callable:
    return kernels.upsample()


_pad_end = ops.Pad(((0, 0), (0, 1), (0, 1), (0, 0)))


def pad_end() -> Callable:
    return _pad_end


def cropped(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if sides(x) == size else x[:, : size[0], : size[1]]


def max_pool() -> Callable:
    """MindSpore has no pooling of this layout on CPU.

    Two maxima of halves take 12 ms forward and backward where (B, C, H, W)'s ``ops.MaxPool`` takes 45 and
    ``ops.ReduceMax`` of a reshaped image 49 (2.10, 128x32x28x28).
    """
    larger = Larger()

    def call(x):
        b, h, w, c = x.shape
        left, right = ops.split(_reshape(x, (b, h, w // 2, 2 * c)), c, 3)
        # Columns before rows: of a 2x2 square's upper right and lower left, the upper one is the first.
        upper, lower = ops.split(_reshape(larger(left, right), (b, h // 2, w * c)), w // 2 * c, 2)
        return _reshape(larger(upper, lower), (b, h // 2, w // 2, c))

    return call


def conv(dim_out: int, kernel_size: int, stride: int, padding: int, bias: bool) -> Callable:
    divides = kernel_size - stride == 2 * padding
    return conv_kernels.conv(kernel_size, stride, bias, None if divides else padding)


def conv_transpose(dim_in: int, dim_out: int, kernel_size: int, stride: int, padding: int, bias: bool) -> Callable:
    of_padding = tuple(  # one kernel for every output padding, of rows and of columns
        tuple(
            conv_kernels.conv_transpose(kernel_size, stride, padding, (rows, columns), bias)
            for columns in range(stride)
        )
        for rows in range(stride)
    )

    def padded(x, size):
        rows = size[0] - (x.shape[1] - 1) * stride + 2 * padding - kernel_size
        columns = size[1] - (x.shape[2] - 1) * stride + 2 * padding - kernel_size
        return of_padding[rows][columns]

    def call(x, weight, size):
        return padded(x, size)(x, weight)

    def call_with_bias(x, weight, bias, size):
        return padded(x, size)(x, weight, bias)

    return call_with_bias if bias else call


def unshuffled() -> Callable:
    kernel = conv_kernels.conv(2, 2, True)

    def call(conv, x):  # the four channels of a square are a 2x2 filter's, so nothing has to be moved
        if conv.adapters is not None:
            raise ValueError(
                "a convolution of pixel squares has no adapters by the C++ kernels; use_kernels(False) first"
            )
        weight = conv.weight
        return kernel(x, _reshape(weight, (weight.shape[0], -1, 2, 2)), conv.bias)

    return call


def linear(bias: bool) -> Callable:
    return kernels.linear() if bias else kernels.product()


def geglu() -> Callable:
    return kernels.geglu()


def rms_norm() -> Callable:
    return _with_residual(kernels.norm("rms", 2, False), kernels.norm("rms", 2, True))


def channel_norm() -> Callable:
    return _with_residual(kernels.norm("layer", 2, False), kernels.norm("layer", 2, True))


def _with_residual(plain: Callable, add: Callable) -> Callable:
    def call(x, g, residual=None):
        return plain(x, g) if residual is None else add(x, g, residual)

    return call


def rms_norm_silu() -> Callable:
    plain, add = kernels.norm("rms_silu", 2, False), kernels.norm("rms_silu", 2, True)
    of_time = kernels.norm("rms_silu_time", 3, False)

    def call(x, g, scale_shift=None, residual=None):
        if scale_shift is not None:
            return of_time(x, g, scale_shift)
        return plain(x, g) if residual is None else add(x, g, residual)

    return call


_OF_EPS = {1e-5: "group", 1e-6: "group6"}  # what a group norm's kernel is called


def _group_norm(eps: float) -> str:
    if eps not in _OF_EPS:
        raise UserError(f"GroupNorm of eps={eps} has no kernel; expected one of: {', '.join(map(str, _OF_EPS))}")
    return _OF_EPS[eps]


def group_norm(groups: int, eps: float) -> Callable:
    kernel = kernels.norm(_group_norm(eps), 3, False)

    def call(x, weight, bias):
        return kernel(x, _reshape(weight, (groups, -1)), bias)

    return call


def group_norm_silu(groups: int, eps: float) -> Callable:
    name = f"{_group_norm(eps)}_silu"
    plain, add = kernels.norm(name, 3, False), kernels.norm(name, 3, True)
    of_time = kernels.norm(f"{name}_time", 4, False)

    def call(x, weight, bias, scale_shift=None, residual=None):
        gain = _reshape(weight, (groups, -1))
        if scale_shift is not None:
            return of_time(x, gain, bias, scale_shift)
        return plain(x, gain, bias) if residual is None else add(x, gain, bias, residual)

    return call


def group_norm_silu_of_sum(groups: int, eps: float) -> Callable:
    name = f"{_group_norm(eps)}_silu_sum"
    plain, add = kernels.norm(name, 4, False), kernels.norm(name, 4, True)

    def call(x, weight, bias, shift, residual=None):
        gain = _reshape(weight, (groups, -1))
        return plain(x, gain, bias, shift) if residual is None else add(x, gain, bias, shift, residual)

    return call


def layer_norm(eps: float) -> Callable:
    if eps != 1e-5:
        raise UserError(f"LayerNorm of eps={eps} has no kernel; expected 1e-5")
    kernel = kernels.norm("layer_bias", 3, False)

    def call(x, weight, bias):
        return _reshape(kernel(_reshape(x, (1, 1, -1, x.shape[-1])), weight, bias), x.shape)

    return call


def _number_of(heads: int) -> Tensor:
    """What tells an attention kernel without memory how many heads there are."""
    return Tensor(np.zeros(heads, np.float32))


def linear_attention(heads: int, dim: int, memory: bool, divides_values: bool) -> Callable:
    kernel, count = kernels.attention(linear=True, memory=memory), _number_of(heads)
    # The kernel without memory always divides the values; its result is linear in them.
    undo_division = not (memory or divides_values)

    def call(qkv, mem_kv):
        out = kernel(qkv, mem_kv if memory else count)
        return out * (qkv.shape[1] * qkv.shape[2]) if undo_division else out

    return call


def full_attention(heads: int, dim: int, memory: bool, chunked: bool) -> Callable:
    kernel, count = kernels.attention(linear=False, memory=memory), _number_of(heads)

    def call(qkv, mem_kv):
        return kernel(qkv, mem_kv if memory else count)

    return call


def self_attention(heads: int, scale: float) -> Callable:
    """q, k and v in one product. Layers with adapters (`nn.adapters`) change their third of it."""
    product, kernel, count = kernels.product(), kernels.attention(linear=False, memory=False), _number_of(heads)

    def call(tokens, source, query, key, value):
        b, length, width = tokens.shape
        rows = _reshape(tokens, (-1, width))
        qkv = product(rows, _rows((query.weight, key.weight, value.weight)))
        if query.adapters is not None or key.adapters is not None or value.adapters is not None:
            q, k, v = _thirds(qkv)
            qkv = _columns((query.adapted(rows, q), key.adapted(rows, k), value.adapted(rows, v)))
        return _reshape(kernel(_reshape(qkv, (b, 1, length, 3 * width)), count), tokens.shape)

    return call


def attend(heads: int, scale: float) -> Callable:
    kernel, count = kernels.attention_to(), _number_of(heads)

    def call(q, k, v):
        return kernel(q, k, v, count)

    return call
