"""Operators for CPU in C++: convolution, normalisation, attention and copies, on arrays with channels last.

Why: MindSpore 2.10's CPU operators take 2 to 60 times as long as PyTorch's (MindSpore's plain NCHW convolution alone is
oneDNN's reference loop on AVX-512 machines). These call the same oneDNN, inside MindSpore's own wheel, with the layout
it is fast in, and fuse what stands between convolutions. They are optional: `available` says whether they are built and
fit, and everything works without them. Can go when `scripts/bench.py` shows stock operators as fast.

All arrays are float32 and (B, H, W, C).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from mindspore import ops

from ..errors import UserError
from .kernel_library import (  # noqa: F401  who has the operators asks here whether they can be used
    available,
    isa,
    library_path,
    profile,
    set_threads,
    switched_off,
    why_not,
)


class Operator(ops.Custom):
    """``ops.Custom`` in a Cell that can be copied: a copy of the Cell calls the same operator, which has no state.

    Why: MindSpore copies an operator by calling its class with its ``init_attrs``, which for Custom (2.10) hold a
    ``name`` that Custom does not take; and the attribute of `operator` would be lost. Still needed?
    `tests/training/test_deepcopy.py::test_custom_operators_still_cannot_be_copied`.
    """

    def __deepcopy__(self, memo: dict) -> Operator:
        return self


def operator(name: str, shape: Callable, count: int = 1, bprop: Callable | None = None, kind: str = "") -> Operator:
    """The C++ function ``name``; ``shape`` maps the inputs' shapes to the output's, or to ``count`` of them.

    Operators of one name that differ in ``shape`` must differ in ``kind``, or MindSpore (2.10) takes them for one.
    """

    def dtypes(*inputs):
        return inputs[0] if count == 1 else (inputs[0],) * count

    made = Operator(f"{library_path()}:{name}", shape, dtypes, "aot", bprop)
    made.add_prim_attr("kind", kind)
    return made


def expect(fits: bool, words: str, *shapes) -> None:
    """The kernels read what the shapes say without looking again, so what does not fit must stop here."""
    if not fits:
        raise UserError(f"{words}: {', '.join(str(tuple(shape)) for shape in shapes)}")


def _first(*shapes):
    return shapes[0]


def _normalised(kind: str, residual: bool) -> Callable:
    """The shape function of the norm ``kind``: all that its kernel reads and writes must be as large as it thinks."""

    def shape(x, gain, *others):
        batch, channels = x[0], x[-1]
        expect(channels == math.prod(gain), "a norm's image and gain differ in channels", x, gain)
        if residual:
            *others, added = others
            expect(tuple(added) == tuple(x), "what is added to a norm must be shaped like its image", x, added)
        if kind.endswith("_sum"):
            *others, added = others
            words = "what is added before a norm must be (batch, channels)"
            expect(tuple(added) == (batch, channels), words, x, added)
        if kind.endswith("_time"):
            *others, of_time = others
            words = "a norm's scale and shift must be (batch, 2 x channels)"
            expect(tuple(of_time) == (batch, 2 * channels), words, x, of_time)
        for bias in others:
            expect(math.prod(bias) == channels, "a norm's image and bias differ in channels", x, bias)
        return x

    return shape


def _all_but_last(*shapes):
    return shapes[:-1]


@functools.cache
def norm(kind: str, arguments: int, residual: bool) -> ops.Custom:
    """The fused normalisation ``kind`` (see csrc/kernels.cpp) of ``arguments`` inputs, the residual not counted.

    The gain of a group norm is (groups, channels of a group), which tells their number.
    """
    backward = operator(f"{kind}_backward", _all_but_last, arguments)
    if arguments == 2:

        def bprop2(x, gain, out, dout):
            return backward(x, gain, dout)

        def bprop2_add(x, gain, residual, out, dout):
            dx, dgain = backward(x, gain, dout)
            return dx, dgain, dout

        bprop = bprop2_add if residual else bprop2
    elif arguments == 3:

        def bprop3(x, gain, second, out, dout):
            return backward(x, gain, second, dout)

        def bprop3_add(x, gain, second, residual, out, dout):
            dx, dgain, dsecond = backward(x, gain, second, dout)
            return dx, dgain, dsecond, dout

        bprop = bprop3_add if residual else bprop3
    else:

        def bprop4(x, gain, bias, scale_shift, out, dout):
            return backward(x, gain, bias, scale_shift, dout)

        def bprop4_add(x, gain, bias, scale_shift, residual, out, dout):
            dx, dgain, dbias, dscale_shift = backward(x, gain, bias, scale_shift, dout)
            return dx, dgain, dbias, dscale_shift, dout

        bprop = bprop4_add if residual else bprop4
    return operator(f"{kind}_add" if residual else kind, _normalised(kind, residual), bprop=bprop)


@functools.cache
def attention(*, linear: bool, memory: bool) -> ops.Custom:
    """(qkv (B, H, W, 3 h d), memory) -> (B, H, W, h d).

    ``memory`` is the learned keys and values, or without them an array (h,) that only tells the number of heads.
    """
    name = ("linear_attention" if linear else "attention") + ("" if memory else "_plain")

    def shape(qkv, memory):
        heads = memory[1] if len(memory) > 1 else memory[0]
        expect(qkv[-1] % (3 * heads) == 0, f"attention of {heads} heads cannot be cut from channels", qkv)
        if len(memory) > 1:
            side = memory[2] if linear else memory[3]
            fits = memory[0] == 2 and 3 * heads * side == qkv[-1]
            expect(fits, "attention's memory and channels do not fit together", qkv, memory)
        return (*qkv[:-1], qkv[-1] // 3)

    if memory:
        backward = operator(f"{name}_backward", _all_but_last, 2)

        def bprop(qkv, memory, out, dout):
            return backward(qkv, memory, dout)

        return operator(name, shape, bprop=bprop)

    backward_plain = operator(f"{name}_backward", _first)

    def bprop_plain(qkv, heads, out, dout):
        return backward_plain(qkv, heads, dout), ops.zeros_like(heads)

    return operator(name, shape, bprop=bprop_plain)


@functools.cache
def attention_to() -> ops.Custom:
    """(q (B, T, h d), k and v (B, S, h d), heads (h,), which only tells their number) -> (B, T, h d)."""
    backward = operator("attention_to_backward", lambda q, k, v, heads, dy: (q, k, v), 3)

    def bprop(q, k, v, heads, out, dout):
        dq, dk, dv = backward(q, k, v, heads, dout)
        return dq, dk, dv, ops.zeros_like(heads)

    def shape(q, k, v, heads):
        expect(q[2] % heads[0] == 0, f"attention of {heads[0]} heads cannot be cut from channels", q)
        fits = (q[0], q[2]) == (k[0], k[2]) and tuple(k) == tuple(v)
        expect(fits, "queries, keys and values do not fit together", q, k, v)
        return q

    return operator("attention_to", shape, bprop=bprop)


@functools.cache
def upsample() -> ops.Custom:
    """(B, H, W, C) -> (B, 2H, 2W, C), nearest neighbour."""
    backward = operator("upsample_backward", lambda dy: (dy[0], dy[1] // 2, dy[2] // 2, dy[3]))

    def bprop(x, out, dout):
        return (backward(dout),)

    return operator("upsample", lambda x: (x[0], 2 * x[1], 2 * x[2], x[3]), bprop=bprop)


@functools.cache
def concat() -> ops.Custom:
    """((..., C), (..., D)) -> (..., C + D)."""
    backward = operator("concat_backward", lambda dy, a, b: (a, b), 2)

    def bprop(a, b, out, dout):
        return backward(dout, a, b)

    def shape(a, b):
        expect(a[:-1] == b[:-1], "only images of one size can be joined", a, b)
        return (*a[:-1], a[-1] + b[-1])

    return operator("concat", shape, bprop=bprop)


@functools.cache
def plus() -> ops.Custom:
    """(x, y) of one shape -> x + y.

    MindSpore's Add wakes threads for it, however small: 0.1 ms in the place of 0.01 (2.10, 2x64x32).
    """

    def bprop(x, y, out, dout):
        return dout, dout

    def shape(x, y):
        expect(tuple(x) == tuple(y), "only arrays of one shape can be added", x, y)
        return x

    return operator("plus", shape, bprop=bprop)


@functools.cache
def geglu() -> ops.Custom:
    """(..., 2 C), values and then gates -> values gate Phi(gate), (..., C)."""
    backward = operator("geglu_backward", _first)

    def bprop(x, out, dout):
        return (backward(x, dout),)

    def shape(x):
        expect(x[-1] % 2 == 0, "values and gates are equally many", x)
        return (*x[:-1], x[-1] // 2)

    return operator("geglu", shape, bprop=bprop)


@functools.cache
def linear() -> ops.Custom:
    """(x (B, in), w (out, in), b (out,)) -> x w^T + b."""
    backward = operator("linear_backward", lambda x, w, dy: (x, w, (w[0],)), 3)

    def bprop(x, w, b, out, dout):
        return backward(x, w, dout)

    def shape(x, w, b):
        expect(x[1] == w[1], "a dense layer's input and weights differ in width", x, w)
        expect(tuple(b) == (w[0],), "a dense layer's weights and bias differ in width", w, b)
        return (x[0], w[0])

    return operator("linear", shape, bprop=bprop)


@functools.cache
def product() -> ops.Custom:
    """(x (B, in), w (out, in)) -> x w^T."""
    backward = operator("product_backward", lambda x, w, dy: (x, w), 2)

    def bprop(x, w, out, dout):
        return backward(x, w, dout)

    def shape(x, w):
        expect(x[1] == w[1], "a dense layer's input and weights differ in width", x, w)
        return (x[0], w[0])

    return operator("product", shape, bprop=bprop)


# Of all parameters or gradients at once; they have no gradients of their own.


@functools.cache
def flatten() -> ops.Custom:
    """(arrays...) -> one vector of all of them."""
    return operator("flatten", lambda *arrays: (sum(math.prod(shape) for shape in arrays),))


@functools.cache
def norm_of_all() -> ops.Custom:
    """(arrays...) -> (1,): the Euclidean norm of all of them, summed in double precision."""
    return operator("norm_of_all", lambda *arrays: (1,))


@functools.cache
def adam(count: int) -> ops.Custom:
    """(scalars (10,), m, v, ``count`` gradients, ``count`` weights) -> (m, v, weights): see csrc/kernels.cpp."""

    def shape(scalars, m, v, *arrays):
        gradients, weights = arrays[:count], arrays[count:]
        sizes = [math.prod(weight) for weight in weights]
        expect(sizes == [math.prod(gradient) for gradient in gradients], "Adam's gradients and weights differ", *arrays)
        expect(tuple(m) == tuple(v) == (sum(sizes),), "Adam's moments are not as long as the weights together", m, v)
        return (m, v, *arrays[count:])

    return operator("adam", shape, 2 + count, kind=str(count))
