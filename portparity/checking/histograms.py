"""How the values that a layer is given and gives are spread: the port's beside those in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..localise import Tap

BINS = 40


class Histogram(NamedTuple):
    """Counts of `BINS` equal parts of [low, high]; ``candidate`` is empty where the port has no such array."""

    name: str
    where: str  # "given", "free run" or "alone"
    low: float
    high: float
    truth: tuple[int, ...]
    candidate: tuple[int, ...]
    not_finite: int  # how many of the port's values are NaN or Inf, and have no place here


def of_layer(tap: Tap) -> list[Histogram]:
    """What it was given and gave in the free run, and what it gives alone on what the original's was given."""
    found = []
    if tap.inherited:
        candidate, truth = tap.inherited.candidate, tap.inherited.truth
        found += [_of(name, "given", truth, candidate) for name in truth if name.startswith("input.")]
        found += [_of(name, "free run", truth, candidate) for name in truth if _is_output(name)]
    candidate, truth = tap.own.candidate, tap.own.truth
    return found + [_of(name, "alone", truth, candidate) for name in truth if _is_output(name) and "@" not in name]


def _is_output(name: str) -> bool:
    return not name.startswith(("input.", "grad."))


def _of(name: str, where: str, truth: Mapping[str, np.ndarray], candidate: Mapping[str, np.ndarray]) -> Histogram:
    ours = np.asarray(candidate.get(name, ()), np.float64).ravel()
    ours, theirs = (values[np.isfinite(values)] for values in (ours, np.asarray(truth[name], np.float64).ravel()))
    both = np.concatenate([ours, theirs])
    low, high = (float(both.min()), float(both.max())) if both.size else (0.0, 0.0)
    if not low < high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    truth_counts, counts = (
        tuple(np.histogram(values, BINS, (low, high))[0].tolist()) if values.size else () for values in (theirs, ours)
    )
    lost = int(np.size(candidate.get(name, ()))) - ours.size
    return Histogram(name.removeprefix("input."), where, low, high, truth_counts, counts, lost)
