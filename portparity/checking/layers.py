"""Every layer of both models: alone, on what the original's layer was given, at several scales; and in the free run."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np

from ..localise import Sides, Tap, between, localise_layers
from ..runner import Outcome, and_more
from ..sides.side import Call, Given
from ..verdict import AGREE, DIFFER
from . import draws, histograms, sums
from .trees import Trees
from .words import bar, said_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bench import Bench
    from .report import Report


def judge_layers(bench: Bench, scales: Sequence[float], report: Report) -> list[Outcome]:
    """Fills ``report.layers`` and ``report.left_out``; the verdict is of the layers' own errors and of the joints."""
    began = time.perf_counter()
    report.trees = Trees(bench.reference.layers(), bench.candidate.layers(), dict(bench.pairs.layers))
    if not bench.pairs.layers:
        return []
    try:
        free = bench.candidate.run(bench.given, bench.cotangents, tapped=True)
    except Exception as error:
        report.notes.append(f"the free run of the port's layers stopped: {said_by('it', error)}")
        free = None
    ours = {theirs: mine for mine, theirs in bench.pairs.layers.items()}
    of_candidate = {call.name: call for call in free.calls} if free else {}
    of_references = [{call.name: call for call in run.calls} for run in bench.reference_runs]
    for true in bar(sorted(bench.true_run.calls, key=lambda call: call.order), "layers"):
        if true.path not in ours:
            report.left_out[true.name] = "no counterpart in the port"
            continue
        mine = Call(ours[true.path], true.number).name
        if free and mine not in of_candidate:
            report.left_out[mine] = "the port does not call it"
            continue
        calls = [calls[true.name] for calls in of_references]
        tap, why_not = _tap(bench, mine, true, calls, of_candidate.get(mine), scales)
        if why_not:
            report.left_out[mine] = why_not
        if tap is not None:
            report.layers += localise_layers([tap], precision=bench.precision, allowed=bench.allowed)
            report.histograms[mine] = histograms.of_layer(tap)
    _leave_out_what_is_cut_elsewhere(report)
    return [_verdict(bench, report, time.perf_counter() - began)]


HEALED = 1000.0  # times the bound: so large an error of a layer cannot be in a model that agrees as a whole


def _leave_out_what_is_cut_elsewhere(report: Report) -> None:
    """A port may draw the line between two layers elsewhere: an activation inside, a residual outside.

    Such a layer gives or is given something else altogether, and yet the model as a whole agrees, forward and in every
    gradient. A fault that small in the whole is no such thing: its layer's error in the free run is small too.
    """
    whole = [outcome for outcome in report.outcomes if outcome.id.startswith(("forward", "gradients"))]
    if not whole or any(outcome.verdict != AGREE for outcome in whole):
        return
    for layer in list(report.layers):
        free = [layer.inherited, layer.received, layer.inherited_backward]
        if any(error is not None and error > HEALED for error in free):
            report.layers.remove(layer)
            report.left_out[layer.path] = "the port draws the line between layers elsewhere here; the whole agrees"


def _tap(
    bench: Bench, mine: str, true: Call, references: list[Call], candidate: Call | None, scales: Sequence[float]
) -> tuple[Tap | None, str]:
    """One layer as all sides compute it; or why it cannot be tried alone."""
    inherited = None
    if candidate is not None and true.outputs:
        ours, *theirs = (_free(call) for call in (candidate, true, *references))
        # An argument given by place here and by name there, a gradient that one side cannot see or that nothing needs.
        apart = {name for name in ours.keys() ^ theirs[-1].keys() if name.startswith(("grad.", "input."))}
        ours, truth, *runs = ({name: v for name, v in run.items() if name not in apart} for run in (ours, *theirs))
        inherited = Sides(ours, runs, truth)
    own, why_not = _alone(bench, mine, true, references[0], scales)
    if own is None:
        own = Sides({}, [{}], {})
    return (Tap(mine, own, inherited) if own.truth or inherited else None), why_not


