"""Files written whole or not at all, and files of others read with care: regular ones only, and none without end."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from .errors import HarnessError

MAX_TEXT = 64 << 20  # bytes of a JSON file that is read whole


def write_atomically(path: str | Path, data: bytes) -> None:
    """Writes ``data`` beside ``path`` and puts it in its place. Raises HarnessError where that cannot be done."""
    path = Path(path)
    beside = path.with_name(f".writing-{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise HarnessError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # nothing to remove where the parent is a file
            beside.unlink(missing_ok=True)


def read_bytes(path: str | Path, limit: int | None = None) -> bytes:
    """The contents of the regular file ``path``: a pipe or a device under its name would hang the reader.

    Raises OSError where it cannot be read, is larger than ``limit`` bytes or than memory.
    """
    try:
        found = os.stat(path)
    except ValueError as error:  # a null byte in the name
        raise OSError(22, str(error)) from None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(22, "Is a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file")
    if limit is not None and found.st_size > limit:
        raise OSError(27, f"{found.st_size} bytes, expected at most {limit}")
    try:
        with open(path, "rb") as file:
            return file.read(found.st_size + 1)
    except (MemoryError, OverflowError):
        raise OSError(12, f"{found.st_size} bytes, more than there is memory") from None


def read_text(path: str | Path, limit: int = MAX_TEXT) -> str:
    """The UTF-8 text of the regular file ``path``. Raises OSError as `read_bytes`, UnicodeDecodeError."""
    return read_bytes(path, limit).decode("utf-8")
