"""Does a port compute what its original computes? Everything that two models and one set of arguments can tell.

The story in order: pair the weights and layers of both sides, give both the same numbers, run the original in double
(the truth) and in the port's precision (the reference, nine times: as it is and from neighbouring floats), run the
port, and judge: forward and every gradient in both execution modes, every layer alone at three scales and in the free
run, training behaviour, an optimizer's step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..case import Arrays
from ..errors import BundleError, HarnessError
from ..ports import sources_of
from ..runner import Outcome
from ..sides import recorded, side_of
from ..sides.mapping import Pairs, pair, pair_layers
from ..sides.recorded import Recording
from ..sides.remote import Raised
from ..sides.side import Given, Run, Side
from ..sides.trees import names as names_of
from ..sides.trees import taken_apart
from ..sources import hash_of
from ..tolerances import Tolerance, tolerance
from ..verdict import DIFFER, TensorVerdict, judge
from . import draws, sums
from .layers import judge_layers
from .report import Report
from .training import judge_training
from .truth import doubts
from .words import said_by

REFERENCES = 9  # runs of the original: with nine of them K = 4 raises no alarm, see docs/design/verdict.md
SCALES = (0.02, 1.0, 30.0)  # of what layers are given: at one of them each of a layer's constants shows


FORWARD_ONLY = (
    "it only computes forward: outputs are judged, with the original's weights as they are; gradients, layers and "
    "training are not"
)


class LegFailed(HarnessError):
    """The original did not run, or did not in double."""


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
    candidate = side_of(port)
    trusted = trusted_of(original, candidate.precision or "float32", inputs, options)
    report = judged(trusted, candidate, port, names or {}, layers or {}, modes, title)
    report.seconds = time.perf_counter() - began
    return report


def judged(
    trusted: Trusted,
    candidate: Side,
    port: Any,
    names: Mapping[str, str | None],
    layers: Mapping[str, str],
    modes: Sequence[str],
    title: str = "",
) -> Report:
    """The report on ``candidate``, the side of ``port``."""
    bench = Bench.of(trusted, candidate, port, names, layers)
    options = trusted.options
    report = Report(title or f"{bench.candidate_name} of {trusted.name}", notes=[*trusted.notes, *bench.pairs.notes])
    try:
        bench.run_trusted(report)
        for mode in modes if bench.candidate.framework == "mindspore" else ("",):
            with bench.fresh(port) if mode == "graph" else nullcontext(bench.candidate) as candidate:
                report.outcomes += judge_whole(bench, candidate, mode, report)
        report.outcomes += judge_layers(bench, options.scales, report)
        if options.training and not bench.candidate.forward_only:
            report.outcomes += judge_training(bench, options.steps, report)
    except Raised as error:  # its process is gone, and what it was asked in was no try of its own
        report.notes.append(f"nothing more was judged: {said_by('the port', error)}")
    finally:
        bench.close()
    return report


@dataclass(frozen=True)
class Options:
    """What the trusted side is asked; see `check`."""

    weights: str = "moved"
    scales: tuple[float, ...] = SCALES
    references: int = REFERENCES
    training: bool = True
    steps: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Trusted:
    """The original in double and in the port's precision, its arguments, and what it is asked."""

    truth: Side
    reference: Side
    given: Given
    options: Options
    name: str
    notes: tuple[str, ...] = ()


def trusted_of(original: Any, precision: str, inputs: Any, options: Options) -> Trusted:
    """The trusted side: the original's, run here, or what was recorded of it."""
    if isinstance(original, str | Path) and (Path(original) / "manifest.json").is_file():
        return recalled(Path(original), inputs)
    if inputs is None:
        raise HarnessError("inputs are missing: numpy arrays by argument name, or in order")
    reference = _attempt("the original", lambda: side_of(original, precision))
    truth = _attempt("the original in double", lambda: side_of(original, "float64", reference))
    return Trusted(truth, reference, given_of(inputs, precision), options, _name(reference, original))


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
    itself = side_of(original, precision)  # every layer of it has a counterpart in itself, so all is asked
    judged(trusted, itself, original, {}, {}, ())
    about = {
        "options": asdict(trusted.options), "name": asked.name, "given": asked.given,
        "code": {str(path): hash_of([path]) for path in sources_of(original)},
    }  # fmt: skip
    recorded.write(Path(folder), {"truth": truth, "reference": reference}, about)
    return Path(folder)


