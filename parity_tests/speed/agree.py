"""Whether contestants compute the same, asked before anything is timed: speed of something else is no speed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# Relative: ||a - b|| / ||b||. Float32 rounding alone makes correct contestants differ by 1e-7 to 2e-6 here, and the
# place where nn.Adam adds its eps moves the loss after an update by 1e-5 (measured, both layouts). This check need only
# tell another computation from another order of sums; scripts/parity.py has the fine rule.
TOLERANCE = 1e-4


class Disagreement(Exception):
    """A contestant computes something else; the message says which, what and by how much."""


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b|| / ||b|| in float64; infinite where shapes differ or a value is not finite."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


def check(outputs: Mapping[str, Mapping[str, np.ndarray]], reference: str, where: str) -> dict[str, dict[str, float]]:
    """The differences of every contestant from ``reference``: contestant -> output -> difference.

    Args:
        outputs: contestant -> name of the output -> array.
        reference: whose are taken as right.
        where: the workload, for the message.

    Raises:
        Disagreement: where a difference is above `TOLERANCE`, or an output is missing.
    """
    found: dict[str, dict[str, float]] = {}
    for name, arrays in outputs.items():
        if name == reference:
            continue
        common = [key for key in outputs[reference] if key in arrays]
        found[name] = {key: difference(arrays[key], outputs[reference][key]) for key in common}
        if not common:
            raise Disagreement(f"{name} and {reference} have no output in common at {where}: nothing could be compared")
    wrong = [
        f"{name}'s {key} differs from {reference}'s by {error:.1e}"
        for name, errors in found.items()
        for key, error in errors.items()
        if not error <= TOLERANCE
    ]
    if wrong:
        raise Disagreement(
            f"{where}: {'; '.join(wrong)} (relative, allowed {TOLERANCE:.0e}), so nothing was timed there; "
            "run python scripts/parity.py check to find where they part"
        )
    return found
