"""MindSpore on a CPU as a device with TF32, HF32 or bfloat16 would compute: the harness is tested so, no device is.

TF32, HF32: the operands of every convolution, dense layer and attention product are rounded to 10 or 11 bits after the
point before MindSpore multiplies them. bfloat16: level O1, whose convolutions and dense layers take and give 7 bits.
Gradients pass the rounding unchanged: of a backward product one operand is rounded, the cotangent is not. That is less
than a device rounds, and elsewhere than PyTorch's side does (`backends.on_torch`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

from portparity.backends import backend
from portparity.emulate import patched


def _rounded_products(rounded: Callable) -> list:
    from mindspore import ops

    from ms_ddpm.ops import by_operators

    def rounding(kind):
        def make(*args, **options):
            product = kind(*args, **options)
            return lambda a, b: product(rounded(a), rounded(b))

        return staticmethod(make)

    class Ops(SimpleNamespace):
        Conv2D, MatMul, BatchMatMul = rounding(ops.Conv2D), rounding(ops.MatMul), rounding(ops.BatchMatMul)

        def __getattr__(self, name):
            return getattr(ops, name)

    return [mock.patch.object(by_operators, "ops", Ops())]


def _level_o1(rounded: Callable) -> list:
    import mindspore as ms
    from mindspore import ops

    from ms_ddpm import amp
    from ms_ddpm.nn import layers

    def affine(self, x):
        self.compute_dtype = ms.bfloat16  # weight standardisation asks for it
        weight = self.prepared_weight()
        self.compute_dtype = None
        if not self.has_bias:
            return rounded(self.product(rounded(x), rounded(weight)))
        y = rounded(self.product(rounded(x), rounded(weight), 0 * self.bias))
        return rounded(ops.BiasAdd()(y, rounded(self.bias)))

    def apply_amp(cell, level, dtype="float16"):
        if level not in ("O0", "O1"):
            raise NotImplementedError(f"level {level} has no emulation")

    return [
        mock.patch.object(layers.Affine, "affine", affine),
        mock.patch.object(amp, "apply_amp", apply_amp),
    ]


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Inside the ``with`` block MindSpore computes as ``precision`` says: in PyNative mode, without C++ kernels."""
    backend("mindspore")
    from ms_ddpm.ops import kernels

    make = _level_o1 if precision == "bfloat16" else _rounded_products
    with kernels.switched_off(), patched(precision, make):  # a training step takes the kernels where they are
        yield
