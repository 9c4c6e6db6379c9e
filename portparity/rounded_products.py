"""TF32 and HF32 on a CPU: float32 products whose operands are rounded first, forward and backward.

Tensor cores and Ascend's cube units round both operands of a product to 10 or 11 bits after the point, multiply
exactly and add in float32 (NVIDIA A100 whitepaper, "TF32"; CANN, "HF32"). Here the operands are rounded to nearest and
the product is PyTorch's. Biases are added in float32, and everything else is untouched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .case import Arrays

BITS = {"tf32": 10, "hf32": 11}  # after the point; float32 has 23
_aten = torch.ops.aten
OPERANDS = {  # which arguments of an operator are multiplied with each other
    _aten.convolution: (0, 1), _aten.convolution_overrideable: (0, 1), _aten.convolution_backward: (0, 1, 2),
    _aten.mkldnn_convolution: (0, 1), _aten.mm: (0, 1), _aten.bmm: (0, 1), _aten.addmm: (1, 2), _aten.baddbmm: (1, 2),
    _aten.addbmm: (1, 2), _aten.mv: (0, 1), _aten.dot: (0, 1),
}  # fmt: skip


def rounded(x: torch.Tensor, bits: int) -> torch.Tensor:
    """float32 x to the nearest number with ``bits`` bits after the point, ties to even; NaN and Inf stay."""
    drop = 23 - bits
    raw = x.contiguous().view(torch.int32)
    nearest = (raw + ((1 << (drop - 1)) - 1) + ((raw >> drop) & 1)) & -(1 << drop)
    return torch.where(torch.isfinite(x), nearest.view(torch.float32).reshape(x.shape), x)


class _RoundedProducts(TorchDispatchMode):
    def __init__(self, bits: int):
        super().__init__()
        self.bits = bits

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        operands = OPERANDS.get(func.overloadpacket, ())
        args = tuple(
            rounded(value, self.bits) if i in operands and value.dtype == torch.float32 else value
            for i, value in enumerate(args)
        )
        return func(*args, **(kwargs or {}))


def rounded_products(dtype: str) -> AbstractContextManager:
    """The context in which products are rounded as ``dtype`` says: as they are, but for "tf32" and "hf32"."""
    return _RoundedProducts(BITS[dtype]) if dtype in BITS else nullcontext()


def with_rounded_products(run: Callable) -> Callable:
    """The same leg; with ``dtype`` "tf32" or "hf32" its products are rounded."""

    @functools.wraps(run)
    def leg(spec: Mapping, inputs: Arrays, dtype: str = "float32", **options) -> Arrays:
        with rounded_products(dtype):
            return run(spec, inputs, dtype=dtype, **options)

    return leg
