"""Where a check first goes wrong, in words: of a Unet the layer, of anything else the output, the time or the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from portparity.case import Case, Computation
from portparity.localise import first_difference, told
from portparity.localise.layers import SIDES, fails
from portparity.report import words
from portparity.runner import BROKEN, run
from portparity.verdict import AGREE

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


def _network(computation: Computation, candidate: str, around: Callable, mode: str, kernels: bool | None) -> Bisection:
    layers = localise(computation, candidate, around=around, mode=mode, kernels=kernels)
    agrees = not any(fails(getattr(layer, side)) for layer in layers for side in SIDES)
    text = f"{len(layers)} layers, {candidate} against torch and float64\n{told(layers, 'unet')}"
    if agrees and computation.spec.get("mode") == "graph" and candidate == "mindspore" and mode == "pynative":
        text += "\nThis is PyNative, layer by layer; what graph mode makes of a layer is seen with mode='graph'."
    return Bisection(agrees, text)


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
    lines = [f"{place}: {first_difference(outcome)}", "the worst:", *words.failure(outcome.as_json())[:-1]]
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