def _free(call: Call) -> dict[str, np.ndarray]:
    entered = dict(zip(call.given.names, call.given.arrays, strict=True)) if call.given else {}
    floats = {f"input.{name}": value for name, value in entered.items() if value.dtype.kind == "f"}
    return floats | call.outputs | call.gradients


def _alone(bench: Bench, mine: str, true: Call, reference: Call, scales: Sequence[float]) -> tuple[Sides | None, str]:
    """The layer on what the reference's was given, times every scale."""
    if reference.given is None or reference.why_not:
        return None, reference.why_not
    path, own = mine.split("#")[0], true.path
    cotangents = draws.cotangents(true.outputs, bench.seed)
    inside = {name: value for name, value in bench.kept.items() if f"{name}.".startswith(f"{own}.")}
    produced: dict[str, np.ndarray] = {}
    sizes: dict[str, np.ndarray] = {}
    truth: dict[str, np.ndarray] = {}
    runs: list[dict[str, np.ndarray]] = [{} for _ in range(bench.count)]
    for scale in scales if any(value.dtype.kind == "f" for value in reference.given.arrays) else (1.0,):
        given = _scaled(reference.given, scale, bench.precision)
        at = "" if scale == 1 else f"@{scale:g}"
        try:
            found = bench.candidate.run_layer(path, given, cotangents)
        except TypeError as error:
            return None, said_by("called as the original's it", error)
        except Exception as error:
            return None, said_by("it", error)
        exact = bench.truth.run_layer(own, given, cotangents)
        found = bench.pairs.to_theirs(found, exact)
        truth |= {f"{name}{at}": value for name, value in exact.items()}
        lengths = sums.of_layer(true.outputs, exact)
        sizes |= {f"{name}{at}": value for name, value in sums.scaled(exact, lengths).items()}
        produced |= {f"{name}{at}": value for name, value in found.items() if name in exact}
        neighbours = draws.neighbours(given, inside, bench.precision, bench.count, bench.seed)
        for run, (near, kept) in zip(runs, neighbours, strict=True):
            bench.reference.load(kept)
            run |= {f"{name}{at}": v for name, v in bench.reference.run_layer(own, near, cotangents).items()}
        bench.reference.load(inside)
    return Sides(produced, runs, truth, sizes), ""


def _scaled(given: Given, scale: float, precision: str) -> Given:
    arrays = [
        draws.rounded(value * np.float32(scale), precision) if value.dtype.kind == "f" else value
        for value in given.arrays
    ]
    return Given(given.shape, arrays, given.names)


def _verdict(bench: Bench, report: Report, seconds: float) -> Outcome:
    outcome = Outcome("layers", "2", "pynative", bench.precision, "layers", seconds=seconds)
    errors = [error for layer in report.layers for error in (layer.own, layer.own_backward) if error is not None]
    outcome.ratio = max(errors, default=0.0)
    wrong = [layer for layer in report.layers if layer.verdict == DIFFER]
    outcome.layers = [layer.as_json() for layer in report.layers]
    if wrong:
        inside = [layer for layer in wrong if not any(other.path.startswith(f"{layer.path}.") for other in wrong)]
        culprit = report.first_culprit
        first = next((layer for layer in inside if layer.path == culprit), inside[0])
        others = [layer.path for layer in inside if layer is not first]
        more = and_more(others, len(report.layers), shown=8)
        outcome.verdict = DIFFER
        outcome.message = f"{first.path}: {first.message}{more}"
    elif any(between(report.layers, backward) for backward in (False, True)):
        outcome.verdict = DIFFER
        outcome.message = f"no layer is wrong alone, but between two of them: {report.first_culprit}"
    else:
        outcome.verdict = AGREE
        outcome.message = f"{len(report.layers)} layers, at most {outcome.ratio:.2g} of the bound"
    if math.isnan(outcome.ratio):
        outcome.ratio = math.inf
    return outcome
