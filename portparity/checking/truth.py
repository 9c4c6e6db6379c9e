"""Whether the truth is true: the original in double is tried by finite differences, and by what its results are."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..arrays import rng_of
from ..case import Arrays
from ..dtypes import dtype_of
from ..sides.side import Given, Run, Side

STEP = 1e-5  # of the size of what is moved: the error is its square in the mean, and rounding's 1e-16 over it
CLOSE = 1e-5  # that leaves 1e-9; float32 somewhere inside leaves 1e-2


def doubts(truth: Side, given: Given, kept: Arrays, cotangents: Mapping[str, np.ndarray], run: Run, seed: int) -> list:
    """Sentences on what makes the truth doubtful; none where nothing does.

    Args:
        truth: the original in double.
        given, kept, cotangents: with which it ran.
        run: what it gave.
        seed: of the direction.
    """
    found = []
    less = [name for name, value in run.arrays.items() if value.dtype.kind == "f" and dtype_of(value) != "float64"]
    if less:
        dtype = dtype_of(run.arrays[less[0]])
        found.append(f"in double the original gives {', '.join(less[:3])} in {dtype} all the same")
    slope, expected = _directional(truth, given, kept, cotangents, run, seed)
    if math.isfinite(slope) and abs(slope - expected) > CLOSE * max(abs(slope), abs(expected)):
        found.append(
            f"the original's gradient in double is not the derivative of its values ({expected:.6g}, by finite "
            f"differences {slope:.6g}): a gradient of its own, something detached, a kink, or not double inside"
        )
    return found


def _directional(truth, given, kept, cotangents, run, seed) -> tuple[float, float]:
    """The derivative along a random direction, by finite differences and by the gradients."""
    towards = {}
    expected = 0.0
    for name, value in kept.items():
        if (gradient := run.arrays.get(f"grad.weight.{name}")) is not None:
            towards[name] = _direction(name, value, seed)
            expected += float(np.sum(towards[name] * gradient))
    of_given = []
    for name, value in zip(given.names, given.arrays, strict=True):
        gradient = run.arrays.get(f"grad.{name}")
        of_given.append(None if gradient is None else _direction(f"given {name}", value, seed))
        expected += 0.0 if gradient is None else float(np.sum(of_given[-1] * gradient))

    def value_at(step: float) -> float:
        truth.load({name: kept[name] + step * v for name, v in towards.items()})
        arrays = [a if v is None else a + step * v for a, v in zip(given.arrays, of_given, strict=True)]
        outputs = truth.run(Given(given.shape, arrays, given.names), None).arrays
        return float(sum(np.sum(np.asarray(outputs[name], np.float64) * c) for name, c in cotangents.items()))

    with np.errstate(all="ignore"):
        slope = (value_at(STEP) - value_at(-STEP)) / (2 * STEP)
    truth.load(kept)
    return slope, expected


def _direction(name: str, value: np.ndarray, seed: int) -> np.ndarray:
    """Random, of the size of what is moved."""
    size = float(np.sqrt(np.mean(np.square(value, dtype=np.float64)))) or 1.0
    return size * rng_of(f"direction {name}", seed).standard_normal(value.shape)
