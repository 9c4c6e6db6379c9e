"""Single safetensors files that carry a checksum of their own tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import UserError, reason_of
from . import floats
from .files import write_atomically
from .untrusted import read_bytes

KEY = "ms_ddpm.sha256"  # in the file's metadata
TYPES = {  # by their names in such a file
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": floats.BFLOAT16, "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "<i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "?", "C64": "<c8",
}  # fmt: skip


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and bytes, whatever the order of the arrays."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(floats.plain(arrays[name]))
        total.update(f"{name!r} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def write(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes ``arrays`` and their checksum to ``path``, whole or not at all. Raises UserError where it cannot."""
    write_atomically(path, serialise(arrays, {KEY: digest(arrays)}))


def serialise(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """``arrays`` as a safetensors file; bfloat16 in them is `floats.BFLOAT16` or MindSpore's own."""
    from safetensors.numpy import save

    arrays = {name: floats.plain(value) for name, value in arrays.items()}
    narrow = [name for name, value in arrays.items() if value.dtype == floats.BFLOAT16]
    data = save({name: a.view("<u2") if name in narrow else a for name, a in arrays.items()}, metadata=metadata)
    if not narrow:
        return data
    # safetensors writes numpy's types alone: their bits are in the file, and the header gets their name.
    header, end = _header(data)
    for name in narrow:
        header[name]["dtype"] = "BF16"
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def _header(data: bytes) -> tuple[dict, int]:
    """What stands before the numbers of a safetensors file, and where it ends: eight bytes say how long the JSON is."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), end


def parse(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, bfloat16 as `floats.BFLOAT16`.

    Raises ValueError where it is none, or of types that numpy lacks.
    """
    from safetensors import SafetensorError, deserialize

    try:
        return {name: _array(tensor) for name, tensor in deserialize(data)}
    except KeyError as error:
        raise ValueError(f"it holds numbers of type {error}, which numpy does not have") from None
    except (SafetensorError, ValueError, TypeError, OverflowError, MemoryError, AttributeError) as error:
        raise ValueError(f"it is no safetensors file: {reason_of(error)}") from None


def _array(tensor: Mapping) -> np.ndarray:
    return np.frombuffer(tensor["data"], TYPES[tensor["dtype"]]).reshape(tensor["shape"])


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, verified where it holds a checksum that `write` put there.

    Raises:
        UserError: not a safetensors file, or not the tensors that were written.
    """
    return read_with_metadata(path)[0]


def read_with_metadata(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """As `read`, and the texts that stand in the file's header under their names."""
    try:
        data = read_bytes(path)
        arrays = parse(data)
        header, _ = _header(data)  # which is sound by now
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from None
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {reason_of(error)}") from None
    metadata = header.get("__metadata__") or {}
    expected = metadata.get(KEY)
    if expected is not None and expected != digest(arrays):
        raise UserError(f"{path} is damaged: its tensors differ from the checksum written with them; convert it anew")
    return arrays, metadata
