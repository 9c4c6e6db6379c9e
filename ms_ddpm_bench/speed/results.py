"""What was measured, as one JSON document, and the figures that follow from it."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from ms_ddpm.errors import UserError
from ms_ddpm.storage.files import write_atomically
from ms_ddpm.storage.untrusted import read_text

from .contestants import REFERENCE

FORMAT = 1
MIB = 2**20


def empty(command: str, date: str, machine: Mapping, settings: Mapping) -> dict:
    """A document without rows. ``others``: the share of the processors that other processes took meanwhile.

    A row is one contestant at one workload: ``workload``, ``contestant``, ``failed`` and ``disagrees`` (why, or ""),
    ``differences`` from the reference, ``times`` and ``first`` (what -> seconds of each call, of the first call),
    ``import_s``, ``build_s``, ``first_step_s`` (from process start), ``resident`` and ``growth`` in bytes,
    ``no_kernels`` (why ours runs by MindSpore's operators, or "").
    """
    return {
        "format": FORMAT, "command": command, "date": date, "machine": dict(machine), "settings": dict(settings),
        "complete": False, "others": 0.0, "rows": [],
    }  # fmt: skip


def save(path: Path, found: Mapping) -> None:
    """Writes what was measured, whole or not at all."""
    write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())


def load(path: Path) -> dict:
    """Reads what `save` wrote. Raises UserError for anything else."""
    try:
        found = json.loads(read_text(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not a JSON file that bench.py wrote") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT or "rows" not in found:
        raise UserError(f"{path} is not of bench.py's format {FORMAT}; measure again")
    return found


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, quartiles, fastest, slowest over median and the number of calls; times in milliseconds."""
    ms = sorted(1000 * s for s in seconds)
    if len(ms) == 1:
        low = high = ms[0]
    else:
        low, _, high = statistics.quantiles(ms, n=4, method="inclusive")
    median = statistics.median(ms)
    return {"n": len(ms), "median": median, "fastest": ms[0], "low": low, "high": high, "unsteady": ms[-1] / median}


def key_of(row: Mapping) -> str:
    """What rows of one workload have in common."""
    return json.dumps({k: v for k, v in row["workload"].items() if k != "what"}, sort_keys=True)


def workloads(rows: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    """The rows by workload, in the order in which they were measured."""
    groups: dict[str, list[Mapping]] = {}
    for row in rows:
        groups.setdefault(key_of(row), []).append(row)
    return groups


def main_rows(found: Mapping) -> list[Mapping]:
    """The rows of the table."""
    return [row for row in found["rows"] if not row["workload"]["series"]]


def series_rows(found: Mapping, axis: str) -> list[Mapping]:
    """The rows of one growth curve."""
    return [row for row in found["rows"] if row["workload"]["series"] == axis]


def median_of(row: Mapping, what: str) -> float | None:
    """Milliseconds, None where it was not measured."""
    return summary(row["times"][what])["median"] if row["times"].get(what) else None


def ratio_of(row: Mapping, rows: Sequence[Mapping], what: str) -> float | None:
    """Median over the reference's at the same workload."""
    same = [r for r in rows if r["contestant"] == REFERENCE and key_of(r) == key_of(row)]
    own, theirs = median_of(row, what), median_of(same[0], what) if same else None
    return own / theirs if own and theirs else None


def contestants_of(rows: Sequence[Mapping]) -> list[str]:
    """Names in the order of their first appearance."""
    return list(dict.fromkeys(row["contestant"] for row in rows))


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """The slope of a straight line through the points' logarithms: cost grows as x to this power."""
    usable = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in usable}) < 2:
        return None
    return statistics.linear_regression(*zip(*usable, strict=True)).slope
