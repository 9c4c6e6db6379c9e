"""Where a computation first goes wrong, in words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ..report import facts, words
from ..runner import Outcome
from ..verdict import DIFFER
from .layers import SIDES, Layer, between, fails, first_culprit


def _crumbs(root: str, path: str) -> str:
    """ "model > stage.1 > attn > norm" of "stage.1.attn.norm"."""
    return " > ".join([root, *re.sub(r"\.(?=\d)", "\0", path).replace(".", "\n").replace("\0", ".").split("\n")])


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


def _direction(layers: Sequence[Layer], backward: bool, root: str) -> list[str]:
    """One direction: the culprit with its numbers and the tree down to it, or why there is none."""
    name, own, inherited = ("backward", *SIDES[2:4]) if backward else ("forward", *SIDES[:2])
    if found := first_culprit(layers, backward):
        tree = words.tree([layer.as_json() for layer in layers], own)
        head = f"{name}: {_crumbs(root, found.path)}: own error {_times(getattr(found, own))}"
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
        f"{name}: {alone}, but in the free run the error starts at {_crumbs(root, found.path)}: {where}, "
        f"{_times(getattr(found, side))}; so the fault is in what joins the layers there",
        *_details(found, side),
    ]


def told(layers: Sequence[Layer], root: str = "model") -> str:
    """Where layers of the model ``root`` go wrong, forward and then backward."""
    directions = (_direction(layers, backward, root) for backward in (False, True))
    return "\n".join(words.printable(line) for direction in directions for line in direction)


def first_difference(outcome: Outcome) -> str:
    """The first tensor that differs: in the order of the outputs, or of a trajectory's steps."""
    failed = [tensor for tensor in outcome.tensors if tensor.verdict == DIFFER]
    steps = [(t.trajectory["first_outside"], t.name) for t in failed if t.trajectory]
    if steps:
        step, name = min(steps)
        return f"first outside its envelope: {name} at step {step}"
    names = ", ".join(tensor.name for tensor in failed[:3]) + (", ..." if len(failed) > 3 else "")
    return f"{len(failed)} of {len(outcome.tensors)} outputs differ, in order: {names}"
