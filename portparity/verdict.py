"""Whether a tensor of one framework is what another computes: the float64-oracle ratio.

A fixed tolerance cannot do this. What float32 may lose depends on the computation, so the yardstick is measured: the
reference framework's own error against float64, in the candidate's precision class. A candidate may err ``K`` times
as much as the reference, or ``F`` roundings of the result's scale, whichever is more; the numbers and the evidence
for them stand in tolerances.toml. `portparity.rivals` has the rules others use, for comparison.

Names, count, shapes, dtypes and the places of NaN and Inf are compared first and exactly; nothing is broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from .dtypes import dtype_of
from .tolerances import Tolerance

Arrays = Mapping[str, np.ndarray]
AGREE, DIFFER = "agree", "differ"


@dataclass
class TensorVerdict:
    """What was found out about one tensor. ``ratio`` is error over bound: at most 1 where the tensor agrees."""

    name: str
    verdict: str = AGREE
    message: str = ""
    ratio: float = 0.0
    shape: tuple[int, ...] = ()
    dtype: str = ""
    rms_error: float = 0.0
    rms_reference: float = 0.0
    rms_bound: float = 0.0
    max_error: float = 0.0
    max_reference: float = 0.0
    max_bound: float = 0.0
    ulp: float = 0.0
    index: tuple[int, ...] = ()
    candidate: float | None = None
    reference: float | None = None
    truth: float | None = None
    trajectory: dict | None = field(default=None, repr=False)

    def as_json(self) -> dict:
        """Plain values for results.json."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def _rms(x: np.ndarray) -> float:
    """Root mean square, without overflow where the squares would."""
    if x.size == 0:
        return 0.0
    peak = float(np.max(np.abs(x)))
    return peak * float(np.sqrt(np.mean((x / peak) ** 2))) if peak > 0 else 0.0


def _over(error: float, bound: float) -> float:
    """error / bound, where 0 / 0 is 0."""
    if error == 0:
        return 0.0
    return float("inf") if bound == 0 else error / bound


def ordered_bits(x: np.ndarray) -> np.ndarray:
    """Floats as integers in the same order, so that neighbours differ by 1: int64."""
    x = np.ascontiguousarray(x)
    signed = x.view({2: np.int16, 4: np.int32, 8: np.int64}[x.dtype.itemsize]).astype(np.int64)
    smallest = -(1 << (8 * x.dtype.itemsize - 1)) if x.dtype.itemsize < 8 else np.iinfo(np.int64).min
    return np.where(signed < 0, smallest - signed, signed)


def ulp_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many floats of their common dtype lie between a and b, elementwise."""
    return np.abs(ordered_bits(a) - ordered_bits(b))


def _structure(found: TensorVerdict, candidate: np.ndarray, reference: np.ndarray) -> str:
    """What is wrong before any number is looked at, or ""."""
    if candidate.shape != reference.shape:
        return f"shape {candidate.shape}, expected {reference.shape}"
    for kind, test in (("NaN", np.isnan), ("Inf", np.isposinf), ("-Inf", np.isneginf)):
        if candidate.dtype.kind == "f" and not np.array_equal(test(candidate), test(reference)):
            ours, theirs = int(test(candidate).sum()), int(test(reference).sum())
            found.index = tuple(int(i) for i in np.argwhere(test(candidate) != test(reference))[0])
            if theirs == 0 or ours == 0:
                return f"{kind} on one side only: {ours} in the candidate, {theirs} in the reference"
            return f"{kind} in other places: {ours} in the candidate, {theirs} in the reference"
    return ""


def _point_at(found: TensorVerdict, where: tuple, candidate, reference, truth) -> None:
    found.index = tuple(int(i) for i in where)
    found.candidate = float(candidate[where])
    found.reference = float(reference[where])
    found.truth = float(truth[where])


def judge_exact(found: TensorVerdict, candidate, references, truth, scale, tolerance) -> None:
    """Bit for bit the truth, cast to the candidate's dtype."""
    truth = truth.astype(candidate.dtype)
    unequal = candidate != truth
    if candidate.dtype.kind == "f":
        unequal = unequal & ~(np.isnan(candidate) & np.isnan(truth))
    if unequal.any():
        _point_at(found, tuple(np.argwhere(unequal)[0]), candidate, references[0], truth)
        found.verdict = DIFFER
        found.ratio = float("inf")
        found.max_error = float(np.max(np.abs(candidate.astype(np.float64) - truth.astype(np.float64))))
        found.message = f"{int(unequal.sum())} of {candidate.size} values are not bit for bit what they must be"


