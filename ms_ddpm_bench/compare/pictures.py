"""The sample grids, and the difference of the two, amplified until it is seen."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import numpy as np

from ms_ddpm.pictures.images import grid

SHOWN = 64
# PyTorch is brighter, they are equal, MindSpore is brighter
ENDS = np.array([[232, 130, 205], [24, 29, 32], [96, 214, 222]], np.float64)


def png(images: np.ndarray, columns: int | None = None) -> bytes:
    """A grid of the first images; what is not finite is shown black."""
    shown = np.nan_to_num(images[:SHOWN], nan=0.0, posinf=1.0, neginf=0.0)
    file = io.BytesIO()
    grid(shown, columns).save(file, format="PNG", optimize=True)
    return file.getvalue()


def colours(signed: np.ndarray) -> np.ndarray:
    """(...) of -1 to 1 -> (..., 3) in [0, 1]: the colour scale."""
    share = np.clip(np.nan_to_num(signed), -1, 1)[..., None]
    middle = ENDS[1]
    return (middle + np.where(share < 0, -share * (ENDS[0] - middle), share * (ENDS[2] - middle))) / 255


def amplification(largest: float) -> int:
    """1, 2 or 5 times a power of ten that brings the largest difference near 1; at most 10^7: beyond it is rounding.

    Where nothing differs, 1.
    """
    if not 0 < largest < math.inf:
        return 1
    factors = (m * 10**e for e in range(8) for m in (1, 2, 5) if e < 7 or m == 1)
    return max((f for f in factors if f * largest <= 1), default=1)


def differences(samples: Mapping[str, np.ndarray]) -> tuple[np.ndarray, int]:
    """(images (B, 3, H, W) of the signed difference in colours, how much it is amplified). Channels are averaged."""
    ours, theirs = (np.clip(np.nan_to_num(samples[side][:SHOWN]), 0, 1).astype(np.float64) for side in samples)
    signed = (ours - theirs).mean(axis=1)
    factor = amplification(float(np.abs(signed).max()))
    return np.moveaxis(colours(signed * factor), -1, 1), factor


def make(samples: Mapping[str, np.ndarray]) -> tuple[dict[str, bytes], int]:
    """({"mindspore", "torch", "difference": PNG}, amplification of the difference)."""
    apart, factor = differences(samples)
    return {**{side: png(samples[side]) for side in ("mindspore", "torch")}, "difference": png(apart)}, factor
