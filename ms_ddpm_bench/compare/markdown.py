"""The comparison as Markdown, for the summary page of a CI run."""

from __future__ import annotations

from collections.abc import Mapping

from portparity.report.markdown import cell, code, table
from portparity.verdict import AGREE

from . import words
from .judge import NAMES


def summary(results: Mapping) -> str:
    """The whole for a CI page, the verdict first."""
    mark = "✅" if results["verdict"] == AGREE else "❌"
    lines = [f"## {mark} {cell(words.headline(results))}", ""]
    if results["spoilt"]:
        lines += [f"PyTorch was given wrong {results['spoilt']} on purpose (`--spoil`).", ""]
    checks = [tuple(map(cell, row)) for row in words.check_rows(results)]
    lines += ["### Verdict", "", "Error over what is allowed: up to 1 agrees.", ""]
    lines += [*table(("judged", "whose", "ratio", ""), checks, "llrl"), ""]
    if results["layers"]:
        lines += [cell(words.layer_line(results["layers"])), ""]
    rows = words.cost_rows(results) + words.quality_rows(results)
    lines += ["### Both", "", *table(("", *NAMES.values()), [tuple(map(cell, row)) for row in rows], "lrr"), ""]
    if line := words.no_kernels(results):
        lines += [f"{cell(line)}.", ""]
    if why := words.no_quality(results):
        lines += [f"Quality was not measured: {cell(why)}.", ""]
    told = {"command": results["command"]} | results["environment"]
    lines += ["### Environment", "", *table(("", ""), [(cell(k), code(str(v))) for k, v in told.items()], "ll")]
    return "\n".join(lines) + "\n"
