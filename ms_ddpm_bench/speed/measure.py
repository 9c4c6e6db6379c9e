"""The measurement: brings the contestants up, checks that they agree, and times them turn by turn."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ms_ddpm.errors import UserError

from . import agree, tables
from .child import Child, ContestantFailed
from .contestants import AS_IT_IS, CONTESTANTS, REFERENCE, Entry
from .sizes import SIZES, Workload

# A turn of steps shorter than this begins with one that is not timed: the others have had the caches meanwhile. For
# longer ones caches are nothing, and a step lost is dear.
WARM_UP_BELOW = 1.0
LEAST = {"train": 3, "denoise": 3, "sample": 1}  # timed calls, however long one takes


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        threads: cores and threads of every contestant.
        rounds: how often each contestant has its turn.
        steps: calls in a turn.
        budget: seconds of timed calls for each contestant, workload and kind of step; a slow one makes fewer calls.
        patience: seconds that a single call, compilation included, may take before the contestant is given up.
    """

    threads: int
    rounds: int = 5
    steps: int = 6
    budget: float = 30.0
    patience: float = 900.0


def calls(what: str, seconds: float, settings: Settings, most: int | None) -> list[int]:
    """How many calls in each round, when one takes ``seconds``."""
    wanted = settings.rounds * settings.steps if what != "sample" else settings.rounds
    affordable = int(settings.budget / seconds) if seconds > 0 else wanted
    total = min(wanted, max(LEAST[what], affordable), most or wanted)
    return [total // settings.rounds + (i < total % settings.rounds) for i in range(settings.rounds)]


def entered(workload: Workload, entries: Sequence[Entry], chosen_by_user: bool) -> list[Entry]:
    """Who runs at a workload: a slow contestant only at its sizes, or by name everywhere but in a series.

    And where the network is guided, who has it.
    """
    names = {size: name for name, size in SIZES.items()}
    return [
        entry
        for entry in entries
        if (entry.guided or not workload.size.guided)
        and (
            entry.sizes is None or (not workload.series and (chosen_by_user or names.get(workload.size) in entry.sizes))
        )
    ]


class Contender:
    """One contestant at one workload: its process and its row of the results."""

    def __init__(
        self, entry: Entry, workload: Workload, weights: Path, folder: Path, settings: Settings, start: Callable
    ):
        self.entry = entry
        self.workload = workload
        self.settings = settings
        self.folder = folder
        self.weights = weights
        self.start = start
        self.what = [kind for kind in workload.what if kind in entry.what]
        self.child: Child | None = None
        self.outputs: dict[str, np.ndarray] = {}
        self.warm: dict[str, float] = {}  # seconds of a call after the first
        self.warm_up: dict[str, int] = {}  # calls that begin a turn untimed
        self.row = {
            "workload": workload.as_json(), "contestant": entry.name, "failed": "", "disagrees": "",
            "differences": {}, "times": {}, "first": {}, "no_kernels": "",
        }  # fmt: skip

    def ask(self, do: str, repeats: int = 1, **arguments: object) -> dict:
        """One command, with patience for each call it makes."""
        return self.child.ask(do, self.settings.patience * repeats, **arguments)

    def _first(self, kind: str) -> tuple[float, dict[str, np.ndarray]]:
        path = self.folder / "outputs.npz"
        seconds = self.ask("first", what=kind, path=str(path))["seconds"]
        with np.load(path) as file:
            return seconds, {name: file[name] for name in file.files}

    def bring_up(self) -> None:
        """Starts the process and makes every kind of call once; memory is read after the first kind."""
        row, self.child = self.row, self.start(self.entry, self.settings.threads, self.folder)
        row["resident"] = self.ask("start")["resident"]
        row["import_s"] = time.perf_counter() - self.child.began
        row["build_s"] = self.ask("build", workload=self.workload.as_json(), weights=str(self.weights))["seconds"]
        if self.entry.name == AS_IT_IS:
            row["no_kernels"] = self.ask("kernels")["why_not"]
        for i, kind in enumerate(self.what):
            seconds, outputs = self._first(kind)
            row["first"][kind] = seconds
            if i == 0:
                row["first_step_s"] = time.perf_counter() - self.child.began
            self.outputs |= {f"{kind}: {name}": value for name, value in outputs.items()}
            if kind == "train":  # a second step, on the updated weights, tells whether the update was the same
                self.warm[kind], outputs = self._first(kind)
                self.outputs[f"train: {agree.UPDATED}"] = outputs["loss"]
            if i == 0:
                row["growth"] = self.ask("memory")["peak"] - row["resident"]
                row["memory_of"] = kind
            self.ask("load")

    def plan(self, kind: str) -> list[int]:
        """Calls per round, from how long one takes when warm."""
        if kind not in self.what:
            return [0] * self.settings.rounds
        denoising = self.row["times"].get("denoise")
        if kind == "sample":
            one = self.workload.ddim_steps * min(denoising) if denoising else self.row["first"]["sample"]
        elif self.entry.most_steps:
            one = self.row["first"][kind]  # so slow that another call only to know how slow is too dear
        elif kind in self.warm:
            one = self.warm[kind]
        else:
            one = self.ask("time", what=kind, n=1, warm_up=0)["seconds"][0]
        self.warm_up[kind] = int(one < WARM_UP_BELOW)
        return calls(kind, one, self.settings, self.entry.most_steps)

    def time(self, kind: str, n: int) -> None:
        """n timed calls."""
        seconds = self.ask("time", n + 1, what=kind, n=n, warm_up=self.warm_up[kind])["seconds"]
        self.row["times"].setdefault(kind, []).extend(seconds)

    def close(self) -> None:
        """Ends the process."""
        if self.child is not None:
            self.child.close()


class Session:
    """Measures workloads one after another; ``rows`` grows as it goes and is whole after an interruption.

    Args:
        settings: how.
        say: told every failure and disagreement, one line each.
        tick: told what is being done, once for each unit of `units`.
        start: makes a contestant's process (tests give another).
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None] = lambda line: None,
        tick: Callable[[str], None] = lambda label: None,
        start: Callable[[Entry, int, Path], Child] = Child,
    ):
        self.settings = settings
        self.say = say
        self.tick = tick
        self.start = start
        self.rows: list[dict] = []
        self.problems: list[str] = []
        self._temporary = tempfile.TemporaryDirectory(prefix="bench-")
        self.folder = Path(self._temporary.name)
        self._weights: dict = {}
        self.told = False

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *problem: object) -> None:
        self._temporary.cleanup()

    def weights(self, workload: Workload) -> Path:
        """The file of the initial weights, made once for each network by a process of its own."""
        key = (workload.size.dim, workload.size.mults, workload.size.guided, workload.layout, workload.seed)
        if key not in self._weights:
            path = self.folder / f"weights-{len(self._weights)}.npz"
            child = self.start(CONTESTANTS[AS_IT_IS], self.settings.threads, self.folder / "weights")
            try:
                child.ask("start", self.settings.patience)
                child.ask("weights", self.settings.patience, workload=workload.as_json(), path=str(path))
            except ContestantFailed as error:
                raise UserError(f"the initial weights, which ms_ddpm makes, could not be made: {error}") from None
            finally:
                child.close()
            self._weights[key] = path
        return self._weights[key]

    @contextlib.contextmanager
    def surviving(self, contenders: list[Contender], one: Contender) -> Iterator[None]:
        """Takes a contestant that fails out of the race and says so."""
        try:
            yield
        except ContestantFailed as error:
            one.row["failed"] = str(error)
            line = f"{one.entry.name} failed at {one.workload}: {error}"
            self.problems += [line] if one.entry.name != "torch-compile" else []
            self.say(line)
            one.close()
            contenders.remove(one)

    def run(self, workload: Workload, entries: Sequence[Entry]) -> None:
        """Measures one workload; its rows are there from the start and fill up. None is measured twice."""
        known = [row for row in self.rows if {**row["workload"], "series": workload.series} == workload.as_json()]
        if known:
            self.rows += [{**row, "workload": workload.as_json()} for row in known]
            for _ in range(units([workload], entries, chosen_by_user=True)):
                self.tick(f"{workload}: known")
            return
        weights = self.weights(workload)
        folder = self.folder / f"workload-{len(self.rows)}"
        contenders = [
            Contender(entry, workload, weights, folder / entry.name, self.settings, self.start) for entry in entries
        ]
        contenders = [one for one in contenders if one.what]
        self.rows += [one.row for one in contenders]
        everyone = list(contenders)
        try:
            for one in everyone:
                self.tick(f"{workload}: {one.entry.name} starts")
                with self.surviving(contenders, one):
                    one.bring_up()
            self.say_what_is_missing()
            if self.agree(contenders, workload):
                for kind in workload.what:
                    self.race(contenders, kind)
        finally:
            for one in everyone:
                one.close()

    def say_what_is_missing(self) -> None:
        """Says, once, that what is timed as ours is not our kernels."""
        line = tables.without_kernels({"rows": self.rows})
        if line and not self.told:
            self.say(line)
            self.told = True

    def agree(self, contenders: list[Contender], workload: Workload) -> bool:
        """Whether all compute the same; with the differences in the rows."""
        outputs = {one.entry.name: one.outputs for one in contenders}
        if not outputs:
            return False
        reference = REFERENCE if REFERENCE in outputs else next(iter(outputs))
        try:
            found = agree.check(outputs, reference, str(workload))
        except agree.Disagreement as error:
            self.problems.append(str(error))
            self.say(str(error))
            for one in contenders:
                one.row["disagrees"] = str(error)
            return False
        for one in contenders:
            one.row["differences"] = found.get(one.entry.name, {})
        return True

    def race(self, contenders: list[Contender], kind: str) -> None:
        """Times one kind of step: every round each contestant has its turn, another one first each time."""
        self.tick(f"{contenders[0].workload if contenders else ''}: {kind}")
        plans = {}
        for one in list(contenders):
            with self.surviving(contenders, one):
                plans[one] = one.plan(kind)
        for i in range(self.settings.rounds):
            shift = i % max(len(contenders), 1)
            for one in contenders[shift:] + contenders[:shift]:
                if plans[one][i]:
                    with self.surviving(contenders, one):
                        one.time(kind, plans[one][i])


def units(workloads: Sequence[Workload], entries: Sequence[Entry], chosen_by_user: bool) -> int:
    """How often a session of these ticks."""
    return sum(len(entered(w, entries, chosen_by_user)) + len(w.what) for w in workloads)
