"""What a tensor's numbers were before they became an array of numpy's, which has no bfloat16."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class BFloat16(np.ndarray):
    """float32 numbers that a bfloat16 tensor holds: numpy has no such type, and the verdict must know."""


def as_bfloat16(values: np.ndarray) -> np.ndarray:
    """The numbers of a bfloat16 tensor, given as float32, which holds them exactly."""
    return np.asarray(values, np.float32).view(BFloat16)


def dtype_of(array: np.ndarray) -> str:
    """The dtype of the tensor whose numbers ``array`` holds."""
    return "bfloat16" if isinstance(array, BFloat16) else str(array.dtype)


def widened(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Half precision as float32, which holds it exactly.

    In mixed precision each framework decides which results are halves, and only the numbers are compared.
    """
    half = ("float16", "bfloat16")
    return {name: np.asarray(v, np.float32) if dtype_of(v) in half else v for name, v in arrays.items()}
