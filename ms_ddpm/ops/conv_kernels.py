"""The C++ kernels' convolutions and transposed convolutions, with their gradients.

A transposed convolution is the operator of a convolution's gradient by its input, and the other way round. What the
kernels are and when they are there: `ops/kernels.py`. All arrays are float32 and (B, H, W, C).
"""

from __future__ import annotations

import functools

from mindspore import ops

from ..errors import UserError
from .kernels import expect, operator

STRIDES, PADDINGS = (1, 2), (0, 1, 2, 3)  # the convolutions there are, of any kernel size


def _geometry(kernel: int, stride: int, padding: int) -> str:
    """What the names of a convolution's operators end with. Raises UserError where there is none."""
    if stride not in STRIDES or padding not in PADDINGS or padding >= kernel:
        raise UserError(
            f"the C++ kernels have no convolution of size {kernel}, stride {stride}, padding {padding}; "
            f"expected a stride of 1 or 2 and a padding of 0 to 3, less than the size"
        )
    return f"_{stride}_{padding}"


def _side(side: int, kernel: int, stride: int, padding: int) -> int:
    """The side of a convolution's output."""
    return (side + 2 * padding - kernel) // stride + 1


@functools.cache
def conv(kernel: int, stride: int, bias: bool, padding: int | None = None) -> ops.Custom:
    """(x (B, H, W, C), w (D, C, K, K)[, b (D,)]) -> (B, H', W', D), H' = floor((H + 2 padding - K) / stride) + 1.

    Without ``padding`` it is what makes the output's sides 1/stride of the input's, (K - stride) / 2, and sides must be
    divisible by the stride.
    """
    exact = padding is None
    padding = (kernel - stride) // 2 if exact else padding
    geometry = _geometry(kernel, stride, padding)
    kind = f"{kernel}{geometry}{exact}"
    data = operator(f"conv_data{geometry}", lambda dy, w, x: x, kind=kind)

    def weight_shape(x, dy):
        return (dy[3], x[3], kernel, kernel)

    def shape(x, w, b=None):
        expect(x[3] == w[1], "a convolution's image and weights differ in channels", x, w)
        expect(b is None or tuple(b) == (w[0],), "a convolution's weights and bias differ in channels", w, b or ())
        fits = not exact or x[1] % stride == x[2] % stride == 0
        expect(fits, f"a convolution of stride {stride} needs sides divisible by it", x)
        height, width = (_side(side, kernel, stride, padding) for side in x[1:3])
        expect(min(height, width) > 0, f"an image smaller than the convolution of size {kernel}", x)
        return (x[0], height, width, w[0])

    if not bias:
        weights = operator(f"conv_weights{geometry}", weight_shape, kind=kind)

        def bprop(x, w, out, dout):
            return data(dout, w, x), weights(x, dout)

        return operator(f"conv{geometry}", shape, bprop=bprop, kind=kind)

    weights_bias = operator(f"conv_weights_bias{geometry}", lambda x, dy: (weight_shape(x, dy), (dy[3],)), 2, kind=kind)

    def bprop_bias(x, w, b, out, dout):
        dw, db = weights_bias(x, dout)
        return data(dout, w, x), dw, db

    return operator(f"conv_bias{geometry}", shape, bprop=bprop_bias, kind=kind)


@functools.cache
def conv_transpose(kernel: int, stride: int, padding: int, more: tuple[int, int], bias: bool) -> ops.Custom:
    """(x (B, H, W, D), w (D, C, K, K)[, b (C,)]) -> (B, H', W', C), H' = (H - 1) stride - 2 padding + K + more[0].

    ``more`` is the output padding of each side, 0 to stride - 1.
    """
    geometry = _geometry(kernel, stride, padding)
    kind = f"{kernel}{geometry}_{more[0]}_{more[1]}"
    data = operator(
        f"conv{geometry}",
        lambda dy, w: (dy[0], *(_side(side, kernel, stride, padding) for side in dy[1:3]), w[0]),
        kind=f"of {kind}",
    )

    def shape(x, w, b=None):
        expect(x[3] == w[0], "a transposed convolution's image and weights differ in channels", x, w)
        fits = b is None or tuple(b) == (w[1],)
        expect(fits, "a transposed convolution's weights and bias differ in channels", w, b or ())
        sides = (x[1], more[0]), (x[2], more[1])
        height, width = ((side - 1) * stride - 2 * padding + kernel + extra for side, extra in sides)
        expect(min(height, width) > 0, f"an image that a padding of {padding} leaves nothing of", x)
        return (x[0], height, width, w[1])

    def weight_shape(dy, x):
        return (x[3], dy[3], kernel, kernel)

    if not bias:
        weights = operator(f"conv_weights{geometry}", weight_shape, kind=f"of {kind}")

        def bprop(x, w, out, dout):
            return data(dout, w), weights(dout, x)

        return operator(f"conv_data{geometry}", shape, bprop=bprop, kind=kind)

    weights_bias = operator(
        f"conv_weights_data_bias{geometry}", lambda dy, x: (weight_shape(dy, x), (dy[3],)), 2, kind=kind
    )

    def bprop_bias(x, w, b, out, dout):
        dw, db = weights_bias(dout, x)
        return data(dout, w), dw, db

    return operator(f"conv_data_bias{geometry}", shape, bprop=bprop_bias, kind=kind)
