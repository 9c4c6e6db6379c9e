"""Where MindSpore's compiler fails: one line, and everything it leaves behind in one place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError, first_line, one_line

# MindSpore writes analyze_fail.ir below $MS_OM_PATH/rank_N/om/, or below the working directory; it reads the variable
# when it fails (2.10), so that it may be set late
VARIABLE = "MS_OM_PATH"
_MARKS = ("- The Traceback of Net Construct Code:", "- C++ Call Stack: (For framework developers)")
_LONGEST = 200
_own: str | None = None  # what a block has set the variable to


class GraphError(RuntimeError):
    """A graph that MindSpore could not compile or run: one line, which names the file that holds its whole message."""


@contextmanager
def graph_errors(folder: Path | None = None) -> Iterator[None]:
    """Inside the ``with`` block a graph that fails raises GraphError, and MindSpore's reports go to ``folder``.

    MindSpore's own message is 40 to 160 lines and its analyze_fail.ir goes to the working directory. Both are kept, in
    ``folder`` (default: one for temporary files), which is made where they are written. A $MS_OM_PATH that the user set
    stays.

    Raises:
        GraphError: from MindSpore's error, whatever its type; errors of other kinds pass.
    """
    global _own
    before, own_before = os.environ.get(VARIABLE), _own
    reports_to(Path(tempfile.gettempdir()) / f"ms_ddpm-compiler-{os.getpid()}" if folder is None else folder)
    try:
        yield
    except (UserError, GraphError):
        raise
    except Exception as error:
        if not any(mark in str(error) for mark in _MARKS):
            raise
        said = first_line(error)
        said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."
        raise GraphError(one_line(f"MindSpore could not compile or run a graph: {said}{_kept(error)}")) from error
    finally:
        _own = own_before
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def reports_to(folder: Path) -> None:
    """From now on, inside the ``with`` block, reports go to ``folder``: a command has found out where it writes."""
    global _own
    if os.environ.get(VARIABLE) == _own:  # not set, or set by a block
        _own = os.environ[VARIABLE] = str(folder.absolute())


def _kept(error: Exception) -> str:
    """Keeps the whole message beside MindSpore's reports; where, to follow a sentence, or nothing if that cannot be."""
    path = Path(os.environ[VARIABLE]) / "error.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return f"; its whole message is in {path}"
