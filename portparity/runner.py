"""Runs cases: every leg of a computation once, then the verdict of every case on it."""

from __future__ import annotations

import functools
import math
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from .arrays import perturbed
from .backends import why_not
from .case import Arrays, Case, Computation
from .classes import HALF
from .dtypes import widened
from .errors import HarnessError
from .tolerances import REFERENCES, tolerance
from .verdict import AGREE, DIFFER, TensorVerdict, judge

BROKEN = "broken"  # a leg raised: the harness or a framework is at fault, and nothing is known about agreement


@dataclass
class Outcome:
    """The verdict of one case and what it rests on."""

    id: str
    tier: str
    mode: str = "graph"
    precision: str = "float32"
    rule: str = "ratio"
    verdict: str = AGREE
    message: str = ""
    ratio: float = 0.0
    seconds: float = 0.0
    tensors: list[TensorVerdict] = field(default_factory=list)
    layers: list[dict] = field(default_factory=list)
    reproduce: str = ""

    @property
    def worst(self) -> TensorVerdict | None:
        """The tensor with the largest ratio."""
        return max(self.tensors, key=lambda t: (t.verdict == DIFFER, t.ratio), default=None)

    @property
    def failed(self) -> list[TensorVerdict]:
        """The tensors that differ, the worst first, then in the order of the outputs."""
        differing = [t for t in self.tensors if t.verdict == DIFFER]
        return [t for t in differing if t is self.worst] + [t for t in differing if t is not self.worst]

    def settle(self, tensors: Sequence[TensorVerdict]) -> None:
        """The verdicts on several tensors as one: the first to say is the worst that differs."""
        self.tensors = list(tensors)
        self.ratio = max((t.ratio for t in self.tensors), default=0.0)
        failed = self.failed
        if failed:
            others = and_more([t.name for t in failed[1:]], len(self.tensors))
            self.verdict = DIFFER
            self.message = f"{failed[0].name}: {failed[0].message}{others}"

    def as_json(self) -> dict:
        """What results.json holds of it."""
        own = {key: value for key, value in vars(self).items() if key != "tensors"}
        return own | {"tensors": [t.as_json() for t in self.tensors]}


def and_more(names: Sequence[str], count: int, shown: int = 3) -> str:
    """What stands behind the first of several that differ, of ``count``: how many, and some of them by name."""
    if not names:
        return ""
    listed = ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
    return f" (and {len(names)} more of {count}: {listed})"


@dataclass(frozen=True)
class Record:
    """What the trusted side says of one computation: from running it, or from a bundle."""

    inputs: Arrays
    truth: Arrays
    references: Sequence[Arrays]
    scales: Arrays | None
    further: Callable[[], Sequence[Arrays]] | None = None  # more of the references, run when asked for


def record(computation: Computation) -> Record:
    """Runs the oracle and the references."""
    inputs = computation.inputs()
    with np.errstate(all="ignore"):
        truth = computation.truth(inputs)
        references = [leg(inputs) for leg in computation.references]
        scales = computation.scales(inputs, truth) if computation.scales else None

    @functools.cache
    def further() -> list[Arrays]:
        with np.errstate(all="ignore"):
            first, precision = computation.references[0], computation.precision
            return [perturbed(first, seed, precision)(inputs) for seed in computation.further]

    return Record(
        inputs, truth, references, scales, further if computation.further and computation.rule == "layers" else None
    )


def rule_of(rule: str, known: Record) -> str:
    """The table of tolerances: layers are judged by nine runs of the reference, or by more room where it has "few"."""
    few = known.further is None and len(known.references) < REFERENCES
    return "few" if rule == "layers" and few else rule


def outcome_of(case: Case, produced: Arrays, known: Record) -> Outcome:
    """The verdict of ``case`` on what the candidate ``produced``."""
    computation = case.computation
    rule = rule_of(computation.rule, known)
    outcome = Outcome(case.id, case.tier, case.mode, computation.precision, rule)
    select = case.select
    if computation.precision in HALF:  # mixed precision

        def select(arrays: Arrays) -> dict[str, np.ndarray]:
            return widened(case.select(arrays))

    references = [select(r) for r in known.references]
    if not references[0]:
        outcome.verdict = BROKEN
        outcome.message = f"selects no output ({', '.join(case.outputs)})"
        return outcome

    def judged(references: Sequence[Arrays]) -> list[TensorVerdict]:
        return judge(
            select(produced),
            references,
            known.truth,
            tolerance(computation.precision, rule),
            rule=computation.rule,
            scales=known.scales,
        )

    tensors = judged(references)
    if known.further and any(t.verdict == DIFFER for t in tensors):
        tensors = judged([*references, *map(select, known.further())])
    outcome.settle(tensors)
    return outcome


def possible(cases: Iterable[Case], candidate: str = "mindspore") -> tuple[list[Case], dict[str, list[str]]]:
    """Those of ``cases`` that ``candidate`` can run on this machine; the ids of the others by why it cannot."""
    found, left_out = [], {}
    for case in cases:
        if problem := why_not(candidate, case.computation.spec):
            left_out.setdefault(problem, []).append(case.id)
        else:
            found.append(case)
    return found, left_out


def _broken(case: Case, error: BaseException, seconds: float = 0.0) -> Outcome:
    message = (str(error).strip().splitlines() or [""])[0]
    if not isinstance(error, HarnessError):  # those say what to do; of anything else, say where it comes from
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {message} ({last.filename.rsplit('/', 1)[-1]}:{last.lineno})"
    return Outcome(
        case.id, case.tier, case.mode, case.computation.precision, case.computation.rule, BROKEN, message,
        math.inf, seconds,
    )  # fmt: skip


def run(
    cases: Iterable[Case],
    candidate: str = "mindspore",
    *,
    recorded: Callable[[Computation], Record] = record,
    around: Callable[[], AbstractContextManager] = nullcontext,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Judges ``cases``.

    Args:
        cases: in any order; those that share a computation are judged on one run of it.
        candidate: which framework's leg is judged.
        recorded: where the trusted side's results come from (default: computed here and now).
        around: a context entered around the candidate's leg only; a mutant, for example.
        on_outcome: told of every outcome as it comes.
    """
    groups: dict[Computation, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.computation, []).append(case)
    outcomes = []
    for computation, members in groups.items():
        began = time.perf_counter()
        try:
            known = recorded(computation)
            with around(), np.errstate(all="ignore"):
                produced = computation.candidates[candidate](known.inputs)
            found = [outcome_of(case, produced, known) for case in members]
        except Exception as error:
            found = [_broken(case, error) for case in members]
        share = (time.perf_counter() - began) / len(members)
        for outcome in found:
            outcome.seconds = share
            outcomes.append(outcome)
            if on_outcome is not None:
                on_outcome(outcome)
    return outcomes
