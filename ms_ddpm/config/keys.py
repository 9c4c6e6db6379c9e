"""A key of a configuration, written once: its kind, default, range, choices, help, and whether a run may change it.

A system's configuration is a dataclass whose fields are made by `key`; YAML files, flags, ``--help``, the comparison of
a run with its continuation and the options' page of the documentation are all made from them.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Any

from ..errors import UserError, quoted
from .readers import READERS

MAX_STEPS = 1_000_000  # of sampling, and epochs
DEFAULT_SYSTEM = "diffusion"  # of a configuration that names none


def key(
    default: Any, kind: str, help: str, *, choices: Sequence[str] = (), low: float | None = None,
    high: float | None = None, free: bool = False, flags: Sequence[str] = (),
) -> Any:  # fmt: skip
    """A field of a configuration.

    Args:
        default: its value where nothing is said.
        kind: a key of `readers.READERS`, with "?" behind it where null is allowed.
        help: what ``--help`` says of it.
        choices: all values of a text.
        low, high: the smallest and largest number, of a list: of each.
        free: whether it may differ between a run and its continuation. Everything else would make it another run.
        flags: other names of its flag, beside ``--name``.
    """
    metadata = {
        "kind": kind, "help": help, "choices": tuple(choices), "low": low, "high": high, "free": free,
        "flags": tuple(flags),
    }  # fmt: skip
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def default_of(field: dataclasses.Field) -> Any:
    """The default of a field made by `key`."""
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def in_brackets(default: Any) -> str:
    """The end of a key's help: its ``default`` as one would type it; nothing for None and what is empty."""
    if default is None or default in ([], {}, ""):
        return ""
    if isinstance(default, bool):
        return " [yes]" if default else " [no]"
    return f" [{' '.join(map(str, default)) if isinstance(default, (list, tuple)) else default}]"


def read_value(field: dataclasses.Field, value: Any) -> Any:
    """``value`` of a key, in its type. Raises UserError where it does not fit."""
    name, meta = field.name, field.metadata
    kind = meta["kind"]
    if kind.endswith("?") and (value is None or value in ("null", ["null"])):
        return None
    read, expected = READERS[kind.rstrip("?")]
    try:
        result = read(value)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"configuration key {name} is {quoted(value)}, expected {expected}") from None
    if meta["choices"] and result not in meta["choices"]:
        raise UserError(f"configuration key {name} is {quoted(value)}, expected one of: {', '.join(meta['choices'])}")
    low, high = meta["low"], meta["high"]
    items = result if isinstance(result, list) else [result]
    if low is not None and any(item < low for item in items):
        raise UserError(f"configuration key {name} is {quoted(value)}, expected at least {low:g}")
    if high is not None and any(item > high for item in items):
        raise UserError(f"configuration key {name} is {quoted(value)}, expected at most {high}")
    return result


# Kinds of one value -> how help shows it.
_SCALARS = {"int": "INT", "float": "FLOAT", "str": "STR", "name": "STR", "colour": "COLOUR"}


def add_flags(parser: argparse.ArgumentParser, fields: Iterable[dataclasses.Field], hidden: bool = False) -> None:
    """Adds a flag per field to ``parser`` or a group of it; flags that are not given stay out of the result."""
    for f in fields:
        kind, help = f.metadata["kind"].rstrip("?"), f.metadata["help"].replace("%", "%%")
        options: dict[str, Any] = {
            "default": argparse.SUPPRESS,
            "help": argparse.SUPPRESS if hidden else f"{help}{in_brackets(default_of(f))}",
            "dest": f.name,
        }
        if kind == "bool":
            options["action"] = argparse.BooleanOptionalAction
        elif kind not in _SCALARS:
            options["nargs"] = "+"
        if f.metadata["choices"]:
            options["metavar"] = "{" + ",".join(f.metadata["choices"]) + "}"
        elif kind != "bool":
            options["metavar"] = _SCALARS.get(kind, "X")
        parser.add_argument(f"--{f.name}", *f.metadata["flags"], **options)


def fields_of(kind: type) -> dict[str, dataclasses.Field]:
    """The keys of a configuration class by name."""
    return {f.name: f for f in dataclasses.fields(kind)}