def recalled(folder: Path, inputs: Any) -> Trusted:
    """What `record` wrote. Raises BundleError where it is of other code or other inputs."""
    about, sides, made_with = recorded.read(folder)
    for file, code in about["code"].items():
        if Path(file).is_file() and hash_of([Path(file)]) != code:
            raise BundleError(f"{folder} is stale: {file} has changed since it was recorded; record it anew")
    given = about["given"]
    if inputs is not None and not same_given(given, given_of(inputs, sides["reference"].precision)):
        raise BundleError(f"{folder} was recorded from other inputs; leave them out, or record it anew")
    options = Options(**{**about["options"], "scales": tuple(about["options"]["scales"])})
    note = f"the original's answers were recorded with torch {made_with['torch']} and numpy {made_with['numpy']}"
    return Trusted(sides["truth"], sides["reference"], given, options, about["name"], (note,))


def same_given(a: Given, b: Given) -> bool:
    """Whether two sets of arguments are the same, number for number."""
    return a.shape == b.shape and all(
        x.dtype == y.dtype and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for x, y in zip(a.arrays, b.arrays, strict=True)
    )


@dataclass
class Bench:
    """Both sides with the same numbers in them, and what the trusted one gave."""

    truth: Side
    reference: Side
    candidate: Side
    pairs: Pairs
    given: Given
    kept: dict[str, np.ndarray]
    count: int
    seed: int
    candidate_name: str
    cotangents: dict[str, np.ndarray] = field(default_factory=dict)
    true_run: Run | None = None
    reference_runs: list[Run] = field(default_factory=list)

    @classmethod
    def of(cls, trusted: Trusted, candidate: Side, port: Any, names: Mapping, layers: Mapping) -> Bench:
        """Pairs both sides and gives them the same weights."""
        options, precision = trusted.options, trusted.reference.precision
        if (candidate.precision or precision) != precision:
            raise HarnessError(f"the port is {candidate.precision} and the original {precision}: record it in the same")
        kept, as_they_are = trusted.reference.weights(), options.weights == "given"
        if candidate.forward_only:
            pairs, as_they_are = Pairs({}, notes=[FORWARD_ONLY]), True
        else:
            pairs = pair(candidate.weights(), kept, names)
            pair_layers(pairs, candidate.layers(), trusted.reference.layers(), layers)
        drawn = {
            name: value
            for name, value in draws.weights(kept, precision, options.seed).items()
            if not kept[name].is_buffer or kept[name].saved
        }
        if as_they_are:
            drawn = {name: draws.rounded(kept[name].value, precision) for name in drawn}
        bench = cls(
            trusted.truth, trusted.reference, candidate, pairs, trusted.given, drawn, options.references, options.seed,
            _name(candidate, port),
        )  # fmt: skip
        bench.load(drawn)
        return bench

    @property
    def precision(self) -> str:
        """The port's."""
        return self.reference.precision

    @property
    def allowed(self) -> Tolerance:
        """By which layers and networks are judged."""
        return tolerance(self.precision, "check" if self.count >= REFERENCES else "layers")

    def load(self, weights: Arrays) -> None:
        """The same weights into all three."""
        self.truth.load(weights)
        self.reference.load(weights)
        self.candidate.load(self.pairs.to_ours(weights))

    @contextmanager
    def fresh(self, port: Any) -> Iterator[Side]:
        """The port in a new process, where it is named by its place: what ran before must have no say in a graph."""
        if not isinstance(port, str):
            yield self.candidate
            return
        made = side_of(port, self.candidate.precision)
        try:
            made.load(self.pairs.to_ours(self.kept))
            yield made
        finally:
            made.close()

    def close(self) -> None:
        """Leaves the models as they were, and ends their processes."""
        self.candidate.give_back()
        for side in (self.truth, self.reference, self.candidate):
            side.close()

    def to_theirs(self, produced: Arrays, like: Arrays, report: Report) -> dict[str, np.ndarray]:
        """The port's results under the original's names."""
        return self.pairs.to_theirs(_same_names(produced, like, report), like)

    def run_trusted(self, report: Report) -> None:
        """The original in double, and as often as asked in the port's precision."""
        forward = _attempt("the original in double", lambda: self.truth.run(self.given, None))
        self.cotangents = draws.cotangents(forward.arrays, self.seed)
        self.true_run = _attempt(
            "the original in double", lambda: self.truth.run(self.given, self.cotangents, tapped=True)
        )
        report.notes += doubts(self.truth, self.given, self.kept, self.cotangents, self.true_run, self.seed)
        for given, kept in draws.neighbours(self.given, self.kept, self.precision, self.count, self.seed):
            self.reference.load(kept)
            run = _attempt("the original", lambda given=given: self.reference.run(given, self.cotangents, tapped=True))
            self.reference_runs.append(run)
        self.reference.load(self.kept)
        exact = [
            name
            for name, value in self.true_run.arrays.items()
            if value.dtype.kind == "f"
            and value.size > 1
            and value.any()
            and all(np.array_equal(run.arrays[name], value) for run in self.reference_runs[:1])
        ]
        if exact:
            report.notes.append(
                f"the original's own error is exactly 0 in {', '.join(exact[:3])}: either nothing is rounded there, or "
                "its values in double are not double"
            )


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


