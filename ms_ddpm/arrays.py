"""Numpy arrays where tensors go: taken at the public calls, so that what `draw` and a data set give can be passed on.

`TakesArrays` is the base of every Cell of ours that a user calls, `takes_arrays` stands on its public methods. Floating
arrays become float32 tensors, whole numbers int32; what is neither, or in the wrong place, is an error of one line.
Tensors, flags and None pass as they are.

None of this is in a compiled graph: of a Cell MindSpore compiles ``construct``, of a decorated function what it wraps
(2.10: ``Parser`` begins with ``inspect.unwrap``; `tests/test_arrays.py` would show another rule).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from .errors import UserError

F = TypeVar("F", bound=Callable)
FLOATS = (ms.float32, ms.float16, ms.bfloat16)


def tensor_of(value: Any, name: str, whole: bool | None = False) -> Any:
    """A numpy array or number as a Tensor, float32 or int32; anything else as it is.

    Args:
        value: what was given as the argument ``name``.
        whole: True takes whole numbers alone, False floating-point ones alone, None both.

    Raises:
        UserError: for an array of another kind, and for whole numbers beyond int32.
    """
    if isinstance(value, np.bool_):
        return bool(value)
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    kind = value.dtype.kind
    if kind == "f" and whole is not True:
        return Tensor(np.asarray(value, np.float32, order="C"))
    if kind in "iub" and whole is not False:
        small = np.asarray(value).astype(np.int32, order="C")
        if not np.array_equal(small, value):
            raise UserError(f"{name} holds numbers beyond int32, expected at most {np.iinfo(np.int32).max}")
        return Tensor(small)
    expected = {True: "whole numbers", False: "floating-point numbers", None: "numbers"}[whole]
    hint = "; divide pixels of 0 to 255 by 255" if value.dtype == np.uint8 else ""
    raise UserError(f"{name} is an array of {value.dtype} {value.shape}, expected {expected}{hint}")


def float_tensor(value: Any, name: str) -> Tensor:
    """A floating-point Tensor as it is, and a floating-point array as a float32 Tensor.

    Raises UserError for what is neither, ``name`` being what it was given as.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        value = Tensor(np.ascontiguousarray(value, np.float32))
    if not isinstance(value, Tensor) or value.dtype not in FLOATS:
        found = value.dtype if isinstance(value, (Tensor, np.ndarray)) else type(value).__name__
        raise UserError(f"{name} is {found}, expected a Tensor of float32, float16 or bfloat16")
    return value


def _has_arrays(args: tuple, kwargs: Mapping[str, Any]) -> bool:
    return any(isinstance(value, (np.ndarray, np.generic)) for value in (*args, *kwargs.values()))


def _converted(
    names: tuple[str, ...], args: tuple, kwargs: Mapping[str, Any], whole: Collection[str], either: Collection[str]
) -> tuple[list, dict[str, Any]]:
    """Positional ``args``, called ``names`` (the last name is that of all further ones), and ``kwargs`` as tensors."""

    def one(name: str, value: Any) -> Any:
        return tensor_of(value, name, None if name in either else name in whole)

    named = (*names, *names[-1:] * (len(args) - len(names)))
    positional = [one(name, value) for name, value in zip(named, args, strict=False)]
    return positional, {name: one(name, value) for name, value in kwargs.items()}


class TakesArrays(nn.Cell):
    """A Cell that is called with numpy arrays as well as with tensors.

    Attributes:
        whole_numbers: names of the arguments, of ``construct`` and of every method that `takes_arrays`, that are whole
            numbers.
        any_numbers: names of those that may be either; all others are floating-point.
    """

    whole_numbers: Collection[str] = frozenset({"t", "labels", "y", "dropped", "dropout_key"})
    any_numbers: Collection[str] = frozenset()

    def argument_names(self) -> tuple[str, ...]:
        """What the positional arguments of a call are called."""
        return tuple(inspect.signature(self.construct).parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _has_arrays(args, kwargs):
            args, kwargs = _converted(self.argument_names(), args, kwargs, self.whole_numbers, self.any_numbers)
        return super().__call__(*args, **kwargs)


def takes_arrays(function: F) -> F:
    """Makes a method of a `TakesArrays`, or a plain function of floating-point arguments, take numpy arrays."""
    names = tuple(inspect.signature(function).parameters)
    method = names[:1] == ("self",)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _has_arrays(args, kwargs):
            return function(*args, **kwargs)
        first = args[:1] if method else ()
        whole, either = (args[0].whole_numbers, args[0].any_numbers) if method else ((), ())
        positional, named = _converted(names[len(first) :], args[len(first) :], kwargs, whole, either)
        return function(*first, *positional, **named)

    return call
