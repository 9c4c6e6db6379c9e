"""results.json: the one file from which every report is rendered.

JSON has no infinity and no NaN, and a ratio can be infinite (a shape that differs, an error where none is allowed).
They are written as the strings "inf", "-inf" and "nan", and read back as numbers where a number is expected: in the
fields of a case named in `NUMBERS`, never in names and messages.
"""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import errors
from ..files import read_text, write_atomically
from ..runner import BROKEN, Outcome
from ..verdict import AGREE, DIFFER

FORMAT = 1
NUMBERS = frozenset(
    {
        *("ratio", "rms_error", "rms_reference", "rms_bound"),
        *("max_error", "max_reference", "max_bound", "ulp", "seconds"),
        *("candidate", "reference", "truth", "error", "bound"),
        *("own", "inherited", "own_backward", "inherited_backward"),
    }
)
_SPECIAL = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """0 all agree, 1 some differ, 2 none differs but some could not be judged, 3 nothing ran."""
    verdicts = {outcome.verdict for outcome in outcomes}
    if not verdicts:
        return errors.NOTHING_RAN
    if DIFFER in verdicts:
        return errors.DIFFER
    return errors.AGREE if verdicts == {AGREE} else errors.BROKEN


def _plain(value: Any) -> Any:
    """The value in the types that JSON knows: lists for tuples and arrays, Python numbers for numpy's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_infinities(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _with_infinities(value: Any, number: bool = False) -> Any:
    """Undoes `_without_infinities`; ``number`` where the value stands in a field of `NUMBERS`."""
    if isinstance(value, dict):
        return {key: _with_infinities(item, key in NUMBERS) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_infinities(item, number) for item in value]
    return _SPECIAL.get(value, value) if number and isinstance(value, str) else value


def _reproduce(check: str, case_id: str, bundle: str | None) -> str:
    command = f"{check} --case {shlex.quote(case_id)}"
    return f"{command} --bundle {shlex.quote(bundle)}" if bundle else command


def results(
    outcomes: Sequence[Outcome],
    *,
    candidate: str,
    reference: str,
    bundle: str | Path | None = None,
    environment: Mapping[str, str | float],
    command: str,
    seconds: float,
    check: str = "check",
    mutants: Mapping | None = None,
    left_out: Mapping[str, Sequence[str]] | None = None,
) -> dict:
    """Everything that a report shows, in plain Python values.

    Args:
        outcomes: one per case, in the order in which they are listed.
        candidate: the framework that is judged.
        reference: the trusted framework.
        bundle: where the reference's results came from, if not from running it.
        environment: what the figures depend on: versions, device, threads, commit.
        command: the command line.
        seconds: how long all of it took.
        check: the command that runs checks, to be called again with ``--case ID``.
        mutants: what `mutants` found: rules, rows and clean, as in the kill matrix.
        left_out: ids of selected cases that did not run here, by the reason; they count nowhere.
    """
    left_out = left_out or {}
    not_run = {"not run here": "; ".join(f"{len(ids)}: {reason}" for reason, ids in left_out.items())}
    bundle = None if bundle is None else str(bundle)
    counts = Counter(outcome.verdict for outcome in outcomes)
    cases = [_plain(outcome.as_json()) for outcome in outcomes]
    for case in cases:
        case["reproduce"] = case["reproduce"] or _reproduce(check, case["id"], bundle)
    return {
        "format": FORMAT,
        "command": command,
        "seconds": float(seconds),
        "candidate": candidate,
        "reference": reference,
        "bundle": bundle,
        "environment": _plain({**environment, **(not_run if left_out else {})}),
        "summary": {verdict: counts[verdict] for verdict in (AGREE, DIFFER, BROKEN)}
        | {"total": len(cases), "exit_code": exit_code(outcomes)},
        "cases": cases,
        "left_out": _plain(left_out),
        "mutants": None if mutants is None else _plain(mutants),
    }


def save(path: str | Path, found: Mapping) -> None:
    """Writes ``results`` to ``path``, whole or not at all."""
    text = json.dumps(_without_infinities(found), ensure_ascii=False, allow_nan=False, indent=1)
    # A lone surrogate (an undecodable byte in a message) is no UTF-8; it becomes its escape.
    write_atomically(path, (text + "\n").encode("utf-8", "backslashreplace"))


def load(path: str | Path) -> dict:
    """Reads what `save` wrote.

    Raises:
        HarnessError: the file is missing, cut short, or of another format.
    """
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise errors.HarnessError(f"{path} is no results.json: {error}") from error
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        raise errors.HarnessError(f"{path} has format {version!r}, and this harness reads {FORMAT}")
    return found | {"cases": [_with_infinities(case) for case in found["cases"]]}
