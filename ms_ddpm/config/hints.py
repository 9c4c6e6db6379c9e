"""Whether a value read from JSON is what a constructor's type hint asks for, and what that is in words."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable
from typing import Any

import numpy as np

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}


def as_tuples(value: Any) -> Any:
    """``value`` with tuples for lists, and Python's numbers for numpy's."""
    if isinstance(value, (list, tuple)):
        return tuple(as_tuples(one) for one in value)
    return value.item() if isinstance(value, (np.number, np.bool_)) else value


def fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` is of the type ``hint``: of `WORDS`, tuple[X, ...], Literal or a union of them.

    A whole number is a float too; a bool is no number; a float is finite.
    """
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if kind is typing.Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if kind is tuple:
        return isinstance(value, tuple) and all(fits(one, parts[0]) for one in value)
    if hint is float:
        return type(value) is int or (type(value) is float and math.isfinite(value))
    return type(value) is hint


def in_words(hint: Any) -> str:
    """What `fits` accepts: "a whole number or null", "one of: silu, gelu"."""
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return " or ".join(in_words(part) for part in parts)
    if kind is typing.Literal:
        return f"one of: {', '.join(map(str, parts))}"
    if kind is tuple:
        return f"a list, each {in_words(parts[0])}"
    return WORDS[hint]


def arguments_of(function: Callable) -> dict[str, tuple[Any, Any]]:
    """(type, default) of what can be given to ``function`` by position, ``self`` left out; what is keyword-only is not
    a setting but how it is made."""
    hints = typing.get_type_hints(function)
    by_position = [
        one for one in inspect.signature(function).parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    return {one.name: (hints[one.name], one.default) for one in by_position if one.name != "self"}
