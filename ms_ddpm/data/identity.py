"""By what a checkpoint knows its data set: how many images of which shape, their names, sizes and bytes.

Names are relative to the data set's folder, so a data set that was moved is the same one. Free of MindSpore.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import one_line, quoted
from . import ImageSource

LOOKED_INTO = 1000  # files or images whose bytes count
ASKED_FOR_SIZE = 100_000  # files; of more, those that are looked into alone
READ = 1 << 26  # bytes of one file
_CALCULATED = 100  # images that something has to make first, a user's object or a change of size
_MADE_TWICE = 64  # loads that must agree before images count as the same each time


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _rank(name: str) -> tuple[int, str]:
    """By this files are chosen: a file that goes or comes changes the choice by one."""
    return zlib.crc32(name.encode(errors="surrogateescape")), name


def _content(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return f"{os.fstat(file.fileno()).st_size} {_digest(file.read(READ))}"
    except OSError:
        return "unreadable"


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _of_files(files: Mapping[str, Path]) -> dict[str, Any]:
    chosen = heapq.nsmallest(LOOKED_INTO, files, key=_rank)
    facts = {
        "names": _digest("\0".join(files).encode(errors="surrogateescape")),
        "files": {name: _content(files[name]) for name in sorted(chosen)},
    }
    if len(files) <= ASKED_FOR_SIZE:
        facts["sizes"] = _digest(repr([_size(path) for path in files.values()]).encode())
    return facts


def _pixels(source: ImageSource, most: int) -> str:
    """A digest of at most ``most`` images, evenly chosen."""
    total = hashlib.sha256()
    for index in np.linspace(0, len(source) - 1, min(len(source), most)).round().astype(int):
        total.update(source.get(int(index)).tobytes())
    return total.hexdigest()[:16]


def _of_images(source: ImageSource) -> dict[str, Any]:
    """Digests of some images; none where chance changes them each time, a flip by the toss of a coin among others."""
    facts = {"pixels": _pixels(source, _CALCULATED)}
    if source.is_array:
        return facts | ({"more pixels": _pixels(source, LOOKED_INTO)} if len(source) > _CALCULATED else {})
    again = max(1, -(-_MADE_TWICE // min(len(source), _CALCULATED)))
    return facts if all(_pixels(source, _CALCULATED) == facts["pixels"] for _ in range(again)) else {}


def facts_of(source: ImageSource) -> dict[str, Any]:
    """The facts of ``source``, in the types of JSON. ``source.identity``, where it is set, says what they are."""
    if source.identity is not None:
        return dict(source.identity)
    labels = None if source.labels is None else _digest(np.asarray(source.labels, np.int32).tobytes())
    facts = {"images": len(source), "shape": list(source.shape), "labels": labels}
    files = source.files()
    return facts | (_of_images(source) if files is None else _of_files(files))


def unreadable(source: ImageSource) -> dict[str, list[str]]:
    """Names of files that were skipped so far, for when one of them is gone: people delete what a warning names."""
    files = source.files()
    if not files or not source.skipped:
        return {}
    return {"unreadable": [name for name, path in files.items() if str(path) in source.skipped][:LOOKED_INTO]}


def changes(before: Mapping[str, Any], now: Mapping[str, Any], source: ImageSource) -> list[str]:
    """What is different about ``source``, whose facts are ``now``, in phrases; the most telling ones first."""
    named = [
        f"{word} was {quoted(before[key])}, now {quoted(now[key])}"
        for key, word in (("images", "images"), ("shape", "shape of the images"))
        if key in before and key in now and before[key] != now[key]
    ]
    files = source.files()
    if files is not None and isinstance(before.get("files"), dict) and "files" in now:
        named += _changed_files(before, now, files)
    if named:
        return named
    other = [key for key in now if key in before and before[key] != now[key]]
    words = {"labels": "its labels", "names": "the names of its files", "sizes": "the sizes of its files",
             "pixels": "its pixels", "more pixels": "its pixels"}  # fmt: skip
    return [f"{word} differ from the run's" for word in dict.fromkeys(words.get(key, key) for key in other)]


def _changed_files(before: Mapping[str, Any], now: Mapping[str, Any], files: Mapping[str, Path]) -> list[str]:
    old, new = before["files"], now["files"]
    skipped = before.get("unreadable")
    known = [*old, *(name for name in skipped if name not in old)] if isinstance(skipped, list) else list(old)
    gone = [name for name in known if name not in files]
    # Of more files than are looked into, a new one is known by its rank: it would have been among the chosen.
    last = max(map(_rank, old), default=(0, "")) if len(old) >= LOOKED_INTO else None
    come = [name for name in new if name not in old and (last is None or _rank(name) < last)]
    other = [name for name in new if name in old and old[name] != new[name]]
    found = []
    for names, what in ((gone, "gone"), (come, "new"), (other, "another file than it was")):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            found.append(f"{one_line(names[0])} is {what}{more}")
    return found
