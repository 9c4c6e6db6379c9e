"""Runs mutants: which cases find them, at their place or elsewhere, and which of the rivals' rules would have."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from ..case import Arrays, Case, Computation
from ..rivals import OURS, RIVALS, RULES, passes
from ..runner import Outcome, Record, possible, record, run
from ..selection import matches
from ..verdict import AGREE
from .mutant import Mutant


class Bench:
    """Cases as mutants need them: the trusted side is computed once, and what the candidate gave is kept.

    A project that has more to say of its cases or of what must hold around a mutant's runs overrides `takes`, `suits`
    and `around`.

    Args:
        framework: which candidate is judged.
        cases: those of it that this machine can run are taken.
    """

    def __init__(self, framework: str, cases: Sequence[Case]):
        self.framework = framework
        self._known: dict[Computation, Record] = {}
        self._produced: dict[Computation, Arrays] = {}
        self._clean: dict[str, dict[str, bool]] = {}
        watched: dict[Computation, Computation] = {}
        self.cases = []
        for case in possible([case for case in cases if framework in case.computation.candidates], framework)[0]:
            if not self.takes(case):
                continue
            if case.computation not in watched:
                watched[case.computation] = self._watched(case.computation)
            self.cases.append(replace(case, computation=watched[case.computation]))

    def takes(self, case: Case) -> bool:
        """Whether ``case`` is run at all: not one that takes too long."""
        return True

    def suits(self, mutant: Mutant, case: Case) -> bool:
        """Whether ``mutant`` can show in ``case``."""
        return True

    def around(self, mutant: Mutant) -> Callable[[], AbstractContextManager]:
        """The context of the candidate's runs in which the bug is there."""
        return mutant.apply

    def _watched(self, computation: Computation) -> Computation:
        """The same computation, which leaves behind what its candidate gave."""
        leg = computation.candidates[self.framework]

        def watched(inputs: Arrays) -> Arrays:
            self._produced[made] = leg(inputs)
            return self._produced[made]

        made = replace(computation, candidates={self.framework: watched})
        return made

    def _recorded(self, computation: Computation) -> Record:
        if computation not in self._known:
            self._known[computation] = record(computation)
        return self._known[computation]

    def chosen(self, patterns: Iterable[str]) -> list[Case]:
        """The cases that match ``patterns``, in the order of the tiers."""
        return [case for case in self.cases if any(matches(case, pattern) for pattern in patterns)]

    def run(
        self, chosen: Sequence[Case], around: Callable[[], AbstractContextManager] = nullcontext
    ) -> dict[str, Outcome]:
        """The outcomes of ``chosen`` by id, the candidate inside ``around``."""
        self._produced.clear()
        return {o.id: o for o in run(chosen, self.framework, recorded=self._recorded, around=around)}

    def given(self, case: Case) -> Arrays:
        """What the candidate gave for ``case`` in the last `run`."""
        return case.select(self._produced[case.computation])

    def reference(self, case: Case) -> Arrays:
        """What the reference gives for ``case``."""
        return case.select(self._recorded(case.computation).references[0])

    def alarm(self, rule: str, case: Case, outcome: Outcome) -> bool:
        """Whether ``rule`` objects to what the last `run` gave for ``case``."""
        if rule == OURS:
            return outcome.verdict != AGREE
        if case.computation not in self._produced:  # the program stopped, which nobody overlooks
            return True
        return not passes(rule, self.given(case), self.reference(case))

    def clean(self, chosen: Sequence[Case]) -> dict[str, dict[str, bool]]:
        """By case: which rules object to the code as it is. What a rule says there in any case is no discovery."""
        unknown = [case for case in chosen if case.id not in self._clean]
        outcomes = self.run(unknown)
        for case in unknown:
            self._clean[case.id] = {rule: self.alarm(rule, case, outcomes[case.id]) for rule in RULES}
        return self._clean


