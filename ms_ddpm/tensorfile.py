"""Single safetensors files that carry a checksum of their own tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .errors import UserError, reason_of
from .files import write_atomically
from .untrusted import read_bytes

KEY = "ms_ddpm.sha256"  # in the file's metadata


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and bytes, whatever the order of the arrays."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name!r} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def write(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes ``arrays`` and their checksum to ``path``, whole or not at all. Raises UserError where it cannot."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    write_atomically(path, save(arrays, metadata={KEY: digest(arrays)}))


def parse(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name. Raises ValueError where it is none, or of types that numpy lacks."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(data)
    except KeyError as error:
        raise ValueError(f"it holds numbers of type {error}, which numpy does not have") from None
    except (SafetensorError, ValueError, TypeError, OverflowError, MemoryError, AttributeError) as error:
        raise ValueError(f"it is no safetensors file: {reason_of(error)}") from None


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, verified where it holds a checksum that `write` put there.

    Raises:
        UserError: not a safetensors file, or not the tensors that were written.
    """
    try:
        data = read_bytes(path)
        arrays = parse(data)
        # Eight bytes say how long the header is, which is JSON and, by now, sound.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from None
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {reason_of(error)}") from None
    expected = (header.get("__metadata__") or {}).get(KEY)
    if expected is not None and expected != digest(arrays):
        raise UserError(f"{path} is damaged: its tensors differ from the checksum written with them; convert it anew")
    return arrays
