"""Both sides of a check with the same numbers in them: the original in double and in the port's precision, the port."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..case import Arrays
from ..errors import HarnessError
from ..sides import side_of
from ..sides.mapping import Pairs, pair, pair_layers
from ..sides.side import Given, Run, Side, given_as
from ..tolerances import REFERENCES, Tolerance, tolerance
from . import draws
from .report import Report
from .truth import doubts
from .words import bar, said_by

SCALES = (0.02, 1.0, 30.0)  # of what layers are given: at one of them each of a layer's constants shows
FORWARD_ONLY = (
    "it only computes forward: outputs are judged, with the original's weights as they are; gradients, layers and "
    "training are not"
)


class LegFailed(HarnessError):
    """The original did not run, or did not in double."""


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
            name_of(candidate, port),
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
        return tolerance(self.precision, "check" if self.count >= REFERENCES else "few")

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
        with closing(side_of(port, self.candidate.precision)) as made:
            made.load(self.pairs.to_ours(self.kept))
            yield made

    def to_theirs(self, produced: Arrays, like: Arrays, report: Report) -> dict[str, np.ndarray]:
        """The port's results under the original's names."""
        return self.pairs.to_theirs(in_order(produced, like, report), like)

    def run_trusted(self, report: Report) -> None:
        """The original in double, and as often as asked in the port's precision."""
        forward = attempt("the original in double", lambda: self.truth.run(self.given, None))
        self.cotangents = draws.cotangents(forward.arrays, self.seed)
        self.true_run = attempt(
            "the original in double", lambda: self.truth.run(self.given, self.cotangents, tapped=True)
        )
        report.notes += doubts(self.truth, self.given, self.kept, self.cotangents, self.true_run, self.seed)
        neighbours = draws.neighbours(self.given, self.kept, self.precision, self.count, self.seed)
        for given, kept in bar(neighbours, "the original", self.count):
            self.reference.load(kept)
            run = attempt("the original", lambda given=given: self.reference.run(given, self.cotangents, tapped=True))
            self.reference_runs.append(run)
        self.reference.load(self.kept)
        exact = [
            name
            for name, value in self.true_run.arrays.items()
            if value.dtype.kind == "f"
            and value.size > 1
            and value.any()
            and np.array_equal(self.reference_runs[0].arrays[name], value)
        ]
        if exact:
            report.notes.append(
                f"the original's own error is exactly 0 in {', '.join(exact[:3])}: either nothing is rounded there, or "
                "its values in double are not double"
            )


def in_order(produced: Arrays, truth: Arrays, report: Report) -> dict[str, np.ndarray]:
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
    positional, named = ((), inputs) if isinstance(inputs, Mapping) else (inputs, {})
    return given_as(
        positional, named, lambda value: isinstance(value, (np.ndarray, np.generic)),
        lambda leaf: draws.rounded(np.asarray(leaf), precision),
    )  # fmt: skip


def attempt(who: str, action: Callable[[], Any]) -> Any:
    """What ``action`` gives. Raises LegFailed, which says ``who`` did not run."""
    try:
        return action()
    except HarnessError:
        raise
    except Exception as error:
        raise LegFailed(said_by(who, error)) from error


def name_of(side: Side, given: Any) -> str:
    """What a report calls a model."""
    return side.layers().get("") or getattr(given, "__name__", type(given).__name__)
