"""The whole model: forward, and every gradient."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from ..runner import Outcome
from ..sides.side import Side
from ..verdict import DIFFER, TensorVerdict, judge
from . import sums
from .bench import Bench
from .report import Report
from .words import said_by


def judge_whole(bench: Bench, candidate: Side, mode: str, report: Report) -> list[Outcome]:
    """Forward and every gradient of the whole model."""
    suffix = f" ({mode})" if mode else ""
    ids = (f"forward{suffix}", f"gradients{suffix}")
    began = time.perf_counter()
    try:
        cotangents = None if candidate.forward_only else bench.cotangents
        produced = candidate.run(bench.given, cotangents, mode=mode).arrays
    except Exception as error:
        said = said_by("the port", error)
        if mode == "graph":
            report.notes.append(f"as a graph {said}; what is said here is of PyNative")
            return []
        return [Outcome(ids[0], "3", mode or "pynative", bench.precision, "layers", DIFFER, said, float("inf"))]
    truth, *references = (
        {name: value for name, value in run.arrays.items() if cotangents or not name.startswith("grad.")}
        for run in (bench.true_run, *bench.reference_runs)
    )
    produced = bench.to_theirs(produced, truth, report)
    scales = sums.scaled(truth, sums.of_model(bench.true_run.calls, truth))
    verdicts = judge(produced, references, truth, bench.allowed, rule="layers", scales=scales)
    share = (time.perf_counter() - began) / 2
    parts = [[v for v in verdicts if v.name.startswith("grad.") == backward] for backward in (False, True)]
    return [
        outcome_of(name, part, bench, mode or "pynative", share) for name, part in zip(ids, parts, strict=True) if part
    ]


def stopped(name: str, error: BaseException) -> Outcome:
    """The verdict on a port that raised in training: its original computes, and it does not."""
    return Outcome(name, "4", verdict=DIFFER, message=said_by("the port", error), ratio=math.inf)


def outcome_of(
    name: str, verdicts: Sequence[TensorVerdict], bench: Bench, mode: str = "pynative", seconds: float = 0.0
) -> Outcome:
    """The verdicts on several tensors as one."""
    outcome = Outcome(name, "3", mode, bench.precision, "layers", seconds=seconds)
    outcome.settle(verdicts)
    return outcome
