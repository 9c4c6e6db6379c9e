"""Floats of other widths than 32 bits, among them bfloat16, which numpy does not have.

Of a bfloat16 the arrays here hold the bits, the upper half of a float32's, in the type `BFLOAT16`: not uint16, so that
they are not taken for whole numbers. MindSpore's ``asnumpy`` gives a type of its own, called bfloat16 too.
"""

from __future__ import annotations

import numpy as np

BFLOAT16 = np.dtype([("bfloat16", "<u2")])
NAMES = ("float16", "bfloat16", "float32", "float64")


def name_of(dtype: np.dtype) -> str:
    """ "float32", "bfloat16", "int64" ..."""
    return "bfloat16" if dtype == BFLOAT16 else dtype.name  # MindSpore's own has that name


def plain(array: np.ndarray) -> np.ndarray:
    """``array``, contiguous, and `BFLOAT16` where it is MindSpore's bfloat16."""
    array = np.ascontiguousarray(array).reshape(np.shape(array))  # the former makes a list of a scalar
    return array.view(BFLOAT16) if array.dtype != BFLOAT16 and array.dtype.name == "bfloat16" else array


def _widened(array: np.ndarray) -> np.ndarray:
    """A `BFLOAT16` array in float32, exactly."""
    return np.left_shift(array["bfloat16"], 16, dtype=np.uint32).view(np.float32)


def _narrowed(array: np.ndarray) -> np.ndarray:
    """A float32 array in `BFLOAT16`, rounded to the nearest, ties to even; finite values, or they stay infinite."""
    bits = array.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype("<u2").view(BFLOAT16)


def cast(array: np.ndarray, name: str) -> np.ndarray:
    """A copy of the floats ``array`` in the type called ``name``, of `NAMES`; what is no float stays as it is.

    The one place where a width changes: 16 bits become 32 exactly, the rest rounds to the nearest (float64 becomes
    bfloat16 by way of float32). What is too large for the type becomes infinite.
    """
    array = plain(array)
    if name_of(array.dtype) not in NAMES or name_of(array.dtype) == name:
        return array.copy()
    if array.dtype == BFLOAT16:
        array = _widened(array)
    with np.errstate(over="ignore", invalid="ignore"):
        return _narrowed(array.astype(np.float32)) if name == "bfloat16" else array.astype(name)


def is_finite(array: np.ndarray) -> bool:
    """Whether ``array`` holds floats, all of them finite."""
    array = plain(array)
    if array.dtype == BFLOAT16:
        return bool(np.isfinite(_widened(array)).all())
    return array.dtype.kind == "f" and bool(np.isfinite(array).all())
