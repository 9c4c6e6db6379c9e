"""What shows in training alone: batch statistics and the running ones, dropout, an optimizer's steps.

Everywhere else both models are in evaluation mode, and there a dropout of 0.9 for 0.1 or another momentum is invisible.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from ..arrays import normal, rng_of
from ..case import Arrays
from ..report.words import plural
from ..runner import Outcome
from ..sides.side import Given, Side
from ..tolerances import tolerance
from ..verdict import AGREE, DIFFER, TensorVerdict, judge
from . import draws, sums
from .bench import Bench
from .report import Report
from .whole import outcome_of, stopped
from .words import bar

BATCHES = 3  # after which running statistics are compared: one would not tell a momentum from its complement
RUNS = 32  # with dropout on, of each side
SURE = 6.0  # standard errors by which two rates differ before it is called a difference


def judge_training(bench: Bench, steps: int, report: Report) -> list[Outcome]:
    """Batch and running statistics, dropout, and ``steps`` steps of an optimizer."""
    outcomes = []
    for part in (_statistics, _dropout, lambda bench, report: _steps(bench, steps, report)):
        outcomes += part(bench, report)
        bench.load(bench.kept)
    return outcomes


@contextmanager
def behaving(side: Side, how: str) -> Iterator[None]:
    """In it a model behaves as `Side.behave` says; before and after as in evaluation."""
    side.behave(how)
    try:
        yield
    finally:
        side.behave("eval")


def _batches(bench: Bench) -> list[Given]:
    """The arguments, and others like them: every float moved by half of its spread."""
    found = [bench.given]
    for i in range(1, BATCHES):
        rng = rng_of(f"batch {i}", bench.seed)
        arrays = [
            draws.rounded(value + np.float32(0.5 * np.std(value)) * normal(rng, *value.shape), bench.precision)
            if value.dtype.kind == "f"
            else value
            for value in bench.given.arrays
        ]
        found.append(Given(bench.given.shape, arrays, bench.given.names))
    return found


def _after_batches(side: Side, batches: Sequence[Given], cotangents: Arrays) -> dict[str, np.ndarray]:
    """Outputs and gradients of the last batch in training mode without dropout, and what the buffers are then."""
    before = side.weights()
    with behaving(side, "train without dropout"):
        for batch in batches[:-1]:
            side.run(batch, None)
        found = side.run(batches[-1], cotangents).arrays
    buffers = {
        f"buffer.{name}": kept.value
        for name, kept in side.weights().items()
        if not kept.trainable and kept.value.dtype.kind == "f" and not np.array_equal(kept.value, before[name].value)
    }
    return found | buffers


def _statistics(bench: Bench, report: Report) -> list[Outcome]:
    batches = _batches(bench)
    bench.load(bench.kept)
    truth = _after_batches(bench.truth, batches, bench.cotangents)
    runs = []
    neighbours = draws.neighbours(bench.given, bench.kept, bench.precision, bench.count, bench.seed)
    for _, kept in bar(neighbours, "training mode", bench.count):
        bench.reference.load(kept)
        runs.append(_after_batches(bench.reference, batches, bench.cotangents))
    bench.reference.load(bench.kept)
    again = _after_batches(bench.reference, batches, bench.cotangents)
    bench.load(bench.kept)
    outputs = {name: value for name, value in runs[0].items() if name.startswith("y")}
    if any(
        not np.array_equal(again[name], value, equal_nan=value.dtype.kind == "f") for name, value in outputs.items()
    ):
        report.notes.append("in training mode the original draws at random outside of its dropout layers: not judged")
        return []
    try:
        produced = _after_batches(bench.candidate, batches, bench.cotangents)
    except Exception as error:
        return [stopped("training mode", error)]
    produced = bench.to_theirs(produced, truth, report)
    known = {f"buffer.{theirs}" for theirs in bench.pairs.weights.values()}
    produced = {n: value for n, value in produced.items() if not n.startswith("buffer.") or n in known or n in truth}
    scales = sums.scaled(truth, sums.of_model(bench.true_run.calls, truth))
    verdicts = judge(produced, runs, truth, bench.allowed, rule="layers", scales=scales)
    return [outcome_of("training mode", verdicts, bench)]


def _dropout(bench: Bench, report: Report) -> list[Outcome]:
    """Each dropout layer by its rate and scale; and how much the whole model's outputs spread."""
    outcomes = []
    ours = {theirs: mine for mine, theirs in bench.pairs.layers.items()}
    classes = bench.reference.layers()
    calls = {call.path: call for call in bench.reference_runs[0].calls if call.number == 0}
    found = []
    for path, call in calls.items():
        if "drop" not in classes[path].lower() or path not in ours or call.given is None:
            continue
        theirs = _rate(bench.reference, path, call.given)
        mine = _rate(bench.candidate, ours[path], call.given)
        problem = _other_rate(mine, theirs)
        found.append(TensorVerdict(ours[path], DIFFER, problem, math.inf) if problem else TensorVerdict(ours[path]))
    if found:
        outcome = Outcome("dropout layers", "4", "pynative")
        outcome.message = f"{plural(len(found), 'dropout layer')} of the same rate and scale"
        outcome.settle(found)
        outcomes.append(outcome)
    return outcomes + _spread(bench, report)


