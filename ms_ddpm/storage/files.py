"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import UserError, reason_of

WRITING = ".writing-"  # what half-written files and directories are called


def sync(path: Path) -> None:
    """Makes sure that a file's bytes, or a directory's entries, are on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Creates ``path`` and what is missing above it so that a loss of power cannot take it away again."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def output_directory(path: str | Path) -> Path:
    """The directory ``path``, created. Raises UserError where that cannot be done."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError, RecursionError) as error:  # pathlib makes a chain of a thousand parents recursively
        raise UserError(
            f"cannot write to output directory {folder}: {reason_of(error)}; choose another --output_dir"
        ) from None
    return folder


def check_writable(*directories: Path) -> None:
    """Raises UserError for the first of ``directories``, of those that exist, in which no file can be made."""
    for directory in directories:
        if directory.is_dir():
            probe = directory / f"{WRITING}probe"
            write_atomically(probe, b"")
            probe.unlink(missing_ok=True)


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
        # Nothing to remove where the parent is a file; nothing to be done about a disk that has just become read-only.
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def write_atomically(path: str | Path, data: bytes | memoryview) -> None:
    """`atomic` for bytes that are there already."""
    with atomic(path) as file:
        file.write(data)
