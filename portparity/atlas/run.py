"""All operators, each asked in a process that may end: what ended it is a row, and the rest goes on in another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

from ..errors import HarnessError, NothingRan
from . import differences, entries, reproducer, rows
from .rows import Row

DTYPES = ("float32", "float16", "bfloat16")
MODES = ("pynative", "graph")
PATIENCE = 120  # seconds for one step, which takes a tenth of one
FAULT = "fault"  # it ended by an exception, or without saying all
ENDINGS = 6  # processes that one operator may end before it is left


def jobs_of(
    only: Sequence[str], dtypes: Sequence[str], modes: Sequence[str], table: Sequence | None = None
) -> list[dict]:
    """What there is to do: operators by precision, and the questions."""
    operators = entries.table() if table is None else list(table)
    questions = differences.table() if table is None else []
    chosen = [e for e in operators if _is_chosen(e.name, only)]
    asked = [d for d in questions if _is_chosen(d.operator, only)]
    # graphs run what PyNative runs; in the other precisions that is not compiled again
    few = {dtype: modes if dtype == "float32" or len(modes) == 1 else ("pynative",) for dtype in dtypes}
    found = [{"entry": asdict(e), "dtype": d, "modes": list(few[d])} for e in chosen for d in dtypes]
    found += [{"difference": asdict(d), "modes": list(modes)} for d in asked]
    return [{**job, "skip": []} for job in found]


def _is_chosen(name: str, only: Sequence[str]) -> bool:
    return not only or any(fnmatch(name, pattern) or pattern == name for pattern in only)


def run(
    only: Sequence[str] = (),
    dtypes: Sequence[str] = DTYPES,
    modes: Sequence[str] = MODES,
    *,
    table: Sequence[entries.Entry] | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> list[Row]:
    """Asks both frameworks for every operator and says what was found.

    Args:
        only: names or patterns ("ops.*"); none: all operators.
        dtypes: of float32, float16, bfloat16.
        modes: of pynative, graph. A graph is made in float32, and in another precision where it is the only mode.
        table: other operators than those of `entries`.
        progress: hears (jobs done, of how many, operator).

    Returns:
        The rows, the worst first.

    Raises:
        NothingRan: no operator has such a name. HarnessError: the process cannot start.
    """
    todo = jobs_of(only, dtypes, modes, table)
    if not todo:
        raise NothingRan(f"no operator is called {', '.join(only)}; portparity operators --list has the names")
    found: list[Row] = []
    everything, total = todo, len(todo)
    while todo:
        todo = _one_process(todo, found, total, progress)
    known = {job["entry"]["name"]: entries.Entry(**job["entry"]) for job in everything if "entry" in job}
    for row in found:
        if row.verdict not in (rows.AGREES, rows.UNSUPPORTED):
            row.reproducer = reproducer.text(row, None if row.is_words else known.get(row.operator))
    return ordered(found)


def ordered(found: list[Row]) -> list[Row]:
    """The worst first."""
    order = list(rows.VERDICTS)
    return sorted(found, key=lambda r: (order.index(r.verdict), -r.offence, r.operator, r.dtype, r.part, r.mode))


def _one_process(todo: list[dict], found: list[Row], total: int, progress: Callable) -> list[dict]:
    """Does ``todo`` until it is done or the process ends; gives what is left."""
    with tempfile.TemporaryDirectory() as folder:
        jobs, out, log = (Path(folder) / name for name in ("jobs.json", "rows.jsonl", "log.txt"))
        jobs.write_text(json.dumps(todo), encoding="utf-8")
        out.touch()
        environment = {**os.environ, "GLOG_v": "4", "OMP_NUM_THREADS": "1", "MS_DEV_HOST_BLOCKING_RUN": "1"}
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])
        command = [sys.executable, "-m", f"{__package__}.worker", str(jobs), str(out)]
        with open(log, "w") as log_file, open(out, encoding="utf-8") as lines:
            process = subprocess.Popen(command, env=environment, stdout=log_file, stderr=subprocess.STDOUT)
            try:
                at, step, ending = _follow(process, lines, todo, found, total, progress)
            finally:
                process.kill()
                process.wait()
        if at is None:
            return []
        if at < 0 or ending == FAULT:  # what is wrong with the atlas itself is no operator's fault
            said = log.read_text(errors="replace").strip().splitlines() or ["it says nothing"]
            raise HarnessError(f"the atlas' own process failed ({_name(todo[max(at, 0)])}, {step}): {said[-1]}")
    job = todo[at]
    found.append(_ended(job, step, ending))
    job["skip"].append(step)
    rest = todo[at + 1 :]
    return [job, *rest] if step and len(job["skip"]) < ENDINGS else rest


def _follow(process, lines, todo, found, total, progress) -> tuple[int | None, str, str]:
    """Reads what the process says: (job, step, how) where it ended, (None, ...) where all is done."""
    at, step, last = -1, "", time.monotonic()
    waiting = ""
    while True:
        ended = process.poll()
        waiting += lines.read()
        *whole, waiting = waiting.split("\n")
        for line in map(json.loads, whole):
            last = time.monotonic()
            at = line["job"]
            if "rows" in line:
                found += [Row.from_json(row) for row in line["rows"]]
                if at + 1 == len(todo):
                    progress(total, total, "")
                    return None, "", ""
                continue
            step = line["step"]
            if not step:
                progress(total - len(todo) + at, total, _name(todo[at]))
        if ended is not None and not whole:
            return at, step, f"ended the process with signal {-ended}" if ended < 0 else FAULT
        if time.monotonic() - last > PATIENCE:
            return at, step, f"did not come back in {PATIENCE} s"
        if not whole:
            time.sleep(0.02)


def _name(job: dict) -> str:
    return job["difference"]["operator"] if "difference" in job else job["entry"]["name"]


def _ended(job: dict, step: str, how: str) -> Row:
    asked = job.get("entry") or job["difference"]
    mode = step.split(",")[0] or "both"
    part = "grad" if ", gradient" in step else "y" if "entry" in job else asked["about"]
    row = Row(_name(job), job.get("dtype", ""), mode, part, rows.CRASHES, said=f"{how} ({step})" if step else how)
    row.ours = asked["mindspore"]
    row.theirs = asked["torch"]
    row.where = step.rsplit(", ", 1)[-1]
    row.is_words = "difference" in job
    row.region = row.where if "entry" in job else ""
    return row
