"""Where MindSpore's compiler fails: one line, and everything it leaves behind in one place."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError, first_line, one_line

# MindSpore writes analyze_fail.ir below $MS_OM_PATH/rank_N/om/, or below the working directory; it reads the variable
# when it fails (2.10), so that it may be set late
VARIABLE = "MS_OM_PATH"
_MARKS = ("- The Traceback of Net Construct Code:", "- C++ Call Stack: (For framework developers)")
_LONGEST = 200


class GraphError(RuntimeError):
    """A graph that MindSpore could not compile or run: one line, which names the file that holds its whole message."""


class _Block:
    """A ``with`` block of `graph_errors`: where its reports go, and whose it is."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.thread = threading.get_ident()


_guard = threading.Lock()
_blocks: list[_Block] = []  # of all threads; the variable is the process's, and the latest block has it
_chosen: str | None = None  # the variable as the user set it


def _point() -> None:
    if _chosen is None and _blocks:
        os.environ[VARIABLE] = str(_blocks[-1].folder.absolute())
    elif _chosen is None:
        os.environ.pop(VARIABLE, None)


@contextmanager
def graph_errors(folder: Path | None = None) -> Iterator[None]:
    """Inside the ``with`` block a graph that fails raises GraphError, and MindSpore's reports go to ``folder``.

    MindSpore's own message is 40 to 160 lines and its analyze_fail.ir goes to the working directory. Both are kept, in
    ``folder`` (default: one for temporary files), which is made where they are written. A $MS_OM_PATH that the user set
    stays.

    Raises:
        GraphError: from MindSpore's error, whatever its type; errors of other kinds pass.
    """
    global _chosen
    block = _Block(Path(tempfile.gettempdir()) / f"ms_ddpm-compiler-{os.getpid()}" if folder is None else folder)
    with _guard:
        if not _blocks:
            _chosen = os.environ.get(VARIABLE)
        _blocks.append(block)
        _point()
    try:
        yield
    except (UserError, GraphError):
        raise
    except Exception as error:
        if not any(mark in str(error) for mark in _MARKS):
            raise
        said = first_line(error)
        said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."
        text = one_line(f"MindSpore could not compile or run a graph: {said}{_kept(block.folder, error)}")
        raise GraphError(text) from error
    finally:
        with _guard:
            _blocks.remove(block)
            _point()


def reports_to(folder: Path) -> None:
    """From now on, in this thread's innermost block, reports go to ``folder``: a command has found where it writes."""
    with _guard:
        own = [block for block in _blocks if block.thread == threading.get_ident()]
        if own:
            own[-1].folder = folder
            _point()


def _kept(folder: Path, error: Exception) -> str:
    """Writes the whole message to ``folder``; where, to follow a sentence, or nothing if that cannot be."""
    path = folder / "error.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return f"; its whole message is in {path}"
