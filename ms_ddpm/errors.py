"""Errors that are the user's to mend. Scripts print them as one line and exit with code 2."""

from __future__ import annotations

import re
import reprlib
from typing import Any

_WORD = 300  # a longer run of characters without a space is cut in the middle: a path, a number, a tag
_LONG_WORD = re.compile(rf"\S{{{_WORD + 1},}}")

_repr = reprlib.Repr()
_repr.maxlevel = 3
_repr.maxlist = 10
_repr.maxtuple = 10
_repr.maxdict = 5
_repr.maxstring = _repr.maxother = 80
_repr.maxlong = 50


def one_line(text: object) -> str:
    """``text`` as one line: control characters, line breaks and lone surrogates escaped, very long words cut."""
    escaped = "".join(
        ch if ch.isprintable() else " " if ch == "\u3000" else ch.encode("unicode_escape").decode() for ch in str(text)
    )
    return _LONG_WORD.sub(lambda match: f"{match[0][:200]}...{match[0][-60:]}", escaped)


def first_line(error: BaseException) -> str:
    """The first line of what ``error`` says; of MindSpore's thirty the one that says what is wrong."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def reason_of(error: BaseException) -> str:
    """What ``error`` says of why a file could not be read or written, in one line of at most 200 characters."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    line = one_line(text)
    return line if len(line) <= 200 else f"{line[:200]}..."


def described(error: BaseException) -> str:
    """The type of ``error`` and the first line of what it says, in one line."""
    lines = str(error).strip().splitlines()
    return one_line(f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__)


def quoted(value: Any) -> str:
    """``repr(value)``, short whatever the value is: a nest of aliases, a number of ten thousand digits."""
    try:
        return one_line(_repr.repr(value))
    except ValueError:  # Python refuses to write out integers of more than 4300 digits
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"


class UserError(ValueError):
    """Bad input: the message names the value, what was expected and what to do. It is always one line."""

    def __init__(self, message: object):
        super().__init__(one_line(message))


class NonFiniteError(RuntimeError):
    """Too many steps in a row had a loss or gradient that is not finite."""


def require_positive(**values: int) -> None:
    """Raises UserError for the first of ``values`` below 1."""
    for name, value in values.items():
        if value < 1:
            raise UserError(f"{name} is {value}, expected at least 1")