def outcome_of(
    name: str, verdicts: Sequence[TensorVerdict], bench: Bench, mode: str = "pynative", seconds: float = 0.0
) -> Outcome:
    """The verdicts on several tensors as one."""
    outcome = Outcome(name, "3", mode, bench.precision, "layers", seconds=seconds, tensors=list(verdicts))
    outcome.ratio = max((v.ratio for v in verdicts), default=0.0)
    failed = [v for v in verdicts if v.verdict == DIFFER]
    if failed:
        worst = outcome.worst
        others = f" (and {len(failed) - 1} more of {len(verdicts)})" if len(failed) > 1 else ""
        outcome.verdict, outcome.message = DIFFER, f"{worst.name}: {worst.message}{others}"
    return outcome


def _same_names(produced: Arrays, truth: Arrays, report: Report) -> dict[str, np.ndarray]:
    """A dataclass may have become a tuple: outputs called otherwise are taken in order where there are as many."""
    mine = [name for name in produced if name.split(".")[0] == "y"]
    theirs = [name for name in truth if name.split(".")[0] == "y"]
    if mine == theirs or len(mine) != len(theirs):
        return dict(produced)
    note = f"outputs are compared in order: the port's {', '.join(mine)} with the original's {', '.join(theirs)}"
    if note not in report.notes:
        report.notes.append(note)
    renamed = dict(zip(mine, theirs, strict=True))
    return {renamed.get(name, name): value for name, value in produced.items()}


def given_of(inputs: Mapping[str, Any] | Sequence[Any], precision: str = "float32") -> Given:
    """Arguments by name or in order, floats in the port's precision."""
    named = isinstance(inputs, Mapping)
    tree = {"positional": () if named else tuple(inputs), "named": dict(inputs) if named else {}}
    shape, leaves = taken_apart(tree, lambda value: isinstance(value, (np.ndarray, np.generic)))
    labels = [label.split(".", 2)[-1] for label in names_of(shape, "given")]
    return Given(shape, [draws.rounded(np.asarray(leaf), precision) for leaf in leaves], labels)


def _attempt(who: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except HarnessError:
        raise
    except Exception as error:
        raise LegFailed(said_by(who, error)) from error


def _name(side: Side, given: Any) -> str:
    return side.layers().get("") or getattr(given, "__name__", type(given).__name__)