def judge_ulp(found: TensorVerdict, candidate, references, truth, scale, tolerance) -> None:
    """Within ``tolerance.ulp`` floats of the float64 value rounded once."""
    rounded = truth.astype(candidate.dtype)
    distance = ulp_distance(candidate, rounded)
    where = np.unravel_index(int(np.argmax(distance)), distance.shape)
    _point_at(found, where, candidate, references[0], truth)
    found.ulp = float(distance[where])
    found.max_error = float(np.max(np.abs(candidate.astype(np.float64) - truth)))
    found.ratio = found.ulp / tolerance.ulp
    if found.ratio > 1:
        found.verdict = DIFFER
        found.message = f"{found.ulp:.0f} ulp from the float64 value, allowed {tolerance.ulp:g}"


def judge_ratio(found: TensorVerdict, candidate, references, truth, scale, tolerance) -> None:
    """rms and maximum of the error, against the reference's own and the precision's unit."""
    finite = np.isfinite(candidate) & np.isfinite(truth)
    for reference in references:
        finite &= np.isfinite(reference)
    error = np.where(finite, candidate.astype(np.float64) - truth, 0.0)
    own = [np.where(finite, r.astype(np.float64) - truth, 0.0) for r in references]
    scale = np.where(finite, np.broadcast_to(truth if scale is None else scale, truth.shape), 0.0)
    floor = tolerance.F * tolerance.u
    found.rms_error = _rms(error)
    found.max_error = float(np.max(np.abs(error), initial=0.0))
    found.rms_reference = max(_rms(e) for e in own)
    found.max_reference = max(float(np.max(np.abs(e), initial=0.0)) for e in own)
    found.rms_bound = max(tolerance.K * found.rms_reference, floor * _rms(scale))
    found.max_bound = max(2 * tolerance.K * found.max_reference, 8 * floor * float(np.max(np.abs(scale), initial=0.0)))
    of_rms, of_max = _over(found.rms_error, found.rms_bound), _over(found.max_error, found.max_bound)
    found.ratio = max(of_rms, of_max)
    if candidate.size:
        where = np.unravel_index(int(np.argmax(np.abs(error))), error.shape)
        _point_at(found, where, candidate, references[0], truth)
        if finite[where]:
            found.ulp = float(ulp_distance(candidate[where][None], truth[where][None].astype(candidate.dtype))[0])
    if found.ratio > 1:
        kind, error_, bound, theirs = (
            ("rms", found.rms_error, found.rms_bound, found.rms_reference)
            if of_rms >= of_max
            else ("largest", found.max_error, found.max_bound, found.max_reference)
        )
        found.verdict = DIFFER
        found.message = f"{kind} error {error_:.3g}, allowed {bound:.3g} (the reference's own {theirs:.3g})"


