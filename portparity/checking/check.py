"""Does a port compute what its original computes? Everything that two models and one set of arguments can tell.

The story in order: pair the weights and layers of both sides, give both the same numbers, run the original in double
(the truth) and in the port's precision (the reference, nine times: as it is and from neighbouring floats), run the
port, and judge: forward and every gradient in both execution modes, every layer alone at three scales and in the free
run, training behaviour, an optimizer's step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..classes import HALF
from ..errors import HarnessError
from ..runner import Outcome
from ..sides import side_of
from ..sides.recorded import Recording
from ..sides.remote import Raised
from ..sides.side import Side
from ..tolerances import REFERENCES
from ..verdict import DIFFER
from .bench import SCALES, Bench, Options, Trusted
from .layers import judge_layers
from .report import Report
from .training import judge_training
from .trusted import trusted_of, written
from .whole import judge_whole
from .words import said_by


def check(
    original: Any,
    port: Any,
    inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    names: Mapping[str, str | None] | None = None,
    layers: Mapping[str, str] | None = None,
    modes: Sequence[str] = ("pynative", "graph"),
    weights: str = "moved",
    scales: Sequence[float] = SCALES,
    references: int = REFERENCES,
    half: str = "",
    training: bool = True,
    steps: int = 1,
    seed: int = 0,
    title: str = "",
) -> Report:
    """Judges a port against its original.

        report = check(torch_module, mindspore_cell, {"x": x, "t": t})
        print(report)

    Args:
        original: a PyTorch module, or better a function without arguments that makes one: it is then made again in
            double, so that its tables are true as well. A module given is copied and stays as it is. A string,
            "FILE.py:NAME" or "package.module:NAME", names either, and it then runs in processes of its own; so for
            the port, whose graph gets a new process. Or the folder that `record` wrote: then PyTorch is not needed,
            and inputs and options are those of the recording.
        port: a MindSpore cell, a PyTorch module (``torch.compile``), an ONNX file or session, a function of arrays; or
            a function without arguments that makes one.
        inputs: numpy arrays by argument name, or in order. None, numbers, booleans, tuples and dicts of arrays go too.
        names: the port's parameter names -> the original's, where they cannot be paired by themselves; "NAME.T" where
            the port keeps the matrix the other way round, None for one that has no counterpart.
        layers: the port's layers -> the original's, by path, where they are called otherwise.
        modes: how MindSpore runs the whole model.
        weights: "moved": the original's own, off the constants with which they begin; "given": exactly its own.
        scales: by which what a layer is given in the free run is multiplied when it is tried alone.
        references: how often the original runs in the port's precision.
        half: "float16" or "bfloat16": both are cast to it before they are judged. Otherwise the port stays in the
            precision that it has, and the original is run in that.
        training: whether dropout, running statistics and optimizer steps are judged too.
        steps: how many optimizer steps.
        seed: of everything drawn.
        title: what the report is called.

    Returns:
        A Report: ``agrees``, ``first_culprit``, ``outcomes``, ``write(folder)``.

    Raises:
        HarnessError: parameters that cannot be paired, an original that does not run.
    """
    began = time.perf_counter()
    options = Options(weights, tuple(scales), references, training, steps, seed)
    if half not in ("", *HALF):
        raise HarnessError(f"half is {half!r}: expected {' or '.join(HALF)}")
    with closing(side_of(port, half)) as candidate:
        trusted = trusted_of(original, candidate.precision or "float32", inputs, options)
        report = judged(trusted, candidate, port, names or {}, layers or {}, modes, title)
    report.seconds = time.perf_counter() - began
    return report


def record(
    original: Any, inputs: Any, folder: str | Path, *, precision: str = "float32", options: Options | None = None
) -> Path:
    """Writes what the original answers to everything that `check` asks, for a machine without PyTorch.

        record(TorchNet, {"x": x}, "recorded")   # where PyTorch is
        check("recorded", MindSporeNet)          # on an Ascend box

    Args:
        original, inputs: as for `check`.
        folder: where to.
        precision: the port's: "float32", "float16" or "bfloat16".
        options: what is asked.

    Returns:
        The folder.
    """
    asked = trusted_of(original, precision, inputs, options or Options())
    truth, reference = Recording(asked.truth), Recording(asked.reference)
    trusted = replace(asked, truth=truth, reference=reference)
    with closing(side_of(original, precision)) as itself:  # every layer has a counterpart in itself, so all is asked
        judged(trusted, itself, original, {}, {}, ())
    written(Path(folder), asked, original, {"truth": truth, "reference": reference})
    return Path(folder)


def judged(
    trusted: Trusted,
    candidate: Side,
    port: Any,
    names: Mapping[str, str | None],
    layers: Mapping[str, str],
    modes: Sequence[str],
    title: str = "",
) -> Report:
    """The report on ``candidate``, the side of ``port``. The trusted sides are let go of."""
    with closing(trusted.truth), closing(trusted.reference):
        try:
            bench = Bench.of(trusted, candidate, port, names, layers)
            report = Report(title or _title(bench, trusted.name), notes=[*trusted.notes, *bench.pairs.notes])
            judge_everything(bench, port, modes, trusted.options, report)
        finally:
            candidate.give_back()
    return report


def _title(bench: Bench, original: str) -> str:
    """Which port of what. A port is often called as its original is, and then the frameworks tell them apart."""
    if bench.candidate_name != original:
        return f"{bench.candidate_name} of {original}"
    return f"{original} ({bench.candidate.framework}) of {original} ({bench.reference.framework})"


def judge_everything(bench: Bench, port: Any, modes: Sequence[str], options: Options, report: Report) -> None:
    """Adds to ``report`` what each question comes to, up to the one at which the port's process ends."""
    try:
        bench.run_trusted(report)
        for mode in modes if bench.candidate.framework == "mindspore" else ("",):
            with bench.fresh(port) if mode == "graph" else nullcontext(bench.candidate) as candidate:
                report.outcomes += judge_whole(bench, candidate, mode, report)
        if report.outcomes and not any(outcome.tensors for outcome in report.outcomes):  # it raised, and would again
            return
        report.outcomes += judge_layers(bench, options.scales, report)
        if options.training and not bench.candidate.forward_only:
            report.outcomes += judge_training(bench, options.steps, report)
    except Raised as error:  # its process is gone, and what it was asked then was no try of its own
        said = f"{said_by('the port', error)}; nothing more was judged"
        report.outcomes.append(Outcome("the rest", "4", verdict=DIFFER, message=said, ratio=math.inf))
