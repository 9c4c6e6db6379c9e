"""results.json for a terminal: a line a case while it runs, a table and the failures at the end, 100 columns."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Mapping
from typing import TextIO

from ..runner import BROKEN
from ..verdict import AGREE, DIFFER
from . import facts, words

WIDTH = 100
SHOWN_FAILURES = 20
MARKS = {AGREE: "agree ", DIFFER: "DIFFER", BROKEN: "BROKEN"}
_COLOURS = {AGREE: "32", DIFFER: "31", BROKEN: "35", "bold": "1", "faint": "2"}


def wants_colour(stream: TextIO) -> bool:
    """Whether colours are of use there: a terminal, and https://no-color.org is not asked for."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _paint(text: str, colour: str, stream: TextIO) -> str:
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if wants_colour(stream) else text


def line(case: Mapping, stream: TextIO | None = None) -> str:
    """One case in one line: verdict, id, ratio, largest error, ulp, index.

    Args:
        case: `Outcome.as_json`.
        stream: where the line will be written; it decides about colour. Default: standard output.
    """
    mark = _paint(MARKS[case["verdict"]], case["verdict"], stream or sys.stdout)
    if case["verdict"] == BROKEN:
        return f"{mark} {case['id']}  {_cut(case['message'], WIDTH - 9 - len(case['id']))}"
    tensor = facts.worst_tensor(case)
    text = f"{case['id']:<46} {words.plain(words.ratio(case['ratio'])):>7}"
    if tensor and facts.was_measured(tensor):
        ulp = words.count(tensor["ulp"]) if tensor["ulp"] or not tensor["max_error"] else "-"
        text += f"  max {words.plain(words.error(tensor['max_error'])):>7} {ulp:>5} ulp"
        where = words.index(tensor["index"])
        text += f"  {where}" if len(text) + len(where) + 9 <= WIDTH else ""
    elif case["verdict"] == DIFFER:
        text += f"  {_cut(case['message'], WIDTH - 9 - len(text))}"
    return f"{mark} {text}"


def _cut(text: str, width: int) -> str:
    text = words.printable(" ".join(text.split()))
    return text if len(text) <= max(width, 20) else text[: max(width, 20) - 3] + "..."


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _table(results: Mapping, stream: TextIO) -> list[str]:
    lines = [f"{'tier':<12} {'checks':>6} {'agree':>6} {'differ':>6} {'broken':>6} {'seconds':>8}  worst ratio"]
    for row in facts.tier_rows(results["cases"]):
        failing = DIFFER if row.differ else BROKEN if row.broken else None
        worst = f"{words.plain(words.ratio(row.worst['ratio'])):>7}  {_cut(row.worst['id'], 39)}" if row.worst else ""
        text = f"{words.tier(row.tier):<12} {row.cases:>6} {row.agree:>6} {row.differ:>6} {row.broken:>6} "
        text += f"{row.seconds:>8.1f}  {worst}"
        lines.append(_paint(text, failing, stream) if failing else text)
    return [_paint(lines[0], "faint", stream), *lines[1:]]


def _failures(results: Mapping, stream: TextIO) -> list[str]:
    failed = facts.failures(results["cases"])
    lines = []
    for case in failed[:SHOWN_FAILURES]:
        lines.append("")
        lines.append(_paint(f"{MARKS[case['verdict']]} {case['id']}", case["verdict"], stream))
        *found, reproduce = words.failure(case)
        lines += [part for text in found for part in _wrapped(f"  {text}")]
        lines.append(f"  {reproduce}")
    if rest := len(failed) - SHOWN_FAILURES:
        lines += ["", f"and {rest} more, in the report"] if rest > 0 else []
    return lines


def summary(results: Mapping, stream: TextIO | None = None) -> str:
    """What stands under the lines when all is done: the failures, a table of tiers, the verdict in one sentence.

    Args:
        results: as `schema.results` makes it.
        stream: where it will be written; it decides about colour. Default: standard output.
    """
    stream = stream or sys.stdout
    lines = [*_failures(results, stream), "", *_table(results, stream), ""]
    good = facts.is_good(results)
    sentence = _wrapped(words.headline(results))
    lines += [_paint(_paint(part, AGREE if good else DIFFER, stream), "bold", stream) for part in sentence]
    if results["mutants"] and results["cases"]:
        lines += _wrapped(words.mutants_headline(results["mutants"]) + ".")
    lines.append(f"It took {words.duration(results['seconds'])}.")
    return "\n".join(lines) + "\n"