def _rate(side: Side, path: str, given: Given) -> tuple[float, float, float]:
    """(share of zeros, its standard error, what is left of 1) of a dropout layer in training."""
    ones = Given(given.shape, [np.ones_like(v) if v.dtype.kind == "f" else v for v in given.arrays], given.names)
    with behaving(side, "train"):
        found = [next(iter(side.run_layer(path, ones, None).values())) for _ in range(RUNS)]
    zeros = [float(np.mean(value == 0)) for value in found]
    left = np.concatenate([np.asarray(value, np.float64)[value != 0] for value in found])
    error = float(np.std(zeros, ddof=1)) / RUNS**0.5
    return float(np.mean(zeros)), error, float(np.mean(left)) if left.size else 0.0


def _other_rate(mine: tuple[float, float, float], theirs: tuple[float, float, float]) -> str:
    allowed = SURE * math.hypot(mine[1], theirs[1]) + 1e-3
    if abs(mine[0] - theirs[0]) > allowed:
        return f"it drops {mine[0]:.3f} of what it is given, the original {theirs[0]:.3f}"
    if abs(mine[2] - theirs[2]) > 1e-3 * abs(theirs[2]) and mine[0] < 1 and theirs[0] < 1:
        return f"it multiplies what is left by {mine[2]:.4g}, the original by {theirs[2]:.4g}"
    return ""


def _spread(bench: Bench, report: Report) -> list[Outcome]:
    """How much the outputs vary from run to run, and about what: dropout that is no layer shows here."""
    theirs = _noisy_runs(bench.reference, bench.given)
    quiet = not any(value.std(0).any() for value in theirs.values())
    try:
        mine = bench.to_theirs(_noisy_runs(bench.candidate, bench.given), bench.true_run.arrays, report)
    except Exception as error:
        return [stopped("dropout", error)]
    if quiet and not any(value.std(0).any() for value in mine.values()):
        return []
    problems = []
    for name, value in theirs.items():
        if name in mine and mine[name].shape == value.shape and (problem := _other_spread(mine[name], value)):
            problems.append(f"{name}: {problem}")
    message = "; ".join(problems[:3]) or f"outputs vary alike over {RUNS} runs"
    verdict, ratio = (DIFFER, math.inf) if problems else (AGREE, 0.0)
    return [Outcome("dropout", "4", "pynative", verdict=verdict, message=message, ratio=ratio)]


def _noisy_runs(side: Side, given: Given) -> dict[str, np.ndarray]:
    before = {name: kept.value for name, kept in side.weights().items()}
    with behaving(side, "train"):
        runs = [side.run(given, None).arrays for _ in bar(range(RUNS), "dropout")]
    side.load(before)
    return {
        name: np.stack([np.asarray(run[name], np.float64) for run in runs])
        for name, value in runs[0].items()
        if value.dtype.kind == "f"
    }


