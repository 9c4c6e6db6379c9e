"""Points as a picture, and as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIDE, REACH = 96, 2.5  # pixels, and the coordinate at the edge


def density(points: np.ndarray) -> np.ndarray:
    """How many of points (N, 2) lie where, dark where there are many: one picture (1, 1, SIDE, SIDE) in [0, 1]."""
    edges = np.linspace(-REACH, REACH, SIDE + 1)
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=(edges, edges))
    return (1 - np.minimum(counts[::-1] / max(counts.max(), 1) * 2, 1)).astype(np.float32)[None, None]


def save(points: np.ndarray, path: Path) -> None:
    """Writes points (N, 2) as the array "points" of an .npz."""
    np.savez(path, points=points)
