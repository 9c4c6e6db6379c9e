"""MindSpore on a CPU as a device with TF32 or HF32 would compute: the harness is tested with it, no device is.

The operands of every convolution, dense layer and attention product are rounded to 10 or 11 bits after the point
before MindSpore multiplies them. Gradients pass the rounding unchanged, so of a backward product one operand is rounded
and the other, the cotangent, is not: less than a device rounds, and elsewhere than `backends.on_torch.products`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from .backends import backend
from .backends._memo import forget

BITS = {"tf32": 10, "hf32": 11, "bfloat16": 7}  # after the point


@contextmanager
def rounded_products(precision: str) -> Iterator[None]:
    """Inside the ``with`` block MindSpore's products are ``precision``'s: in PyNative mode, without the C++ kernels.

    "bfloat16" rounds operands like that type, and results not at all.
    """
    backend("mindspore")
    from mindspore import ops

    from ms_ddpm.nets import attention, layers

    factor = float(2 ** (23 - BITS[precision]) + 1)

    def rounded(x):
        """Dekker's split: the leading bits of x, exactly; for |x| < 2^110."""
        big = x * factor
        return x + ops.stop_gradient((big - (big - x)) - x)

    def around(product):
        def call(self, x, weight):
            return product(self, rounded(x), rounded(weight))

        return call

    def batch_matmul(**options):
        product = ops.BatchMatMul(**options)
        return lambda a, b: product(rounded(a), rounded(b))

    class Ops(SimpleNamespace):
        BatchMatMul = staticmethod(batch_matmul)

        def __getattr__(self, name):
            return getattr(ops, name)

    products = {cell: cell.product for cell in (layers.Conv2d, layers.Linear)}
    forget()
    try:
        for cell, product in products.items():
            cell.product = around(product)
        attention.ops = Ops()
        yield
    finally:
        for cell, product in products.items():
            cell.product = product
        attention.ops = ops
        forget()