def _other_spread(mine: np.ndarray, theirs: np.ndarray) -> str:
    """Compares log variances and means; their standard errors come from leaving out a run at a time."""

    def logarithm(values: np.ndarray) -> float:
        return float(np.log(np.mean(np.var(values, axis=0, ddof=1)) + 1e-300))

    def with_error(values: np.ndarray) -> tuple[float, float]:
        left_out = [logarithm(np.delete(values, i, axis=0)) for i in range(RUNS)]
        return logarithm(values), math.sqrt((RUNS - 1) * np.var(left_out))

    (a, of_a), (b, of_b) = with_error(mine), with_error(theirs)
    if abs(a - b) > SURE * math.hypot(of_a, of_b) + 0.1:
        return f"it varies by {math.exp((a - b) / 2):.3g} times as much from run to run as the original's"
    error = np.sqrt((np.var(mine, 0, ddof=1) + np.var(theirs, 0, ddof=1)) / RUNS)
    apart = np.abs(mine.mean(0) - theirs.mean(0))
    worst = float(np.sqrt(np.mean(apart**2) / max(np.mean(error**2), 1e-300)))
    if worst > SURE:
        return f"its mean over {RUNS} runs is {worst:.3g} standard errors from the original's"
    return ""


def _steps(bench: Bench, count: int, report: Report) -> list[Outcome]:
    """The weights after an optimizer's step, and over more of them the loss in its envelope."""
    if not count or not any(kept.trainable for kept in bench.reference.weights().values()):
        return []
    targets = bench.cotangents
    rate = _rate_of_learning(bench)
    truth = _stepped(bench.truth, bench.given, targets, count, rate)
    runs = []
    neighbours = draws.neighbours(bench.given, bench.kept, bench.precision, bench.count, bench.seed)
    for given, kept in bar(neighbours, "an optimizer's steps", bench.count):
        bench.reference.load(kept)
        runs.append(_stepped(bench.reference, given, targets, count, rate))
    try:
        produced = _stepped(bench.candidate, bench.given, targets, count, rate)
    except Exception as error:
        return [stopped("optimizer step", error)]
    produced = {name: v for name, v in bench.pairs.to_theirs(produced, truth).items() if name in truth}
    if count == 1:
        names = [name for name in truth if name != "loss"]
        scales = {name: np.abs(truth[name]) for name in names}
        verdicts = judge(
            {name: produced[name] for name in names if name in produced},
            [{name: run[name] for name in names} for run in runs],
            {name: truth[name] for name in names}, bench.allowed, rule="layers", scales=scales,
        )  # fmt: skip
        return [outcome_of("optimizer step", verdicts, bench)]
    losses = [{"loss": run["loss"]} for run in runs]
    numbers = tolerance(bench.precision, "envelope")
    verdicts = judge({"loss": produced["loss"]}, losses, {"loss": truth["loss"]}, numbers, rule="envelope")
    return [outcome_of(f"{count} steps", verdicts, bench)]


def _stepped(side: Side, given: Given, targets: Arrays, count: int, rate: float) -> Arrays:
    with behaving(side, "train without dropout"):
        return side.steps(given, targets, count, rate)


def _rate_of_learning(bench: Bench) -> float:
    """A step of about a hundredth of the weights: more than rounding, less than what makes a model diverge."""
    pairs = [
        (bench.kept[name], gradient)
        for name in bench.kept
        if (gradient := bench.true_run.arrays.get(f"grad.weight.{name}")) is not None
    ]

    def rms(values: Sequence[np.ndarray]) -> float:
        total = sum(float(np.sum(np.square(value, dtype=np.float64))) for value in values)
        return math.sqrt(total / max(sum(value.size for value in values), 1))

    size = sum(value.size for value in bench.cotangents.values())
    return 0.01 * rms([w for w, _ in pairs]) / max(rms([g for _, g in pairs]), 1e-30) * max(size, 1) / 10
