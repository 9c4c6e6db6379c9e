"""The source of a function is looked up once, however many Cells share it."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import types

PARSER = "mindspore.graph._parse.parser"

_found: dict[types.CodeType, tuple[list[str], int]] = {}


def getsourcelines(thing: object) -> tuple[list[str], int]:
    """`inspect.getsourcelines`; of a function or method it is asked once."""
    code = getattr(getattr(thing, "__func__", thing), "__code__", None)
    if code is None:
        return inspect.getsourcelines(thing)
    if code not in _found:
        _found[code] = inspect.getsourcelines(thing)
    lines, first = _found[code]
    return list(lines), first


def remember() -> None:
    """Gives MindSpore's parser a ``getsourcelines`` with a memory.

    Why: it parses the ``construct`` of every Cell, and for each `inspect` splits the rest of the file into tokens
    anew: of a small U-Net 320 times for 30 functions, a seventh of what compiling it takes (2.10).
    Still needed? `tests/ops/test_ops.py::test_the_parser_still_looks_up_the_source_of_every_cell`. Where the parser is
    elsewhere, it is left alone.
    """
    with contextlib.suppress(ImportError):
        parser = importlib.import_module(PARSER)
        if getattr(parser, "inspect", None) is inspect:
            remembering = types.ModuleType("inspect", "`inspect`, with a memory for sources; see ms_ddpm.ops")
            vars(remembering).update({**vars(inspect), "getsourcelines": getsourcelines})
            parser.inspect = remembering
