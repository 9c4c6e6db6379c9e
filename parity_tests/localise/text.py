"""Where a computation first goes wrong, in words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from ..case import Case, Computation
from ..report import facts, words
from ..runner import BROKEN, Outcome, run
from ..verdict import AGREE, DIFFER
from .layers import SIDES, Layer, between, fails, first_culprit
from .network import localise

PLACES: dict[str, Callable[[Mapping], str]] = {  # what a computation that is no network is, by its kind
    "layer": lambda spec: f"the layer itself, {spec['layer']}",
    "method": lambda spec: f"GaussianDiffusion.{spec['method']}",
    "tables": lambda spec: "a table of the diffusion",
    "times": lambda spec: "the times of DDIM",
    "ddim_step": lambda spec: "one step of DDIM",
    "loss": lambda spec: "the loss",
    "optimizer": lambda spec: f"the optimizer {spec['optimizer']}",
    "clip": lambda spec: "clipping by the global norm",
    "ema": lambda spec: "the moving average",
    "train": lambda spec: "a training run",
    "chain": lambda spec: f"the chain of {spec['sampler']}",
    "interpolate": lambda spec: "interpolation",
    "roundtrip": lambda spec: "weights there and back",
}


class Bisection(NamedTuple):
    """Whether all agrees, and the text that says where it does not."""

    agrees: bool
    text: str


def _crumbs(path: str) -> str:
    """ "unet > downs.1 > attn > norm" of "downs.1.attn.norm"."""
    return " > ".join(["unet", *re.sub(r"\.(?=\d)", "\0", path).replace(".", "\n").replace("\0", ".").split("\n")])


def _times(ratio: float) -> str:
    return "beyond any bound" if math.isinf(ratio) else f"{words.plain(words.ratio(ratio))}x its bound"


def _worst(layers: Sequence[Layer], side: str) -> str:
    """The largest error of a side, and whose it is."""
    judged = [layer for layer in layers if getattr(layer, side) is not None]
    if not judged:
        return "not looked at"
    found = max(judged, key=lambda layer: facts.ordering(getattr(layer, side)))
    return f"at most {_times(getattr(found, side))}, at {found.path}"


def _details(layer: Layer, side: str) -> list[str]:
    """Message and numbers of the tensor that decides a layer's error."""
    tensor = layer.worst[side]
    message = layer.message if math.isinf(getattr(layer, side)) else f"{tensor.name}: {tensor.message}"
    lines = words.failure({"message": message, "tensors": [tensor.as_json()], "layers": [], "reproduce": ""})[:-1]
    return [f"  {line}" for line in lines]


def _direction(layers: Sequence[Layer], backward: bool) -> list[str]:
    """One direction: the culprit with its numbers and the tree down to it, or why there is none."""
    name, own, inherited = ("backward", *SIDES[2:4]) if backward else ("forward", *SIDES[:2])
    if found := first_culprit(layers, backward):
        tree = words.tree([layer.as_json() for layer in layers], own)
        head = f"{name}: {_crumbs(found.path)}: own error {_times(getattr(found, own))}"
        return [head, *_details(found, own), *(f"    {line}" for line in tree)]
    alone = f"no layer is wrong alone ({_worst(layers, own)})"
    if not (found := between(layers, backward)):
        return [f"{name}: every layer agrees, alone ({_worst(layers, own)}) and in the free run "
                f"({_worst(layers, inherited)})"]  # fmt: skip
    if backward and any(fails(layer.inherited) for layer in layers):
        return [f"{name}: {alone}, and in the free run the gradients follow the values, which differ"]
    received = fails(found.received) and not backward
    where = "what it is given is wrong already" if received else "what comes out of it is wrong"
    where = "the gradient that comes to it is wrong already" if backward else where
    side = inherited if backward or not received else "received"
    return [
        f"{name}: {alone}, but in the free run the error starts at {_crumbs(found.path)}: {where}, "
        f"{_times(getattr(found, side))}; so the fault is in what joins the layers there",
        *_details(found, side),
    ]


def told(layers: Sequence[Layer]) -> str:
    """Where layers go wrong, forward and then backward."""
    return "\n".join(words.printable(line) for backward in (False, True) for line in _direction(layers, backward))


def _network(computation: Computation, candidate: str, around: Callable, mode: str, kernels: bool | None) -> Bisection:
    layers = localise(computation, candidate, around=around, mode=mode, kernels=kernels)
    agrees = not any(fails(getattr(layer, side)) for layer in layers for side in SIDES)
    text = f"{len(layers)} layers, {candidate} against torch and float64\n{told(layers)}"
    if agrees and computation.spec.get("mode") == "graph" and candidate == "mindspore" and mode == "pynative":
        text += "\nThis is PyNative, layer by layer; what graph mode makes of a layer is seen with mode='graph'."
    return Bisection(agrees, text)


def _first(outcome: Outcome) -> str:
    """The first tensor that differs: in the order of the outputs, or of a trajectory's steps."""
    failed = [tensor for tensor in outcome.tensors if tensor.verdict == DIFFER]
    steps = [(t.trajectory["first_outside"], t.name) for t in failed if t.trajectory]
    if steps:
        step, name = min(steps)
        return f"first outside its envelope: {name} at step {step}"
    names = ", ".join(tensor.name for tensor in failed[:3]) + (", ..." if len(failed) > 3 else "")
    return f"{len(failed)} of {len(outcome.tensors)} outputs differ, in order: {names}"


def _other(case: Case, candidate: str, around: Callable) -> Bisection:
    spec = case.computation.spec
    (outcome,) = run([case], candidate, around=around)
    network = case.computation.key.startswith("network/")
    default = "the network as a whole" if network else "the computation"
    place = PLACES.get(spec.get("kind"), lambda spec: default)(spec)
    if outcome.verdict == AGREE:
        return Bisection(True, f"{place}: agrees (ratio {words.plain(words.ratio(outcome.ratio))})")
    if outcome.verdict == BROKEN:
        return Bisection(False, f"{place}: could not be judged: {outcome.message}")
    lines = [f"{place}: {_first(outcome)}", "the worst:", *words.failure(outcome.as_json())[:-1]]
    if "unet" in spec:
        lines.append("A network runs inside: bisect a case of tier 3 to see whether the fault is in a layer of it.")
    elif network:
        lines.append("Only a Unet is taken apart; this network's layers alone: python scripts/parity.py check --tier 2")
    return Bisection(False, "\n".join(lines))


def bisect(
    what: Case | Computation,
    candidate: str = "mindspore",
    *,
    around: Callable[[], AbstractContextManager] = nullcontext,
    mode: str = "pynative",
    kernels: bool | None = None,
) -> Bisection:
    """Where a case first goes wrong: of a network the layer, of anything else the output, the time or the step.

    Args:
        what: a case or its computation.
        candidate: "mindspore" or "torch".
        around: a context entered around the candidate's runs only; a mutant, for example.
        mode, kernels: see `localise`.

    Returns:
        (whether all agrees, the text).
    """
    case = what if isinstance(what, Case) else Case(what.key, "", what)
    network = case.computation.spec.get("kind") == "network"
    found = _network(case.computation, candidate, around, mode, kernels) if network else _other(case, candidate, around)
    return Bisection(found.agrees, f"{case.id}: {found.text}")
