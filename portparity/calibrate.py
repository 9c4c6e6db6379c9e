"""The evidence for tolerances.toml: how far correct computations are apart, measured on other inputs.

Two kinds of clean pairs: MindSpore against PyTorch over fresh seeds, and, for the envelopes of free runs, PyTorch
against itself (each of the references judged by the tube that the others draw). ``peak`` is error over the reference's
own error, where the floor of F units does not cover it: what K has to exceed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import NamedTuple

from . import classes
from .bundles import versions
from .case import Case, Computation
from .runner import Outcome, Record, possible, record, run
from .tolerances import path, read, tolerance
from .verdict import judge

MARKER = "# --- evidence, written by"  # the line in tolerances.toml below which stands what was measured


class Pair(NamedTuple):
    """One tensor of two correct computations: its class, where it is from, and how far the two are apart."""

    group: str
    who: str
    case: str
    peak: float


def group_of(precision: str, rule: str) -> str:
    """The table of tolerances.toml that judges such a tensor."""
    return rule if precision == "float32" else precision


def class_and_rule(group: str) -> tuple[str, str]:
    """The precision class and the rule that a table of tolerances.toml stands for."""
    return (group, "ratio") if group in classes.ALL else ("float32", group)


def pairs_of(outcome: Outcome) -> Iterator[Pair]:
    """MindSpore against PyTorch, tensor by tensor."""
    K = tolerance(outcome.precision, outcome.rule).K
    for found in outcome.tensors:
        if math.isfinite(found.ratio):
            yield Pair(group_of(outcome.precision, outcome.rule), "mindspore", outcome.id, K * found.ratio)


def leave_one_out(computation: Computation, known: Record, trajectories: Sequence[str]) -> Iterator[Pair]:
    """Every reference of an envelope as candidate, against the tube of the others, on the outputs ``trajectories``."""
    numbers = tolerance(computation.precision, computation.rule)
    for i, candidate in enumerate(known.references):
        others = [*known.references[:i], *known.references[i + 1 :]]
        shown = {name: value for name, value in candidate.items() if name in trajectories}
        others = [{name: other[name] for name in shown} for other in others]
        for found in judge(shown, others, known.truth, numbers, rule="envelope"):
            yield Pair("envelope", "torch", f"{computation.key}:{found.name}", numbers.K * found.ratio)


def measure(cases: Iterable[Case], trajectories: Sequence[str] = ()) -> list[Pair]:
    """Every clean pair of ``cases``; those whose verdict must be exact have none.

    Args:
        cases: whose references are computed; a published number stands where its tolerance ends and makes no pair.
        trajectories: the outputs of free runs, by which their references are compared with each other.
    """
    from tqdm.auto import tqdm

    pairs: list[Pair] = []
    records: dict[Computation, Record] = {}

    def recorded(computation: Computation) -> Record:
        known = record(computation)
        if computation.rule == "envelope":
            records[computation] = known
        if known.further:  # all runs of the reference at once: how far apart, and not whether too far
            known = replace(known, references=[*known.references, *known.further()], further=tuple)
        return known

    chosen = [case for case in cases if case.computation.rule in ("ratio", "layers", "envelope")]
    with tqdm(total=len(chosen), unit="check", desc="calibrate") as bar:

        def take(outcome: Outcome) -> None:
            bar.update()
            pairs.extend(pairs_of(outcome))

        run(chosen, recorded=recorded, on_outcome=take)
    for computation, known in records.items():
        pairs.extend(leave_one_out(computation, known, trajectories))
    return pairs


def summarise(pairs: Iterable[Pair], seeds: int) -> dict[str, dict]:
    """By table of tolerances.toml: how many pairs, their peak, its place, and the 99.9th percentile."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.group, []).append(pair)
    found = {}
    for group, members in groups.items():
        members.sort(key=lambda pair: pair.peak)
        worst = members[-1]
        found[group] = {
            "pairs": len(members), "seeds": seeds, "peak": round(worst.peak, 3), "peak_of": worst.who,
            "peak_at": worst.case, "p999": round(members[int(0.999 * (len(members) - 1))].peak, 3),
        }  # fmt: skip
    return found


def calibrate(cases: Callable[[int], Iterable[Case]], seeds: int, trajectories: Sequence[str] = ()) -> dict[str, dict]:
    """Measures over ``seeds`` other inputs (``cases`` gives the cases of a seed) and prints what was found."""
    pairs: list[Pair] = []
    for seed in range(1, seeds + 1):
        pairs += measure(possible(cases(seed))[0], trajectories)
    evidence = summarise(pairs, seeds)
    print(f"{'class':10} {'pairs':>7} {'99.9 %':>8} {'peak':>8} {'K':>5}  where")
    for group, row in evidence.items():
        limit = tolerance(*class_and_rule(group)).K
        where = f"{row['peak_at']} ({row['peak_of']})"
        print(f"{group:10} {row['pairs']:7} {row['p999']:8.3g} {row['peak']:8.3g} {limit:5g}  {where}")
    return evidence


def write_evidence(evidence: Mapping[str, Mapping]) -> None:
    """Replaces the evidence in tolerances.toml for the classes that were measured."""
    head, _, below = path().read_text(encoding="utf-8").partition(MARKER)
    line = MARKER + (below.partition("\n")[0] or " portparity.calibrate ---")
    found = versions()
    now = {"measured": date.today().isoformat(), "mindspore": found["mindspore"], "torch": found["torch"]}
    lines = [head.rstrip(), "", line, ""]
    for group, row in (read().get("evidence", {}) | {group: {**row, **now} for group, row in evidence.items()}).items():
        lines.append(f"[evidence.{group}]")
        lines += [f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in row.items()]
        lines.append("")
    path().write_text("\n".join(lines), encoding="utf-8")
