"""Safetensors files too large to be read whole: their tensors one at a time, by memory maps, and written so.

The format: eight bytes that say how long the header is, the header (JSON: each tensor's type, shape and place), the
numbers. https://huggingface.co/docs/safetensors. A tensor is mapped when it is asked for, alone, so that what has been
read does not stay in the process. bfloat16, which numpy lacks, is `floats.BFLOAT16`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError, quoted, reason_of
from . import floats
from .files import atomic
from .foreign_files import SAFETENSORS, kind_of
from .tensorfile import TYPES
from .untrusted import check_regular, read_text

MAX_HEADER = 100_000_000  # bytes, the format's own limit
INDEX = ".safetensors.index.json"
NAMES = {np.dtype(code): name for name, code in TYPES.items()}


class Stored(NamedTuple):
    """Where a tensor lies: ``path``, its type's name there, its shape, the byte at which it begins."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


class Tensors(Mapping):
    """Arrays by name, each read from its file when it is asked for.

    Attributes:
        stored: `Stored` by name: types and shapes without reading.
    """

    def __init__(self, stored: Mapping[str, Stored]):
        self.stored = dict(stored)

    def __getitem__(self, name: str) -> np.ndarray:
        """The tensor ``name``, not to be written to. Raises UserError where its file has become unreadable."""
        path, dtype, shape, offset = self.stored[name]
        count = math.prod(shape)
        if count == 0:  # of nothing there is no map
            return np.empty(shape, TYPES[dtype])
        try:
            flat = np.memmap(path, TYPES[dtype], mode="r", offset=offset, shape=(count,))
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {name} of {path}: {reason_of(error)}") from None
        return np.asarray(flat).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def _place(name: str, entry: Mapping, size: int) -> tuple[str, tuple[int, ...], int]:
    """(type, shape, first byte) of a header's ``entry``. Raises ValueError where that is none, KeyError, TypeError."""
    dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if dtype not in TYPES:
        raise ValueError(f"{name} holds numbers of type {quoted(dtype)}, which numpy does not have")
    if any(type(number) is not int or number < 0 for number in (*shape, start, end)):
        raise ValueError(f"{name} has no shape or place")
    if end - start != math.prod(shape) * np.dtype(TYPES[dtype]).itemsize:
        raise ValueError(f"{name} is {dtype} of shape {shape}, and {end - start} bytes are said to be its own")
    if end > size:
        raise ValueError(f"it is cut short: {name} would end at byte {end} of {size}; copy the file again")
    return dtype, shape, start


def header_of(path: str | Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """(the tensors by name, the metadata) of a safetensors file.

    Raises:
        UserError: no such file, none of this kind, damaged or cut short.
    """
    path = Path(path)
    try:
        size = check_regular(path)
        kind, words = kind_of(path)
        if kind != SAFETENSORS:
            raise ValueError(f"it is {words}" if words else "it is no safetensors file")
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, MAX_HEADER):
                raise ValueError("it is cut short within its header; copy the file again")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", None) or {}
        begin = 8 + length
        places = {name: _place(name, entry, size - begin) for name, entry in header.items()}
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {reason_of(error)}") from None
    return {name: Stored(path, dtype, shape, begin + at) for name, (dtype, shape, at) in places.items()}, metadata


def read_file(path: str | Path) -> Tensors:
    """The tensors of one safetensors file. Raises UserError as `header_of`."""
    return Tensors(header_of(path)[0])


def read_index(path: str | Path) -> Tensors:
    """The tensors of all the files that an index, ``*.safetensors.index.json``, names; they lie beside it.

    Raises:
        UserError: as `header_of`; for an index that is none, or that names what is not in its files.
    """
    path = Path(path)
    try:
        places = json.loads(read_text(path))["weight_map"]
        if not all(type(file) is str and Path(file).name == file for file in places.values()):
            raise ValueError("its weight_map holds what is no file's name")
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is no index of safetensors files: {reason_of(error)}") from None
    files = {file: header_of(path.parent / file)[0] for file in sorted(set(places.values()))}
    for name, file in places.items():
        if name not in files[file]:
            raise UserError(f"{path} says that {file} holds {name}, which it does not; copy both again")
    return Tensors({name: files[file][name] for name, file in places.items()})


def file_name(stem: str, variant: str | None = None) -> str:
    """``stem.safetensors``, ``stem.fp16.safetensors``."""
    return f"{stem}.safetensors" if variant is None else f"{stem}.{variant}.safetensors"


def _index_names(stem: str, variant: str | None) -> list[str]:
    """What diffusers and transformers call the index of several files; they put the variant in different places."""
    if variant is None:
        return [f"{stem}{INDEX}"]
    return [f"{stem}.safetensors.index.{variant}.json", f"{stem}.{variant}{INDEX}"]


def find(folder: Path, stem: str, variant: str | None = None) -> Tensors:
    """The tensors of ``stem[.variant].safetensors`` in ``folder``, or of the files that its index names.

    Raises:
        UserError: neither is there, and what is instead; as `header_of` and `read_index`.
    """
    path = folder / file_name(stem, variant)
    if path.exists():
        return read_file(path)
    for name in _index_names(stem, variant):
        if (folder / name).exists():
            return read_index(folder / name)
    there = sorted(one.name for one in folder.iterdir() if one.name.startswith(f"{stem}.") or one.suffix == ".bin")
    hint = "copy the whole directory"
    if any(one.endswith(".safetensors") for one in there):
        hint = "set variant= to what stands before .safetensors, or leave it out"
    elif any(one.endswith(".bin") for one in there):
        hint = "a .bin file is a pickle, which is not read; save the model anew with safe_serialization=True"
    found = f"the directory has {', '.join(there)}" if there else "the directory has no weights"
    raise UserError(f"there is no {path}; {found}; {hint}")


def write(path: str | Path, arrays: Mapping[str, Callable[[], np.ndarray]], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file one tensor at a time, whole or not at all.

    Args:
        path: of the file.
        arrays: by name a function that gives the array, ``parameter.asnumpy`` say. Each is called twice: for what the
            header says of it, and when its turn comes.
        metadata: texts that stand in the header.

    Raises:
        UserError: it cannot be written.
    """
    header: dict = {"__metadata__": dict(metadata)}
    end = 0
    for name, array_of in arrays.items():
        array = floats.plain(array_of())
        start, end = end, end + array.nbytes
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array_of in arrays.values():
            file.write(floats.plain(array_of()).tobytes())
