"""What a report says of results.json, as data: no wording, no layout."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .. import errors
from ..case import TITLES
from ..runner import BROKEN
from ..verdict import AGREE, DIFFER

FORWARD, BACKWARD = "own", "own_backward"


class TierRow(NamedTuple):
    """The counts of one tier. ``worst`` is the judged case with the largest ratio."""

    tier: str
    cases: int
    agree: int
    differ: int
    broken: int
    worst: Mapping | None
    seconds: float


def ordering(ratio: float | None) -> float:
    """A ratio as something to sort by: what is not a number is worst."""
    return math.inf if ratio is None or math.isnan(ratio) else ratio


def by_tier(cases: Iterable[Mapping]) -> dict[str, list[Mapping]]:
    """Cases by tier, in the tiers' order; tiers that are not known come last."""
    groups: dict[str, list[Mapping]] = {}
    for case in cases:
        groups.setdefault(str(case["tier"]), []).append(case)
    known = [tier for tier in TITLES if tier in groups]
    return {tier: groups[tier] for tier in known + sorted(set(groups) - set(known))}


def tier_rows(cases: Iterable[Mapping]) -> list[TierRow]:
    """One row per tier."""
    rows = []
    for tier, members in by_tier(cases).items():
        verdicts = [case["verdict"] for case in members]
        judged = [case for case in members if case["verdict"] != BROKEN]
        rows.append(
            TierRow(
                tier,
                len(members),
                *(verdicts.count(verdict) for verdict in (AGREE, DIFFER, BROKEN)),
                max(judged, key=lambda case: (case["verdict"] == DIFFER, ordering(case["ratio"])), default=None),
                sum(case["seconds"] for case in members),
            )
        )
    return rows


def family(case: Mapping) -> str:
    """What a case is about: "rms_norm" of "layers/rms_norm-scale30-vjp-graph"."""
    return case["id"].rpartition("/")[2].partition("-")[0]


def failures(cases: Iterable[Mapping]) -> list[Mapping]:
    """Cases that differ, then cases that could not be judged, each in the order in which they ran."""
    return sorted((c for c in cases if c["verdict"] != AGREE), key=lambda case: case["verdict"] == BROKEN)


def ranked(case: Mapping) -> list[Mapping]:
    """The case's tensors, the worst first."""
    return sorted(case["tensors"], key=lambda t: (t["verdict"] != DIFFER, -ordering(t["ratio"])))


def worst_tensor(case: Mapping) -> Mapping | None:
    """The tensor that decides the case."""
    return next(iter(ranked(case)), None)


def was_measured(tensor: Mapping) -> bool:
    """Whether numbers were compared: not where a shape or a name was wrong already."""
    return "candidate" in tensor or "trajectory" in tensor


def values_at_index(tensor: Mapping) -> dict[str, float]:
    """What each side has at the worst index, by side: candidate, reference, truth; those that are known."""
    curves = tensor.get("trajectory") or {}
    at = {side: tensor[side] for side in ("candidate", "reference", "truth") if side in tensor}
    if not at and "truth" in curves and tensor["index"]:
        at = {side: curves[side][tensor["index"][0]] for side in ("candidate", "truth")}
    return at


def fails(layer: Mapping, side: str = FORWARD) -> bool:
    """Whether a layer that is fed the reference's inputs computes something else."""
    own = layer.get(side)
    return own is not None and not own <= 1


def culprit(layers: Sequence[Mapping], side: str = FORWARD) -> Mapping | None:
    """The first layer whose own error fails, the innermost where a failing one holds others that fail.

    First in the order of computation, so that the backward side is searched from the end.
    """
    failing = [layer for layer in (layers if side == FORWARD else reversed(layers)) if fails(layer, side)]
    if not failing:
        return None
    found = failing[0]
    while inside := [layer for layer in failing if layer["path"].startswith(found["path"] + ".")]:
        found = inside[0]
    return found


@dataclass
class Node:
    """A layer in the tree of layers: ``layer`` is None where only its children were judged."""

    name: str
    layer: Mapping | None = None
    children: dict[str, Node] = field(default_factory=dict)

    def inside(self) -> list[Mapping]:
        """Every judged layer from here down."""
        own = [self.layer] if self.layer else []
        return own + [layer for child in self.children.values() for layer in child.inside()]


class TreeLine(NamedTuple):
    """One line of the tree: a layer, or ``count`` layers that agree and are folded into one line."""

    indent: int
    name: str
    count: int
    own: float | None
    inherited: float | None
    failing: bool
    culprit: bool


def _largest(layers: Iterable[Mapping], key: str) -> float | None:
    return max((layer[key] for layer in layers if layer.get(key) is not None), key=ordering, default=None)


def tree_to_culprit(layers: Sequence[Mapping], side: str = FORWARD) -> list[TreeLine]:
    """The tree of layers from the start of the computation to the first culprit; siblings that agree are folded."""
    target = culprit(layers, side)
    if target is None:
        return []
    inherited = "inherited" if side == FORWARD else "inherited_backward"
    root = Node("")
    for layer in layers if side == FORWARD else reversed(layers):
        node = root
        for name in layer["path"].split("."):
            node = node.children.setdefault(name, Node(name))
        node.layer = layer
        if layer is target:
            break
    lines: list[TreeLine] = []

    def walk(node: Node, path: str, indent: int) -> None:
        for child in node.children.values():
            here = f"{path}{child.name}"
            on_the_way = target["path"] == here or target["path"].startswith(here + ".")
            shown = ([child.layer] if child.layer else []) if on_the_way else child.inside()
            lines.append(
                TreeLine(
                    indent,
                    child.name,
                    1 if on_the_way else len(shown),
                    _largest(shown, side),
                    _largest(shown, inherited),
                    any(fails(layer, side) for layer in shown),
                    child.layer is target,
                )
            )
            if on_the_way and child.layer is not target:
                walk(child, here + ".", indent + 1)

    walk(root, "", 0)
    return lines


def trajectories(cases: Iterable[Mapping]) -> list[tuple[Mapping, Mapping]]:
    """(case, tensor) wherever a tensor is a trajectory, those that differ first, then by ratio."""
    pairs = [(case, tensor) for case in cases for tensor in case["tensors"] if tensor.get("trajectory")]
    return sorted(pairs, key=lambda pair: (pair[1]["verdict"] != DIFFER, -ordering(pair[1]["ratio"])))


def gate(mutants: Mapping) -> bool:
    """Whether every mutant was killed at its place and our rule, the first, raised no alarm over clean variants."""
    killed = all(row["killed"] and row["at_place"] for row in mutants["rows"])
    return killed and bool(mutants["rows"]) and not mutants["clean"]["alarms"].get(mutants["rules"][0])


def is_good(results: Mapping) -> bool:
    """Whether all is as it should be: every case agrees or, where only mutants ran, they pass the gate."""
    if not results["cases"] and results["mutants"]:
        return gate(results["mutants"])
    return results["summary"]["exit_code"] == errors.AGREE


class RuleRow(NamedTuple):
    """How one rule fared against the mutants: of ``of`` it killed ``killed``."""

    rule: str
    killed: int
    of: int
    alarms: int | None


def rule_rows(mutants: Mapping) -> list[RuleRow]:
    """One row per rule, in the order of the rules; ours is the first of them."""
    alarms = mutants["clean"]["alarms"]
    rows = mutants["rows"]
    return [
        RuleRow(rule, sum(bool(row["by_rule"].get(rule)) for row in rows), len(rows), alarms.get(rule))
        for rule in mutants["rules"]
    ]
