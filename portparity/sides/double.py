"""PyTorch in double throughout, as the truth must be: also where the original says float32 itself.

`module.double()` is not enough. An original that says ``x.float()``, ``dtype=torch.float32`` or keeps a table in
float32 would compute its "truth" in float32: its own error reads 0 and a correct port differs. Inside `Double` every
float is a double, whoever asks for less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

LESS = (torch.float32, torch.float16, torch.bfloat16)
CASTS = (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16)
NAMED = ("torch.FloatTensor", "torch.HalfTensor", "torch.BFloat16Tensor")  # what Tensor.type takes too


def _raised(value: Any) -> Any:
    if isinstance(value, torch.dtype) and value in LESS:
        return torch.float64
    return "torch.DoubleTensor" if isinstance(value, str) and value in NAMED else value


class _EveryFloatIsDouble(TorchFunctionMode):
    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if function in CASTS:
            return args[0].double()
        given = tuple(_raised(value) for value in args)
        result = function(*given, **{name: _raised(value) for name, value in (kwargs or {}).items()})
        if isinstance(result, torch.Tensor) and result.dtype in LESS and not any(result is value for value in given):
            return result.double()  # a random draw, an array of numpy's
        return result


@contextmanager
def double() -> Iterator[None]:
    """Everything in it is built and computed in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _EveryFloatIsDouble():
            yield
    finally:
        torch.set_default_dtype(before)
