"""Layers judged one by one: by their own error, and by what they inherit.

Own: the candidate's layer is fed the reference's inputs (and, backward, the reference's cotangents), so that only
what it does itself can be wrong. Inherited: the candidate's free run, in which every error before it counts too. An
inherited error without an own one is somebody else's; the first own one is the fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..case import Arrays
from ..classes import HALF
from ..dtypes import widened
from ..report import facts
from ..tolerances import Tolerance, tolerance
from ..verdict import AGREE, DIFFER, TensorVerdict, judge

GRADIENT, ENTERING = "grad.", "input."
SIDES = ("own", "inherited", "own_backward", "inherited_backward", "received")


class Sides(NamedTuple):
    """What the three sides compute: named arrays, or functions that give them.

    Names that begin with "grad." are gradients and are judged as the backward pass. In a free run, names that begin
    with "input." are what the layer was given; they tell faults between layers from faults in them.
    """

    candidate: Arrays | Callable[[], Arrays]
    references: Sequence[Arrays | Callable[[], Arrays]]  # more than one draw, or a lucky one decides
    truth: Arrays | Callable[[], Arrays]
    scales: Arrays | Callable[[], Arrays] | None = None  # of the larger operands, where values are what those leave


@dataclass(frozen=True)
class Tap:
    """One layer as three sides compute it: the candidate, the reference (once or several times), and float64.

    Args:
        name: the layer's path, with dots; a layer holds those whose paths begin with its own.
        own: on the same inputs: the reference's.
        inherited: in the free run, where that is known.
        depth: how deep it is nested; by default the dots of its name.
    """

    name: str
    own: Sides
    inherited: Sides | None = None
    depth: int | None = None


@dataclass
class Layer:
    """What was found out about one layer. Every error is a ratio to its bound, and fails above 1.

    ``received`` is the error of the layer's input in the free run. ``worst`` holds, under the name of each error, the
    verdict on the tensor that decides it; ``alone`` and ``free`` hold those on every tensor of the two runs.
    """

    path: str
    depth: int
    own: float | None = None
    inherited: float | None = None
    own_backward: float | None = None
    inherited_backward: float | None = None
    received: float | None = None
    message: str = ""
    worst: dict[str, TensorVerdict] = field(default_factory=dict, repr=False)
    alone: list[TensorVerdict] = field(default_factory=list, repr=False)
    free: list[TensorVerdict] = field(default_factory=list, repr=False)

    @property
    def verdict(self) -> str:
        """DIFFER if the layer itself computes something else, forward or backward."""
        return DIFFER if fails(self.own) or fails(self.own_backward) else AGREE

    def as_json(self) -> dict:
        """What results.json holds of it: numbers, verdict and, where it differs, the message and the values."""
        found = {name: getattr(self, name) for name in ("path", "depth", *SIDES[:4])} | {"verdict": self.verdict}
        if self.message:
            found["message"] = self.message
        shown = {
            name: verdict.as_json()
            for name, verdict in self.worst.items()
            if name in ("own", "own_backward") and fails(getattr(self, name))
        }
        return found | ({"values": shown} if shown else {})


def fails(ratio: float | None) -> bool:
    """Whether an error is known and not within its bound."""
    return ratio is not None and not ratio <= 1


def _get(value: Arrays | Callable[[], Arrays] | None) -> Arrays | None:
    return value() if callable(value) else value


def raised(error: BaseException) -> str:
    """An exception in one line."""
    return f"raised {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _attempt(sides: Sides | None) -> Arrays | str | None:
    """What the candidate gives, or what it raised."""
    try:
        return None if sides is None else _get(sides.candidate)
    except Exception as error:  # whatever a candidate does is a finding about it
        return raised(error)


def _verdicts(
    produced: Arrays | str | None, sides: Sides, allowed: Tolerance, mixed: bool
) -> tuple[list[TensorVerdict], str]:
    """The verdicts on all tensors, and what the candidate raised."""
    if produced is None:
        return [], ""
    given = widened if mixed else dict
    references = [given(_get(reference)) for reference in sides.references]
    problem = produced if isinstance(produced, str) else ""
    produced = {} if problem else given(produced)
    found = judge(produced, references, _get(sides.truth), allowed, scales=_get(sides.scales))
    return found, problem


def _kind(verdict: TensorVerdict) -> str:
    return next((prefix for prefix in (GRADIENT, ENTERING) if verdict.name.startswith(prefix)), "")


def _worst(verdicts: Sequence[TensorVerdict], kind: str) -> TensorVerdict | None:
    mine = [verdict for verdict in verdicts if _kind(verdict) == kind]
    return max(mine, key=lambda v: (v.verdict == DIFFER, facts.ordering(v.ratio)), default=None)


def _layer(tap: Tap, own: Arrays | str, inherited: Arrays | str | None, allowed: Tolerance, mixed: bool) -> Layer:
    alone, problem = _verdicts(own, tap.own, allowed, mixed)
    free, stopped = _verdicts(inherited, tap.inherited, allowed, mixed)
    found = {
        "own": _worst(alone, ""),
        "own_backward": _worst(alone, GRADIENT),
        "inherited": _worst(free, ""),
        "inherited_backward": _worst(free, GRADIENT),
        "received": _worst(free, ENTERING),
    }
    layer = Layer(tap.name, tap.name.count(".") if tap.depth is None else tap.depth, alone=alone, free=free)
    layer.worst = {name: verdict for name, verdict in found.items() if verdict is not None}
    for name, verdict in layer.worst.items():
        setattr(layer, name, math.inf if math.isnan(verdict.ratio) else verdict.ratio)
    failing = [layer.worst[side] for side in ("own", "own_backward") if fails(getattr(layer, side))]
    layer.message = problem or "; ".join(f"{verdict.name}: {verdict.message}" for verdict in failing) or stopped
    return layer


def localise_layers(
    taps: Sequence[Tap],
    *,
    precision: str = "float32",
    around: Callable[[], AbstractContextManager] = nullcontext,
    allowed: Tolerance | None = None,
) -> list[Layer]:
    """Judges layers of any model in any pair of frameworks.

    ``theirs`` is the reference's model, ``theirs64`` the same in double, ``ours`` the candidate, and ``fed`` what a
    forward hook has seen enter each layer of ``theirs64``, as float32 arrays; ``run`` calls a layer on arrays:

        taps = [
            Tap(name, Sides(
                candidate=lambda name=name: {"y": run(ours[name], fed[name])},
                references=[lambda name=name: {"y": run(theirs[name], fed[name])}],
                truth=lambda name=name: {"y": run(theirs64[name], fed[name])},
            ))
            for name in order
        ]
        print(culprit(localise_layers(taps)))

    Outputs called "grad.SOMETHING" judge the backward pass; ``Tap.inherited`` adds the free run. Where the models are a
    PyTorch module and its MindSpore port, `portparity.ports.layer_taps` makes the taps.

    Args:
        taps: in order of computation.
        precision: a class of tolerances.toml.
        around: a context entered around all of the candidate's runs, and none of the others; a mutant, for example.
        allowed: the numbers of the verdict, where they are not those of the class.

    Returns:
        One Layer per tap. A candidate that raises has an infinite error, and the message says what it raised.
    """
    with around(), np.errstate(all="ignore"):
        produced = [(_attempt(tap.own), _attempt(tap.inherited)) for tap in taps]
    mixed = precision in HALF and allowed is None
    allowed = allowed or tolerance(precision, "few")
    return [_layer(tap, *both, allowed, mixed) for tap, both in zip(taps, produced, strict=True)]


def _as_json(layers: Sequence[Layer]) -> list[dict]:
    return [layer.as_json() for layer in layers]


def first_culprit(layers: Sequence[Layer], backward: bool = False) -> Layer | None:
    """The first layer whose own error fails: in order of computation, backward from the end.

    The innermost: where a failing layer holds layers that fail, the first of those.
    """
    found = facts.culprit(_as_json(layers), facts.BACKWARD if backward else facts.FORWARD)
    return None if found is None else next(layer for layer in layers if layer.path == found["path"])


def culprit(layers: Sequence[Layer]) -> str | None:
    """The path of the first culprit forward, or None."""
    found = first_culprit(layers)
    return None if found is None else found.path


def between(layers: Sequence[Layer], backward: bool = False) -> Layer | None:
    """Where no layer is wrong alone and the free run is: the first layer that goes wrong in it.

    The fault then lies before it, between the layers: a missing residual, skips in another order. Backward, the layer
    is the last one to which a wrong gradient comes. The outermost: what is inside it is not wrong alone either.
    """
    if first_culprit(layers, backward):
        return None
    astray = [layer for layer in layers if fails(layer.inherited_backward if backward else layer.inherited)]
    found = next(reversed(astray) if backward else iter(astray), None)
    return next((layer for layer in astray if f"{found.path}.".startswith(f"{layer.path}.")), None)
