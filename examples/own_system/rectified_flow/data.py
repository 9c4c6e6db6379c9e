"""The training set: points on a spiral."""

from __future__ import annotations

import numpy as np

from ms_ddpm.data.sources import ImageSource, values_source
from ms_ddpm.maths.random import normal, stream


def spiral(count: int, arms: int, seed: int) -> ImageSource:
    """``count`` points (2,) on a spiral of ``arms``, of radius up to 2, in the column "point"."""
    rng = stream(seed, 1)
    radius = np.sqrt(rng.random(count))
    angle = 3 * radius + 2 * np.pi * rng.integers(arms, size=count) / arms
    points = 2 * radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * normal(rng, (count, 2))
    points = points.astype(np.float32)
    return values_source(f"a spiral of {arms} arms", points, columns={"point": points})
