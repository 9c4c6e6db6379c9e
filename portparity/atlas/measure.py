"""How far one tensor is from the float64 value: in ulps, in rms, and in what no number says (NaN, Inf, signs)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..verdict import ordered_bits
from .values import rounded

UNIT = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126}  # normal numbers
FEW = 4  # floats; an Inf within so few is rounding
NEARLY = 8  # times the smallest normal number: where exp and its kind end early


@dataclass
class Found:
    """What one tensor of one region showed."""

    ulp: float = 0.0  # the worst element's, where nothing below is said of it
    torch_ulp: float = 0.0
    index: int = -1  # of the worst element, flat
    units: float = 0.0  # rms of the error over rms of the truth, in roundings
    torch_units: float = 0.0
    problem: str = ""  # what no number says
    at: int = -1  # where that is
    sign_at: int = -1  # where a zero has the other sign
    flushed: bool = False  # a result that is 0, and should be subnormal or nearly so


def bits(x: np.ndarray, dtype: str) -> np.ndarray:
    """Floats as ordered integers."""
    if dtype != "bfloat16":
        return ordered_bits(x.astype(dtype))
    halves = np.ascontiguousarray(x, np.float32).reshape(-1).view(np.uint32) >> 16
    return ordered_bits(halves.astype(np.uint16)).reshape(x.shape)


def distance(a: np.ndarray, b: np.ndarray, dtype: str) -> np.ndarray:
    """How many floats of ``dtype`` lie between."""
    return np.abs(bits(a, dtype) - bits(b, dtype))


def _rms(x: np.ndarray) -> float:
    peak = float(np.max(np.abs(x), initial=0.0))
    return peak * float(np.sqrt(np.mean((x / peak) ** 2))) if peak > 0 else 0.0


def units(x: np.ndarray, truth: np.ndarray, dtype: str) -> float:
    """rms of the error over rms of the truth, in roundings."""
    size = _rms(truth)
    return _rms(x - truth) / size / UNIT[dtype] if size else 0.0 if _rms(x) == 0 else float("inf")


def _name(value: float) -> str:
    return "NaN" if np.isnan(value) else f"{value:.6g}"


def measure(ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray, dtype: str, special: bool = False) -> Found:
    """Compares MindSpore's ``ours`` with PyTorch's ``theirs`` in ``dtype`` and with PyTorch's float64 ``truth``.

    ``special``: whether a choice counts that is none of rounding: the sign of a zero, the slope at a corner. Where
    PyTorch itself is not near the truth (it overflows where float64 does not), nothing is held against MindSpore but
    being further off.
    """
    if ours.shape != theirs.shape:
        return Found(problem=f"shape {ours.shape}, PyTorch's {theirs.shape}")
    if (ours.dtype.kind == "f") != (theirs.dtype.kind == "f"):
        return Found(problem=f"gives {ours.dtype}, PyTorch {theirs.dtype}")
    if ours.size == 0:
        return Found()
    ours, theirs, truth = ours.ravel(), theirs.ravel(), truth.ravel()
    if theirs.dtype.kind != "f":
        unequal = (ours.astype(np.int64) != theirs.astype(np.int64)) & (theirs.astype(np.int64) == truth.astype(int))
        if not unequal.any():
            return Found()
        at = int(np.argmax(unequal))
        return Found(problem=f"{ours[at]} where PyTorch has {theirs[at]}", at=at)
    with np.errstate(all="ignore"):
        found, right = Found(), rounded(truth, dtype)
        far, their_far = distance(ours, right, dtype), distance(theirs, right, dtype)
        nan = np.isnan(ours) != np.isnan(right)
        settled = (np.isnan(theirs) == np.isnan(right)) & ((np.isinf(theirs) == np.isinf(right)) | (their_far <= FEW))
        inf = (np.isinf(ours) != np.isinf(right)) & (far > FEW)
        wrong = (nan | inf) & settled
        if special and not wrong.any():
            wrong = (abs(ours - right) > 0.01 * np.maximum(abs(right), 1)) & (their_far <= FEW) & np.isfinite(right)
        if special:
            sign = (ours == 0) & (right == 0) & (np.signbit(ours) != np.signbit(right))
            sign &= (theirs == 0) & (np.signbit(theirs) == np.signbit(right))
            found.sign_at = int(np.argmax(sign)) if sign.any() else -1
        if wrong.any():
            found.at = int(np.argmax(wrong))
            found.problem = f"{_name(ours[found.at])} where the truth is {_name(right[found.at])}"
        flushed = (ours == 0) & (right != 0) & (abs(right) < NEARLY * SMALLEST[dtype]) & (theirs != 0)
        found.flushed = bool(flushed.any())
        clean = settled & np.isfinite(ours) & np.isfinite(right) & np.isfinite(theirs) & ~flushed & ~wrong
        far, their_far = np.where(clean, far, 0), np.where(clean, their_far, 0)
        found.index = int(np.argmax(far))
        found.ulp, found.torch_ulp = float(far[found.index]), float(np.max(their_far))
        ours, theirs, truth = (np.where(clean, a.astype(np.float64), 0.0) for a in (ours, theirs, truth))
        found.units, found.torch_units = units(ours, truth, dtype), units(theirs, truth, dtype)
    return found