@dataclass(frozen=True)
class Finding:
    """What became of one mutant: the cases that found it, in order, with what they say."""

    mutant: Mutant
    found: Mapping[str, Outcome]
    by_rule: Mapping[str, bool]

    @property
    def found_at(self) -> str | None:
        """The first case that found it, in the order of the tiers."""
        return next(iter(self.found), None)

    @property
    def killed(self) -> bool:
        """Whether some case says what the mutant must be told."""
        return any(outcome.verdict == self.mutant.verdict for outcome in self.found.values())

    @property
    def at_place(self) -> bool:
        """Whether the first case that found it is at its place, so that no lower one had shown it."""
        first = self.found_at
        matching = first is not None and fnmatch.fnmatchcase(first, self.mutant.place)
        return matching and self.found[first].verdict == self.mutant.verdict

    def as_row(self) -> dict:
        """The row of the kill matrix in results.json."""
        m = self.mutant
        return {
            "name": m.name, "family": m.family, "framework": m.framework, "place": m.place,
            "found_at": self.found_at, "killed": self.killed, "at_place": self.at_place, "by_rule": dict(self.by_rule),
        }  # fmt: skip

    def __str__(self) -> str:
        shown = [f"{name}: {o.verdict}, {o.message}" for name, o in list(self.found.items())[:4]]
        return "\n  ".join(
            (f"{self.mutant.name!r} must be found at {self.mutant.place} first; found", *(shown or ["nowhere"]))
        )


def examine(mutant: Mutant, bench: Bench, first_tier_only: bool = False) -> Finding:
    """Runs ``mutant``. Raises StaleMutant where it no longer fits the source.

    Args:
        mutant: the bug.
        bench: the cases.
        first_tier_only: leave out the tiers above the first that finds it: enough to say whether it is found at its
            place, not what the rivals' rules find.
    """
    with mutant.apply():
        pass
    chosen = [case for case in bench.chosen((mutant.place, *mutant.cases)) if bench.suits(mutant, case)]
    tiers = [list(group) for _, group in itertools.groupby(chosen, lambda case: case.tier)]
    for part in tiers if first_tier_only and tiers else [chosen]:
        before = bench.clean(part)
        outcomes = bench.run(part, bench.around(mutant))

        def discovers(rule: str, case: Case, before=before, outcomes=outcomes) -> bool:
            return not before[case.id][rule] and bench.alarm(rule, case, outcomes[case.id])

        found = {case.id: outcomes[case.id] for case in part if discovers(OURS, case)}
        by_rule = {OURS: bool(found)} | {rule: any(discovers(rule, case) for case in part) for rule in RIVALS}
        if found:
            break
    return Finding(mutant, found, by_rule)


class Variant(Protocol):
    """One correct way to compute; ``str`` of it says which."""

    framework: str

    @property
    def around(self) -> Callable[[], AbstractContextManager]:
        """The context of the candidate."""

    def cases(self) -> list[Case]:
        """The cases, computed so."""


def count_alarms(
    variants: Sequence[Variant], bench_of: Callable[[str, Sequence[Case]], Bench] = Bench, progress: bool = True
) -> tuple[dict[str, int], list[str]]:
    """By rule, over how many clean ``variants`` it raised an alarm; and what ours said."""
    from tqdm.auto import tqdm

    alarms, ours = dict.fromkeys(RULES, 0), []
    for variant in tqdm(variants, desc="clean variants", unit="variant", disable=not progress):
        bench = bench_of(variant.framework, variant.cases())
        outcomes = bench.run(bench.cases, variant.around)
        for rule in RULES:
            alarms[rule] += any(bench.alarm(rule, case, outcomes[case.id]) for case in bench.cases)
        ours += [f"{variant}: {o.id} {o.verdict}: {o.message}" for o in outcomes.values() if o.verdict != AGREE]
    return alarms, ours


def kill_matrix(
    mutants: Sequence[Mutant],
    variants: Sequence[Variant],
    cases: Sequence[Case],
    bench_of: Callable[[str, Sequence[Case]], Bench] = Bench,
    progress: bool = True,
) -> dict:
    """Every mutant against every rule, and the false alarms: what results.json holds under "mutants".

    Args:
        mutants: those that can be run here.
        variants: correct ways to compute.
        cases: all that may find a mutant.
        bench_of: makes the bench of a framework and its cases.
        progress: shows a bar.
    """
    from tqdm.auto import tqdm

    benches = {framework: bench_of(framework, cases) for framework in {m.framework for m in mutants}}
    bar = tqdm(mutants, desc="mutants", unit="mutant", disable=not progress)
    rows = [examine(mutant, benches[mutant.framework]).as_row() for mutant in bar]
    alarms, _ = count_alarms(variants, bench_of, progress)
    return {"rules": list(RULES), "rows": rows, "clean": {"variants": len(variants), "alarms": alarms}}


def is_good(matrix: Mapping) -> bool:
    """The gate: every mutant killed at its place, no false alarm of ours, and there were mutants and variants."""
    killed = all(row["killed"] and row["at_place"] for row in matrix["rows"])
    return bool(matrix["rows"]) and killed and matrix["clean"]["variants"] > 0 and not matrix["clean"]["alarms"][OURS]
