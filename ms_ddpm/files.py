"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import UserError

WRITING = ".writing-"  # what half-written files and directories are called


def sync(path: Path) -> None:
    """Makes sure that a file's bytes, or a directory's entries, are on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file beside ``path`` that replaces ``path`` when the block ends well and vanishes when it does not.

    Raises:
        UserError: ``path`` cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f"{WRITING}{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        # A parent that is a file makes unlink raise NotADirectoryError, and then there is nothing to remove.
        if beside.parent.is_dir():
            beside.unlink(missing_ok=True)


def write_atomically(path: str | Path, data: bytes) -> None:
    """`atomic` for bytes that are there already."""
    with atomic(path) as file:
        file.write(data)
