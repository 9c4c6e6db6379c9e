"""Folders of images: which files there are, which were left out and why, and the classes they stand for."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError, one_line
from .reading import SUFFIXES

log = logging.getLogger("ms_ddpm")

SHOWN = 5  # kinds of what was left out


class LeftOut:
    """What a search did not take: how many of each kind, and the first of each by name."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.kinds: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, path: str) -> None:
        """Counts ``path`` as one of ``kind``."""
        count, first = self.kinds.get(kind) or (0, os.path.relpath(path, self.folder))
        self.kinds[kind] = count + 1, first

    def __str__(self) -> str:
        kinds = sorted(self.kinds.items(), key=lambda item: -item[1][0])
        shown = [f"{count} {kind} ({one_line(first)}{', ...' if count > 1 else ''})" for kind, (count, first) in kinds]
        return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more kinds" if len(shown) > SHOWN else "")


def image_paths(folder: Path) -> tuple[list[Path], LeftOut]:
    """The image files in ``folder`` and the folders below it, sorted by path, and what was left out.

    Links to folders are followed, unless they lead to a folder that is searched anyway or holds the link. Hidden files
    and folders are left out and not counted.

    Raises:
        OSError: ``folder`` itself cannot be read; what cannot be read below it is left out.
    """
    paths, left_out = [], LeftOut(folder)
    above = [folder.resolve(), *folder.resolve().parents]
    seen = {_identity(path) for path in above}
    waiting, links = [str(folder)], []  # links come last: a folder is known by its own name where it has one
    while waiting or links:  # not recursive: folders may be nested more deeply than Python's stack
        path = waiting.pop() if waiting else links.pop(0)
        try:
            if path != str(folder):
                identity = _identity(path)
                if identity in seen:
                    left_out.add("links to folders that are searched anyway", path)
                    continue
                seen.add(identity)
            with os.scandir(path) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if path == str(folder):
                raise
            left_out.add(f"unreadable folders: {error.strerror}", path)
            continue
        for entry in found:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    (links if entry.is_symlink() else waiting).append(entry.path)
                elif Path(entry.name).suffix.lower() not in SUFFIXES:
                    left_out.add(f"{one_line(Path(entry.name).suffix.lower()[:20]) or 'nameless'} files", entry.path)
                elif entry.is_file():
                    paths.append(Path(entry.path))
                else:
                    left_out.add("that are no files", entry.path)
            except OSError as error:  # a link to itself, a path that is too long
                left_out.add(f"unreadable: {error.strerror}", entry.path)
    return sorted(paths), left_out


def _identity(path: str | Path) -> tuple[int, int] | str:
    found = os.stat(path)
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)  # some file systems number none


def classes(folder: Path, paths: Sequence[Path]) -> tuple[list[str], np.ndarray]:
    """(names, labels int32 (N,)): each image's class is the folder in ``folder`` that it is in, numbered by name.

    Raises:
        UserError: for images that are in none.
    """
    places = [path.relative_to(folder).parts for path in paths]
    outside = [path for path, parts in zip(paths, places, strict=True) if len(parts) == 1]
    if outside:
        raise UserError(
            f"labels_from is folders, but {len(outside)} of the {len(paths)} images of {folder} are in no class "
            f"folder, the first is {outside[0].name}; move them, or set labels_from to files"
        )
    names = sorted({parts[0] for parts in places})
    numbers = {name: number for number, name in enumerate(names)}
    return names, np.array([numbers[parts[0]] for parts in places], np.int32)


def check_classes(names: Sequence[str], num_classes: int) -> None:
    """Raises UserError unless there are ``num_classes`` class folders ``names``."""
    if len(names) != num_classes:
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise UserError(
            f"num_classes is {num_classes}, but there are {len(names)} class folders with images: {shown}; "
            f"set num_classes to {len(names)}, or labels_from to files"
        )


class Frames:
    """Counts the frames and pages beyond the first, of which no image is made.

    Files are only known when they are read: a line names the first, another says how many there were once each of the
    ``count`` files was read.
    """

    def __init__(self, folder: Path, count: int):
        self.folder = folder
        self._unread = np.ones(count, bool)
        self._left = count
        self._files = 0
        self._frames = 0
        self._lock = threading.Lock()

    def counter(self, index: int, path: Path) -> Callable[[int], None] | None:
        """What to call with the frames of file ``index``; None where that was done."""
        return (lambda frames: self._count(index, path, frames)) if self._unread[index] else None

    def _count(self, index: int, path: Path, frames: int) -> None:
        with self._lock:
            if not self._unread[index]:
                return
            self._unread[index] = False
            self._left -= 1
            self._files += frames > 1
            self._frames += frames - 1
            if frames > 1 and self._files == 1:
                log.warning("left out of %s: %d further frames or pages of %s; the first of a file is its image",
                            self.folder, frames - 1, one_line(path.name))  # fmt: skip
            if not self._left and self._files > 1:
                log.warning("left out of %s: %d further frames or pages in all, of %d files",
                            self.folder, self._frames, self._files)  # fmt: skip
