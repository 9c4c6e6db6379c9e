"""Functions of `mindspore.mint` made of those of `mindspore.ops` that MindSpore 2.10 has on a CPU.

`FUNCTIONS` says which stands for which: only those whose own kernel the CPU lacks. Ports that are written for mint call
the Ascend's fused attention too, so it is here with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from .. import on_mindspore  # noqa: F401  it says how MindSpore starts

import mindspore as ms  # isort: skip
from mindspore import Tensor, mint, ops  # isort: skip

F = mint.nn.functional


# --- making tensors ---------------------------------------------------------------------------------------------


def _arange(start: float = 0, end: float | None = None, step: float = 1, *, dtype: Any = None) -> Tensor:
    begin, stop = (0, start) if end is None else (start, end)
    if dtype is None:
        dtype = ms.float32 if any(isinstance(value, float) for value in (begin, stop, step)) else ms.int64
    count = max(math.ceil((stop - begin) / step), 0)
    return ops.cast(begin + ops.range(0, count, 1) * step, dtype)


def _full(size: Any, fill_value: Any, *, dtype: Any = None) -> Tensor:
    if dtype is None:
        kinds = {bool: ms.bool_, int: ms.int64, float: ms.float32}
        dtype = fill_value.dtype if isinstance(fill_value, Tensor) else kinds[type(fill_value)]
    return ops.full(size, fill_value, dtype=dtype)


def _full_like(input: Tensor, fill_value: float, *, dtype: Any = None) -> Tensor:
    return ops.full(input.shape, fill_value, dtype=dtype or input.dtype)


def _zeros_like(input: Tensor, *, dtype: Any = None) -> Tensor:
    return ops.zeros(input.shape, dtype or input.dtype)


def _ones_like(input: Tensor, *, dtype: Any = None) -> Tensor:
    return ops.ones(input.shape, dtype or input.dtype)


def _linspace(start: float, end: float, steps: int, *, dtype: Any = None) -> Tensor:
    """As PyTorch's: from both ends towards the middle."""
    if steps == 1:
        return _full((1,), float(start), dtype=dtype or ms.float32)
    at = ops.cast(ops.range(0, steps, 1), ms.float32)
    step = (end - start) / (steps - 1)
    return ops.cast(ops.where(at < steps // 2, start + step * at, end - step * (steps - 1 - at)), dtype or ms.float32)


def _size(size: Sequence[Any]) -> tuple[int, ...]:
    return tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else tuple(size)


def _randn(*size: Any, generator: Any = None, dtype: Any = None) -> Tensor:
    return ops.cast(ops.standard_normal(_size(size)), dtype or ms.float32)


def _rand(*size: Any, generator: Any = None, dtype: Any = None) -> Tensor:
    return ops.cast(ops.rand(*_size(size)), dtype or ms.float32)


def _randn_like(input: Tensor, *, dtype: Any = None) -> Tensor:
    return _randn(input.shape, dtype=dtype or input.dtype)


def _rand_like(input: Tensor, *, dtype: Any = None) -> Tensor:
    return _rand(input.shape, dtype=dtype or input.dtype)


def _randint(low: int, high: int, size: tuple, *, generator: Any = None, dtype: Any = None) -> Tensor:
    return ops.cast(ops.randint(low, high, size), dtype or ms.int64)


# --- shapes and places -------------------------------------------------------------------------------------------


def _stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return ops.stack(tensors, axis=dim)


def _index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    return ops.gather(input, index, dim)


def _repeat_interleave(input: Tensor, repeats: Any, dim: int | None = None, *, output_size: Any = None) -> Tensor:
    return ops.repeat_interleave(input, repeats, dim)


def _roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    if dims is None:
        return _roll(input.reshape(-1), shifts, 0).reshape(input.shape)
    pairs = zip(shifts, dims, strict=True) if isinstance(dims, (tuple, list)) else ((shifts, dims),)
    for shift, dim in pairs:
        at = -shift % input.shape[dim]
        if at:
            size = input.shape[dim]
            input = ops.cat([ops.narrow(input, dim, at, size - at), ops.narrow(input, dim, 0, at)], dim)
    return input


def _tril(input: Tensor, diagonal: int = 0) -> Tensor:
    return ops.tril(input, diagonal)


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    depth = int(tensor.max()) + 1 if num_classes == -1 else num_classes
    return ops.cast(ops.expand_dims(tensor, -1) == ops.range(0, depth, 1), ms.int64)


def _topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple:
    return ops.topk(input, k, dim, largest, sorted)


def _sort(input: Tensor, *, dim: int = -1, descending: bool = False, stable: bool = False) -> tuple:
    return ops.sort(input, axis=dim, descending=descending)


def _argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    return ops.cast(ops.sort(input, axis=dim, descending=descending)[1], ms.int64)


def _argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return ops.cast(ops.argmax(input, dim, keepdim), ms.int64)


def _argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return ops.cast(ops.argmin(input, dim, keepdim), ms.int64)


def _pad(input: Tensor, pad: Any, mode: str = "constant", value: float = 0.0) -> Tensor:
    if mode != "constant" or min(pad) < 0:
        return ops.pad(input, tuple(pad), mode, value if mode == "constant" else None)
    for i in range(len(pad) // 2):
        dim, parts = input.ndim - 1 - i, [input]
        for at, size in ((0, pad[2 * i]), (2, pad[2 * i + 1])):
            if size:
                edge = ops.full((*input.shape[:dim], size, *input.shape[dim + 1 :]), value or 0.0, dtype=input.dtype)
                parts = [edge, *parts] if at == 0 else [*parts, edge]
        input = ops.cat(parts, dim) if len(parts) > 1 else input
    return input


# --- sums and products -------------------------------------------------------------------------------------------


def _cumsum(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    return ops.cumsum(input, dim, dtype)


def _outer(input: Tensor, vec2: Tensor) -> Tensor:
    return input[:, None] * vec2[None]


def _product(input: Tensor, mat2: Tensor) -> Tensor:
    return ops.matmul(input, mat2)


def _dot(input: Tensor, other: Tensor) -> Tensor:
    return (input * other).sum()


def _added(input: Tensor, one: Tensor, two: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = ops.matmul(one, two)
    product = product if alpha == 1 else alpha * product
    return product if beta == 0 else input + product if beta == 1 else beta * input + product


def _einsum(equation: str, *operands: Any) -> Tensor:
    """By one product of everything with everything, and a sum: for the small arrays of a check."""
    tensors = operands[0] if len(operands) == 1 and isinstance(operands[0], (tuple, list)) else operands
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    summed = sorted(set("".join(terms)) - set(right))
    order = [*right, *summed]
    result = None
    for term, tensor in zip(terms, tensors, strict=True):
        moved = tensor.permute(*sorted(range(len(term)), key=lambda i, term=term: order.index(term[i])))
        sizes = dict(zip(sorted(term, key=order.index), moved.shape, strict=True))
        moved = moved.reshape(tuple(sizes.get(letter, 1) for letter in order))
        result = moved if result is None else result * moved
    return result.sum(tuple(range(len(right), len(order)))) if summed else result


def _vector_norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    x = x if dtype is None else ops.cast(x, dtype)
    axes = tuple(range(x.ndim)) if dim is None else dim
    if ord in (math.inf, "inf"):
        return ops.amax(ops.abs(x), axes, keepdim)
    if ord == 1:
        return ops.abs(x).sum(axes, keepdims=keepdim)
    return ops.sqrt(ops.square(x).sum(axes, keepdims=keepdim))


def _norm(input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    return _vector_norm(input, 2 if p in ("fro", None) else p, dim, keepdim, dtype=dtype)


def _normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    return input / ops.clamp(_vector_norm(input, p, dim, True), min=eps)


def _var(input: Tensor, dim: Any = None, *, correction: int = 1, keepdim: bool = False) -> Tensor:
    axes = tuple(range(input.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    count = math.prod(input.shape[axis] for axis in axes)
    away = ops.square(input - input.mean(axes, keep_dims=True))
    return away.sum(axes, keepdims=keepdim) / (count - correction)


def _std(input: Tensor, dim: Any = None, *, correction: int = 1, keepdim: bool = False) -> Tensor:
    return ops.sqrt(_var(input, dim, correction=correction, keepdim=keepdim))


def _logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    return ops.logsumexp(input, dim, keepdim)


# --- activations ---------------------------------------------------------------------------------------------------


def _gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    return ops.gelu(input, approximate)


def _logsigmoid(input: Tensor) -> Tensor:
    return ops.minimum(input, 0) - ops.log1p(ops.exp(-ops.abs(input)))


def _log_softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    input = input if dtype is None else ops.cast(input, dtype)
    return ops.log_softmax(input, -1 if dim is None else dim)


def _leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    return ops.where(input > 0, input, input * negative_slope)


def _elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    return ops.where(input > 0, input, alpha * ops.expm1(ops.minimum(input, 0)))


def _selu(input: Tensor) -> Tensor:
    return 1.0507009873554805 * _elu(input, 1.6732632423543772)


def _mish(input: Tensor) -> Tensor:
    return input * ops.tanh(F.softplus(input))


def _hardtanh(input: Tensor, min_val: float = -1, max_val: float = 1) -> Tensor:
    return ops.clamp(input, min_val, max_val)


def _relu6(input: Tensor, inplace: bool = False) -> Tensor:
    return ops.clamp(input, 0, 6)


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return ops.dropout(input, p, training) if training and p > 0 else input


# --- layers --------------------------------------------------------------------------------------------------------


def _several(value: Any, count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else tuple(value) * (count if len(value) == 1 else 1)


def _padded(input: Tensor, padding: Any, weight: Tensor, dilation: tuple[int, ...]) -> Tensor:
    """The image with the zeros around it that a convolution would add itself."""
    count = input.ndim - 2
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        sides = [(t // 2, t - t // 2) for t in total]
    else:
        sides = [(p, p) for p in _several(0 if padding == "valid" else padding, count)]
    flat = [size for side in reversed(sides) for size in side]
    return _pad(input, flat) if any(flat) else input


def _conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    dilation = _several(dilation, 1)
    input = _padded(input, padding, weight, dilation)[:, :, None]
    strides = (1, *_several(stride, 1))
    return ops.conv2d(input, weight[:, :, None], bias, strides, "pad", 0, (1, *dilation), groups)[:, :, 0]


def _conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    dilation = _several(dilation, 2)
    input = _padded(input, padding, weight, dilation)
    return ops.conv2d(input, weight, bias, _several(stride, 2), "pad", 0, dilation, groups)


def _conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """As a sum over the depth of the filter of convolutions of images: ops.conv3d has no gradients on the CPU."""
    dilation, stride = _several(dilation, 3), _several(stride, 3)
    input = _padded(input, padding, weight, dilation)
    reach = dilation[0] * (weight.shape[2] - 1)
    count = (input.shape[2] - reach - 1) // stride[0] + 1
    frames = []
    for at in range(count):
        total = None
        for i in range(weight.shape[2]):
            image = input[:, :, at * stride[0] + i * dilation[0]]
            part = ops.conv2d(image, weight[:, :, i], None, stride[1:], "pad", 0, dilation[1:], groups)
            total = part if total is None else total + part
        frames.append(total)
    result = ops.stack(frames, 2)
    return result if bias is None else result + bias.reshape(1, -1, 1, 1, 1)


def _conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    stride, padding, dilation = _several(stride, 2), _several(padding, 2), _several(dilation, 2)
    if any(_several(output_padding, 2)):
        raise NotImplementedError("mint_on_cpu: conv_transpose2d with an output_padding")
    kernel = tuple(weight.shape[2:])
    sizes = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + 1
        for n, s, p, d, k in zip(input.shape[2:], stride, padding, dilation, kernel, strict=True)
    )
    channels = weight.shape[1] * groups
    sides = (padding[0], padding[0], padding[1], padding[1])
    transposed = ops.Conv2DTranspose(  # out_channel is of the convolution whose gradient this is
        weight.shape[0], kernel, "pad", sides, stride=stride, dilation=dilation, group=groups
    )
    result = transposed(input, weight, (input.shape[0], channels, *sizes))
    return result if bias is None else result + bias.reshape(1, -1, 1, 1)


def _interpolate(
    input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None
):  # fmt: skip
    """Without a scale, which ops.interpolate takes on some devices only: the size says it."""
    if size is None:
        factors = _several(scale_factor, input.ndim - 2) if not isinstance(scale_factor, float) else None
        factors = factors or (scale_factor,) * (input.ndim - 2)
        size = tuple(int(n * f) for n, f in zip(input.shape[2:], factors, strict=True))
    if isinstance(size, int):
        size = (size,) * (input.ndim - 2)
    if mode == "nearest":
        for dim, wanted in enumerate(size, 2):
            there = input.shape[dim]
            input = ops.gather(input, ops.range(0, wanted, 1) * there // wanted, dim)
        return input
    return ops.interpolate(input, size=tuple(size), mode=mode, align_corners=bool(align_corners))


def _layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    axes = tuple(range(input.ndim - len(normalized_shape), input.ndim))
    away = input - input.mean(axes, keep_dims=True)
    result = away * ops.rsqrt(ops.square(away).mean(axes, keep_dims=True) + eps)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def _batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """The running statistics are written into memory, as mint's are."""
    shape = (1, -1) + (1,) * (input.ndim - 2)
    mean, variance = running_mean, running_var
    if training:
        axes = (0, *range(2, input.ndim))
        mean = input.mean(axes)
        away = input - mean.reshape(shape)
        variance = ops.square(away).mean(axes)
        if running_mean is not None:
            count = input.size // input.shape[1]
            unbiased = ops.stop_gradient(variance) * (count / max(count - 1, 1))
            ops.assign(running_mean, (1 - momentum) * running_mean + momentum * ops.stop_gradient(mean))
            ops.assign(running_var, (1 - momentum) * running_var + momentum * unbiased)
    result = (input - mean.reshape(shape)) * ops.rsqrt(variance.reshape(shape) + eps)
    result = result if weight is None else result * weight.reshape(shape)
    return result if bias is None else result + bias.reshape(shape)


def _embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False):
    if max_norm is not None or scale_grad_by_freq:
        raise NotImplementedError("mint_on_cpu: an embedding with max_norm or scale_grad_by_freq")
    found = ops.gather(weight, input, 0)
    if padding_idx is None:
        return found
    row = padding_idx % weight.shape[0]
    return ops.where(ops.expand_dims(input == row, -1), ops.stop_gradient(found), found)


def _avg_pool2d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):  # fmt: skip
    kernel, padding = _several(kernel_size, 2), _several(padding, 2)
    strides = _several(kernel_size if stride is None else stride, 2)
    input = _padded(input, padding, input, (1, 1))
    cut = any((n - k) % s for n, k, s in zip(input.shape[2:], kernel, strides, strict=True))
    if (ceil_mode and cut) or divisor_override or (not count_include_pad and any(padding)):
        raise NotImplementedError("mint_on_cpu: avg_pool2d with a cut window, divisor_override or without the padding")
    return ops.avg_pool2d(input, kernel, strides)


def _max_pool2d(
    input, kernel_size, stride=None, padding=0, dilation=1, *, ceil_mode=False, return_indices=False
):  # fmt: skip
    strides = _several(kernel_size if stride is None else stride, 2)
    if ceil_mode or return_indices or dilation not in (1, (1, 1)):
        raise NotImplementedError("mint_on_cpu: max_pool2d with ceil_mode, return_indices or a dilation")
    if padding:
        lowest = -3.4e38 if input.dtype == ms.float32 else -6e4
        padding = _several(padding, 2)
        input = _pad(input, (padding[1], padding[1], padding[0], padding[0]), value=lowest)
    return ops.MaxPool(_several(kernel_size, 2), strides, "valid")(input)


def _adaptive_avg_pool2d(input, output_size):
    return ops.adaptive_avg_pool2d(input, output_size)


# --- losses --------------------------------------------------------------------------------------------------------


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def _mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    return _reduced(ops.square(input - target), reduction)


def _l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    return _reduced(ops.abs(input - target), reduction)


def _cross_entropy(
    input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0
):  # fmt: skip
    return ops.cross_entropy(input, ops.cast(target, ms.int32), weight, ignore_index, reduction, label_smoothing)


# --- attention --------------------------------------------------------------------------------------------------


def _fused_attention(
    head_num: int, keep_prob: float = 1.0, scale_value: float = 1.0, pre_tokens: int = 2147483647,
    next_tokens: int = 2147483647, inner_precise: int = 0, input_layout: str = "BSH", sparse_mode: int = 0,
) -> Callable:  # fmt: skip
    """The Ascend's fused attention: it takes half precision alone, and gives its result so; what it adds, in float32.

    Only what ports to it rely on: layouts BSH and BNSD, an added bias, a mask that is true where nothing is to be seen.
    """
    if input_layout not in ("BSH", "BNSD") or sparse_mode or keep_prob != 1.0:
        raise NotImplementedError(f"flash attention on a CPU: {input_layout=}, {sparse_mode=}, {keep_prob=}")

    def heads_apart(tensor: Tensor) -> Tensor:
        if input_layout == "BNSD":
            return tensor
        batch, length, width = tensor.shape
        return tensor.reshape(batch, length, head_num, width // head_num).swapaxes(1, 2)

    def attend(query, key, value, real_shift=None, drop_mask=None, padding_mask=None, attn_mask=None, *rest):
        kind = query.dtype
        if kind not in (ms.float16, ms.bfloat16):
            raise TypeError(f"flash attention takes float16 and bfloat16, not {kind}")
        q, k, v = (ops.cast(heads_apart(tensor), ms.float32) for tensor in (query, key, value))
        logits = ops.matmul(q, k.swapaxes(-2, -1)) * scale_value
        if real_shift is not None:
            logits = logits + ops.cast(real_shift, ms.float32)
        if attn_mask is not None:
            logits = ops.masked_fill(logits, ops.cast(attn_mask, ms.bool_), -1e38)
        out = ops.cast(ops.matmul(ops.softmax(logits, -1), v), kind)
        return None, None, None, out if input_layout == "BNSD" else out.swapaxes(1, 2).reshape(query.shape)

    return attend


FUNCTIONS: dict[ModuleType, dict[str, Callable]] = {
    ops.operations.nn_ops: {"FlashAttentionScore": _fused_attention},
    mint: {
        "arange": _arange, "full": _full, "full_like": _full_like, "zeros_like": _zeros_like, "ones_like": _ones_like,
        "linspace": _linspace, "randn": _randn, "rand": _rand, "randn_like": _randn_like, "rand_like": _rand_like,
        "randint": _randint, "stack": _stack, "index_select": _index_select, "repeat_interleave": _repeat_interleave,
        "roll": _roll, "tril": _tril, "topk": _topk, "sort": _sort, "argsort": _argsort, "argmax": _argmax,
        "argmin": _argmin, "cumsum": _cumsum, "outer": _outer, "mm": _product, "dot": _dot, "addmm": _added,
        "baddbmm": _added, "einsum": _einsum, "norm": _norm, "var": _var, "std": _std, "logsumexp": _logsumexp,
        "atan2": lambda input, other: ops.atan2(input, other),
    },
    mint.linalg: {"vector_norm": _vector_norm},
    mint.special: {"log_softmax": _log_softmax},
    F: {
        "pad": _pad, "one_hot": _one_hot, "normalize": _normalize, "gelu": _gelu, "logsigmoid": _logsigmoid,
        "log_softmax": _log_softmax, "leaky_relu": _leaky_relu, "elu": _elu, "selu": _selu, "mish": _mish,
        "hardtanh": _hardtanh, "relu6": _relu6, "dropout": _dropout, "conv1d": _conv1d, "conv2d": _conv2d,
        "conv3d": _conv3d, "conv_transpose2d": _conv_transpose2d, "interpolate": _interpolate,
        "layer_norm": _layer_norm, "batch_norm": _batch_norm, "embedding": _embedding, "avg_pool2d": _avg_pool2d,
        "adaptive_avg_pool2d": _adaptive_avg_pool2d, "max_pool2d": _max_pool2d, "mse_loss": _mse_loss,
        "l1_loss": _l1_loss, "cross_entropy": _cross_entropy,
    },
}  # fmt: skip
