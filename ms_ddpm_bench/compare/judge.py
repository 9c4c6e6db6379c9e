"""Whether two runs agree: the rule of free runs (`verdict.judge_envelope`), on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from portparity.tolerances import tolerance
from portparity.verdict import AGREE, TensorVerdict, judge_tensor

NAMES = {"mindspore": "MindSpore", "torch": "PyTorch"}
CURVES = {"loss": "loss", "grad_norm": "gradient norm"}


def envelope(
    name: str, mindspore: np.ndarray, torch: np.ndarray, others: Sequence[np.ndarray], truth: np.ndarray
) -> list[dict]:
    """Both sides judged against float64.

    MindSpore's envelope is what PyTorch's run and its other runs draw, as in the harness. PyTorch's run is judged by
    the other runs alone: where it is itself beyond them, the two were not given the same, and it may not widen
    MindSpore's envelope.
    """
    allowed = tolerance("float32", "envelope")

    def verdict(candidate: np.ndarray, references: Sequence[np.ndarray]) -> TensorVerdict:
        return judge_tensor(name, candidate, references, truth, allowed, rule="envelope")

    theirs = verdict(torch, others)
    ours = verdict(mindspore, [torch, *others] if theirs.verdict == AGREE else others)
    return [{"side": "mindspore", **ours.as_json()}, {"side": "torch", **theirs.as_json()}]


def curves(runs: Mapping[str, Mapping], yardstick: Mapping[str, Mapping]) -> list[dict]:
    """The verdicts on loss and gradient norm of both sides."""
    found = []
    for key, name in CURVES.items():
        ours, theirs = (np.array(runs[side][key], np.float32) for side in ("mindspore", "torch"))
        others = [np.array(run[key], np.float32) for kind, run in yardstick.items() if kind != "float64"]
        found += envelope(name, ours, theirs, others, np.array(yardstick["float64"][key]))
    return found


def chains(mindspore: np.ndarray, torch: np.ndarray, yardstick: Mapping[str, np.ndarray]) -> list[dict]:
    """The verdicts on the sampling chain of equal weights."""
    others = [chain for kind, chain in yardstick.items() if kind != "float64"]
    return envelope("sampling chain", mindspore, torch, others, yardstick["float64"])


def parting(checks: Sequence[Mapping]) -> Mapping | None:
    """The check that leaves its envelope first, training before sampling; None where all agree."""
    failed = [check for check in checks if check["verdict"] != AGREE]
    order = [*CURVES.values(), "sampling chain"]
    return min(failed, key=lambda c: (c["name"] == order[-1], step(c), order.index(c["name"])), default=None)


def step(check: Mapping) -> int:
    """The first step, from 0, at which a check is outside its envelope."""
    return next(iter(check.get("index") or (0,)))


def first_layer(layers: Sequence[Mapping]) -> tuple[Mapping, str] | None:
    """The first layer that is wrong by itself, and in which direction; None where no layer is."""
    from portparity.report import facts

    for side, direction in ((facts.FORWARD, "forward"), (facts.BACKWARD, "backward")):
        if found := facts.culprit(layers, side):
            return found, direction
    return None
