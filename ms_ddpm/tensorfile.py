"""Single safetensors files that carry a checksum of their own tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .errors import UserError
from .files import write_atomically

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


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, verified where it holds a checksum that `write` put there.

    Raises:
        UserError: not a safetensors file, or not the tensors that were written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            expected = (file.metadata() or {}).get(KEY)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, TypeError) as error:  # TypeError: a type that numpy lacks (bfloat16)
        raise UserError(f"{path} is not a safetensors file that numpy can read: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if expected is not None and expected != digest(arrays):
        raise UserError(f"{path} is damaged: its tensors differ from the checksum written with them; convert it anew")
    return arrays
