"""Whether contestants compute the same, asked before anything is timed: speed of something else is no speed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# Relative, ||a - b|| / ||b||. Float32 rounding alone makes correct contestants differ by at most 1.4e-6 (measured:
# both layouts, dim 8 to 32; eager, compiled and stock). What is nearly as small as rounding, such as GELU by tanh in
# the time embedding (4e-6 to 2e-5), is for scripts/parity.py; here another computation must be told from another
# order of sums.
TOLERANCE = 1e-5
# The loss after one update: nn.Adam adds its eps before the bias correction, which moves it by 1e-5 to 2e-5. Twice the
# rate moves it by 2e-2.
UPDATED, UPDATED_TOLERANCE = "loss after an update", 1e-4


def allowed(output: str) -> float:
    """The largest difference that is still rounding."""
    return UPDATED_TOLERANCE if output.endswith(UPDATED) else TOLERANCE


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
        Disagreement: where a difference is more than `allowed`, or an output is missing.
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
        f"{name}'s {key} differs from {reference}'s by {error:.1e} (relative; allowed {allowed(key):.0e})"
        for name, errors in found.items()
        for key, error in errors.items()
        if not error <= allowed(key)
    ]
    if wrong:
        raise Disagreement(
            f"{where}: {'; '.join(wrong)}, so nothing was timed there; "
            "run python scripts/parity.py check to find where they part"
        )
    return found