def judge_envelope(found: TensorVerdict, candidate, references, truth, scale, tolerance) -> None:
    """A trajectory (steps, ...): at every step inside the tube that the references have drawn up to there.

    Errors grow along a free run, and two correct runs part. The tube around the float64 run is K times the largest
    error that any of the references (float32, float32 perturbed by one ulp) has had so far.
    """
    steps = len(truth)

    def per_step(x: np.ndarray) -> np.ndarray:
        return np.array([_rms(np.asarray(row, np.float64)) for row in np.reshape(x, (steps, -1))])

    error = per_step(candidate - truth)
    own = np.maximum.accumulate(np.max([per_step(r - truth) for r in references], axis=0))
    size = per_step(truth if scale is None else np.broadcast_to(scale, truth.shape))
    bound = np.maximum(tolerance.K * own, tolerance.F * tolerance.u * np.maximum.accumulate(size))
    ratios = np.array([_over(float(e), float(b)) for e, b in zip(error, bound, strict=True)])
    worst = int(np.argmax(ratios))
    found.rms_error = float(error[worst])
    found.rms_bound = float(bound[worst])
    found.rms_reference = float(own[worst])
    found.max_error = float(np.max(np.abs(candidate - truth)))
    found.index = (worst,)
    found.ratio = float(ratios[worst])
    outside = np.flatnonzero(ratios > 1)
    found.trajectory = {
        "error": error.tolist(),
        "bound": bound.tolist(),
        "reference": own.tolist(),
        "first_outside": int(outside[0]) if outside.size else None,
    }
    if truth.ndim == 1:
        found.trajectory |= {"candidate": candidate.tolist(), "truth": truth.tolist()}
    if outside.size:
        first = int(outside[0])
        found.verdict = DIFFER
        found.index = (first,)
        found.message = (
            f"leaves its envelope at step {first} of {steps}: error {error[first]:.3g}, allowed {bound[first]:.3g}"
        )


RULES: dict[str, Callable] = {
    "ratio": judge_ratio,
    "layers": judge_ratio,  # with numbers of its own
    "ulp": judge_ulp,
    "exact": judge_exact,
    "envelope": judge_envelope,
}


def judge_tensor(
    name: str,
    candidate: np.ndarray,
    references: Sequence[np.ndarray],
    truth: np.ndarray,
    tolerance: Tolerance,
    *,
    rule: str = "ratio",
    scale: np.ndarray | None = None,
) -> TensorVerdict:
    """The verdict on one tensor.

    Args:
        name: what the tensor is called.
        candidate: what is judged.
        references: what the reference computed in the candidate's precision, once or several times.
        truth: the float64 value.
        tolerance: K, F and u.
        rule: a key of `RULES`.
        scale: magnitudes of the larger operand, where the result is a difference; default the truth.
    """
    found = TensorVerdict(name, shape=np.shape(candidate), dtype=dtype_of(np.asanyarray(candidate)))
    expected = dtype_of(np.asanyarray(references[0]))
    candidate = np.asarray(candidate)
    references = [np.asarray(r) for r in references]
    problem = _structure(found, candidate, references[0])
    if not problem and found.dtype != expected:
        problem = f"dtype {found.dtype}, expected {expected}"
    truth = np.asarray(truth)
    if not problem and truth.shape != candidate.shape:
        problem = f"shape {candidate.shape}, and the float64 value has {truth.shape}"
    if problem:
        found.verdict = DIFFER
        found.message = problem
        found.ratio = float("inf")
        return found
    exactly = rule == "exact" or candidate.dtype.kind != "f"
    judge = judge_exact if exactly else RULES[rule]
    with np.errstate(invalid="ignore", over="ignore"):  # Inf in the same places is no fault
        judge(found, candidate, references, truth if exactly else truth.astype(np.float64), scale, tolerance)
    return found


def judge(
    candidate: Arrays,
    references: Sequence[Arrays],
    truth: Arrays,
    tolerance: Tolerance,
    *,
    rule: str = "ratio",
    scales: Arrays | None = None,
) -> list[TensorVerdict]:
    """One verdict per tensor, in the order of the reference; a missing or an extra one is a verdict too."""
    expected = list(references[0])
    found = []
    for name in expected:
        if name not in candidate:
            found.append(TensorVerdict(name, DIFFER, "missing in the candidate", float("inf")))
        elif name not in truth:
            found.append(TensorVerdict(name, DIFFER, "missing in the float64 oracle", float("inf")))
        else:
            found.append(
                judge_tensor(
                    name,
                    candidate[name],
                    [r[name] for r in references],
                    truth[name],
                    tolerance,
                    rule=rule,
                    scale=(scales or {}).get(name),
                )
            )
    for name in candidate:
        if name not in references[0]:
            found.append(TensorVerdict(name, DIFFER, "not in the reference: an extra output", float("inf")))
    return found
