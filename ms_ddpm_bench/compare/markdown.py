"""The comparison as Markdown, for the summary page of a CI run."""

from __future__ import annotations

from collections.abc import Mapping

from parity_tests.report.markdown import _cell, _code, _table
from parity_tests.verdict import AGREE

from . import words
from .judge import NAMES


def summary(results: Mapping) -> str:
    """The whole for a CI page, the verdict first."""
    mark = "✅" if results["verdict"] == AGREE else "❌"
    lines = [f"## {mark} {_cell(words.headline(results))}", ""]
    if results["spoilt"]:
        lines += [f"PyTorch was given wrong {results['spoilt']} on purpose (`--spoil`).", ""]
    checks = [tuple(_cell(cell) for cell in row) for row in words.check_rows(results)]
    lines += ["### Verdict", "", "Error over what is allowed: up to 1 agrees.", ""]
    lines += [*_table(("judged", "whose", "ratio", ""), checks, "llrl"), ""]
    if results["layers"]:
        lines += [_cell(words.layer_line(results["layers"])), ""]
    rows = words.cost_rows(results) + words.quality_rows(results)
    lines += ["### Both", "", *_table(("", *NAMES.values()), [tuple(map(_cell, row)) for row in rows], "lrr"), ""]
    if line := words.no_kernels(results):
        lines += [f"{_cell(line)}.", ""]
    if why := words.no_quality(results):
        lines += [f"Quality was not measured: {_cell(why)}.", ""]
    told = {"command": results["command"]} | results["environment"]
    lines += ["### Environment", "", *_table(("", ""), [(_cell(k), _code(str(v))) for k, v in told.items()], "ll")]
    return "\n".join(lines) + "\n"
