"""Reading what somebody else made: regular files only, and sizes believed only as far as there is memory.

A device or a pipe under the name of a file would hang the reader or fill the memory; so would a small archive that
unpacks to a thousand times its size. Nothing is unpickled.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..devices import memory

MAX_TEXT = 64 << 20  # bytes of a JSON file that is read whole


def check_regular(path: str | Path) -> int:
    """The size of the file ``path`` in bytes. Raises OSError where it is missing, a folder, a device or a pipe."""
    try:
        found = os.stat(path)
    except ValueError as error:  # a null byte in the name
        raise OSError(22, str(error)) from None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(22, "Is a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file")
    return found.st_size


def read_bytes(path: str | Path, limit: int | None = None) -> bytes:
    """The contents of the regular file ``path``.

    Raises OSError where it cannot be read or is larger than ``limit`` bytes, UserError where memory does not suffice.
    """
    size = check_regular(path)
    if limit is not None and size > limit:
        raise OSError(27, f"{memory.readable(size)}, expected at most {memory.readable(limit)}")
    memory.require(size, f"reading {path}", "free some, or give a smaller file")
    with open(path, "rb") as file:
        return file.read(size + 1)


def read_text(path: str | Path, limit: int = MAX_TEXT) -> str:
    """The UTF-8 text of the regular file ``path``. Raises OSError as `read_bytes`, UnicodeDecodeError."""
    return read_bytes(path, limit).decode("utf-8")


def read_npz(path: Path, choose: Callable[[list[str]], list[str]], copies: int = 1) -> tuple[list[str], dict]:
    """(all names, the arrays that ``choose`` picks from them) of an .npz file.

    Args:
        path: a regular file.
        choose: gets the names in the archive, gives those to read.
        copies: how many times the arrays' size must fit into memory.

    Raises OSError, UserError where memory does not suffice, and, where the file is damaged, exceptions of any type:
    numpy's header parser and zipfile let a dozen through, tokenize.TokenError among them.
    """
    check_regular(path)
    with np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array, not an archive")
        names = [name for name in archive.files if isinstance(name, str)]
        wanted = choose(names)
        # What is unpacked is cut at the size that the archive declares, so that is the size to believe.
        members = {info.filename: info.file_size for info in archive.zip.infolist()}
        size = sum(members.get(f"{name}.npy", members.get(name, 0)) for name in wanted)
        memory.require(copies * size, f"reading {path}", "free some, or split the file")
        return names, {name: _array(archive, name) for name in wanted}


def _array(archive, name: str) -> np.ndarray:
    array = archive[name]  # which refuses Python objects, as they are pickled
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} is no array")
    return array
