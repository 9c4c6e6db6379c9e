"""What can go wrong with the harness itself, each with its exit code. Never green."""

from __future__ import annotations

import re
import reprlib

AGREE, DIFFER, BROKEN, NOTHING_RAN = 0, 1, 2, 3
_LONG_WORD = re.compile(r"\S{301,}")  # a path, a number: cut in the middle

_repr = reprlib.Repr()
_repr.maxlevel = 3
_repr.maxlist = 10
_repr.maxtuple = 10
_repr.maxdict = 5
_repr.maxstring = _repr.maxother = 80
_repr.maxlong = 50


def one_line(text: object) -> str:
    """``text`` as one line: control characters, line breaks and lone surrogates escaped, very long words cut."""
    escaped = "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode() for ch in str(text))
    return _LONG_WORD.sub(lambda match: f"{match[0][:200]}...{match[0][-60:]}", escaped)


def reason_of(error: BaseException) -> str:
    """What ``error`` says of why a file could not be read or written, in one line of at most 200 characters."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    line = one_line(text)
    return line if len(line) <= 200 else f"{line[:200]}..."


def quoted(value: object) -> str:
    """``repr(value)``, short whatever the value is: a deep nest, a number of ten thousand digits."""
    try:
        return one_line(_repr.repr(value))
    except ValueError:  # Python refuses to write out integers of more than 4300 digits
        return f"a {type(value).__name__} that is too long to show"


class HarnessError(Exception):
    """The harness or a bundle is broken, or was asked for what does not exist. Its message is one line."""

    exit_code = BROKEN

    def __init__(self, message: object):
        super().__init__(one_line(message))


class UnknownCase(HarnessError):
    """No case has that name."""


class BundleError(HarnessError):
    """A bundle that is stale, cut short or not a bundle."""


class NothingRan(HarnessError):
    """An empty selection, or a framework that is not there."""

    exit_code = NOTHING_RAN
