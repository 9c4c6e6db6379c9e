"""Derivatives by differences: the check on derivatives by hand or by a framework."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike


def directional_derivative(f: Callable, x: ArrayLike, v: ArrayLike, h: float = 1e-5) -> np.ndarray:
    """d f(x + s v) / d s at s = 0 by the central difference, error O(h^2) + O(1e-16 / h); shaped as f(x).

    ``x`` and ``v`` are float64 arrays of one shape, ``f`` gives a scalar or an array.
    """
    x, v = np.asarray(x, np.float64), np.asarray(v, np.float64)
    return (np.asarray(f(x + h * v), np.float64) - np.asarray(f(x - h * v), np.float64)) / (2 * h)
