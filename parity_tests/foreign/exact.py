"""MindSpore's elementary functions computed in double and rounded once, for the question whose error it is.

A chain that differs with MindSpore's own and agrees with these is ported rightly: it shows MindSpore's functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np

FUNCTIONS: dict[str, Callable] = {
    **{name: getattr(np, name) for name in ("exp", "log", "expm1", "log1p", "sqrt", "cos", "sin", "tan")},
    "atan": np.arctan,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def _in_double(function: Callable) -> Callable:
    def computed(x: Any, *args: Any, **kwargs: Any) -> Any:
        import mindspore as ms

        given = np.asarray(x.asnumpy() if isinstance(x, ms.Tensor) else x)
        kept = given.dtype if given.dtype.kind == "f" else np.float32
        rest = (arg.asnumpy() if isinstance(arg, ms.Tensor) else arg for arg in args)
        return ms.Tensor(np.asarray(function(given.astype(np.float64), *rest, **kwargs)).astype(kept))

    return computed


def _cumprod(x: np.ndarray, dim: int = 0) -> np.ndarray:
    return np.cumprod(x, dim)


@contextmanager
def exact_functions() -> Iterator[None]:
    """Inside, those of `mint`, of `ops` and of tensors are replaced, and powers and cumulative products."""
    import mindspore as ms

    with ExitStack() as stack:
        for name, function in FUNCTIONS.items():
            for place in (ms.mint, ms.ops, ms.Tensor):
                if hasattr(place, name):
                    stack.enter_context(mock.patch.object(place, name, _in_double(function)))
        stack.enter_context(mock.patch.object(ms.Tensor, "__pow__", _in_double(np.power)))
        stack.enter_context(mock.patch.object(ms.mint, "cumprod", _in_double(_cumprod)))
        yield
