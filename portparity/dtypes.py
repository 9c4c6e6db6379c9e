"""What a tensor's numbers were before they became an array of numpy's, which has no bfloat16."""

from __future__ import annotations

import numpy as np


class BFloat16(np.ndarray):
    """float32 numbers that a bfloat16 tensor holds: numpy has no such type, and the verdict must know."""


def as_bfloat16(values: np.ndarray) -> np.ndarray:
    """The numbers of a bfloat16 tensor, given as float32, which holds them exactly."""
    return np.asarray(values, np.float32).view(BFloat16)


def dtype_of(array: np.ndarray) -> str:
    """The dtype of the tensor whose numbers ``array`` holds."""
    return "bfloat16" if isinstance(array, BFloat16) else str(array.dtype)
