"""Judges pairs in processes of their own, and keeps what was found in found.json.

What does not agree is judged once more alone, because MindSpore's gradients in PyNative depend on what ran before.
"""

from __future__ import annotations

import fcntl
import json
import math
import subprocess
import sys
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from portparity import check
from portparity.checking import Report
from portparity.errors import HarnessError
from portparity.verdict import AGREE

from .exact import exact_functions
from .pairs import MINDONE, PAIRS, Pair
from .schedulers import SCHEDULERS

FOUND = Path(__file__).with_name("found.json")
PACKAGES = ("mindspore", "torch", "numpy", "mindone", "diffusers", "transformers", "timm", "onnx", "onnxruntime")
LIMIT = 580  # seconds for one pair
AT_ONCE = 5  # pairs in one process: importing everything takes longer than most of them


def judged(pair: Pair, exact: bool = False) -> Report:
    """`check` of a pair, with the stand-ins that it needs; ``exact``: and with exact elementary functions."""
    import torch

    from .stand_ins import without_torchvision

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    without_torchvision()
    inside = nullcontext()
    if pair.project.startswith(MINDONE):
        from portparity.sides.mint_on_cpu import mint_on_cpu

        inside = mint_on_cpu()
    with inside, exact_functions() if exact else nullcontext():
        return check(pair.original, pair.port, pair.inputs, title=pair.name, **pair.options)


def as_json(report: Report) -> dict[str, Any]:
    """What the table needs of a report."""
    return {
        "verdict": report.verdict,
        "culprit": report.first_culprit,
        "seconds": round(report.seconds, 1),
        "parts": {
            outcome.id: [outcome.verdict, _number(outcome.ratio), outcome.message if outcome.verdict != AGREE else ""]
            for outcome in report.outcomes
        },
        "layers": len(report.layers),
        "left_out": len(report.left_out),
        "notes": list(report.notes),
    }


def _number(value: float) -> float | str:
    return float(f"{value:.3g}") if math.isfinite(value) else str(value)


def one(name: str, pairs: Iterable[Pair]) -> dict[str, Any]:
    """The record of the pair of this name, judged here and now."""
    (pair,) = [pair for pair in pairs if pair.name == name]
    try:
        report = judged(pair)
        print(report, file=sys.stderr)
        found = as_json(report)
        if report.verdict != AGREE and pair.name in {chain.name for chain in SCHEDULERS}:
            found["exact"] = judged(pair, exact=True).verdict
    except HarnessError as error:
        return {"verdict": "broken", "culprit": None, "parts": {}, "notes": [str(error)]}
    return found


def versions() -> dict[str, str]:
    """What is installed of `PACKAGES`."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def all_known() -> tuple[Pair, ...]:
    """The right pairs, the schedulers and the bugs."""
    from .bugs import BUGS
    from .trainers import TRAINERS

    known = (*PAIRS, *TRAINERS, *SCHEDULERS, *(bug.pair for bug in BUGS))
    return tuple({pair.name: pair for pair in known}.values())


def judge_again(chosen: Iterable[str]) -> None:
    """Judges the pairs of these names and writes what is found: several in a process, right ones that differ alone."""
    names, right = list(chosen), {pair.name for pair in PAIRS}
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        found = _in_a_process(some) if len(some) > 1 else {}
        for name in some:
            record = found.get(name)
            if record is None or (name in right and record["verdict"] != AGREE):
                record = _in_a_process([name]).get(name)
            _keep(name, record)
            print(f"{record['verdict']:7} {name}", flush=True)


def _in_a_process(names: list[str]) -> dict[str, dict[str, Any]]:
    """Records by name, of those that came to an end."""
    command = [sys.executable, "-m", "parity_tests.foreign", "one", *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT * len(names))
        lines, last = done.stdout.splitlines(), (done.stderr.strip().splitlines() or [""])[-1]
    except subprocess.TimeoutExpired as error:
        lines, last = (error.stdout or b"").decode().splitlines(), f"took more than {LIMIT} s"
    found = {}
    for line in lines:
        if line.startswith('{"name": '):
            record = json.loads(line)
            found[record.pop("name")] = record
    if len(names) == 1:
        found.setdefault(names[0], {"verdict": "broken", "culprit": None, "parts": {}, "notes": [last]})
    return found


def _keep(name: str, record: dict[str, Any]) -> None:
    """Into found.json, which a second process may be writing as well."""
    with FOUND.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = json.loads(FOUND.read_text()) if FOUND.exists() else {}
        found["versions"] = versions()
        found.setdefault("pairs", {})[name] = record
        FOUND.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
