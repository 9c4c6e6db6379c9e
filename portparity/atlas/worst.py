"""The worst of the atlas: operators that show the same numbers are one, and a table of them for a page of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..report import words
from . import rows
from .rows import Row

SHOWN = 20
BEGIN, END = "<!-- worst: written by portparity operators -->", "<!-- end of worst -->"
PARTS = {"y": "result", "grad": "gradient"}


@dataclass
class Offender:
    """Rows that show the same."""

    names: list[str]
    row: Row
    modes: set[str]

    @property
    def mode(self) -> str:
        """The mode in which alone it shows, or ""."""
        return next(iter(self.modes)) if self.modes in ({"graph"}, {"pynative"}) else ""


def offenders(found: Sequence[Row]) -> list[Offender]:
    """float32's crashes, wrong and imprecise results, the worst first."""
    groups: dict[tuple, Offender] = {}
    chosen = (rows.CRASHES, rows.WRONG, rows.IMPRECISE)
    for row in sorted((r for r in found if r.dtype == "float32" and r.verdict in chosen), key=rank):
        key = (row.part, row.ulp, row.units, row.where, row.mindspore, row.said.replace("(pynative", "(graph"))
        if key in groups:
            groups[key].modes.add(row.mode)
            if row.operator not in groups[key].names:
                groups[key].names.append(row.operator)
        else:
            groups[key] = Offender([row.operator], row, {row.mode})
    return list(groups.values())


def rank(row: Row) -> tuple:
    """In order of what it costs: crashes, wrong results, then how many times as far off as PyTorch."""
    ordinary = max((row.ulp or 0) / max(row.torch_ulp or 0, 1) if row.measure == "ulp" else 0,
                   (row.units or 0) / max(row.torch_units or 0, 1))  # fmt: skip
    return list(rows.VERDICTS).index(row.verdict), -ordinary, -(row.extreme_ulp or 0), row.operator, row.dtype, row.mode


def part(row: Row) -> str:
    """The part in words: "gradient of x"."""
    return f"gradient of {row.part.split()[1]}" if row.part.startswith("grad ") else PARTS.get(row.part, row.part)


def number(x: float | None) -> str:
    """A count of ulps or roundings."""
    if x is None:
        return words.NONE
    return f"{x:.0f}" if x == round(x) and x < 10 else words.ratio(x) if x < 10 else words.count(x)


def markdown(found: Sequence[Row]) -> str:
    """The worst as a table of Markdown."""
    lines = ["| Operator | Part | ulp | PyTorch | rms | PyTorch | Where | MindSpore | float64 |",
             "| --- | --- | ---: | ---: | ---: | ---: | --- | --- | --- |"]  # fmt: skip
    for offender in offenders(found)[:SHOWN]:
        row = offender.row
        numbers = [number(x) for x in (row.ulp, row.torch_ulp, row.units, row.torch_units)]
        where = row.where if row.verdict not in (rows.CRASHES,) else row.said
        where = row.said if row.calls > 1 else where
        mode = f" ({offender.mode})" if offender.mode else ""
        names = ", ".join(f"`{name}`" for name in offender.names)
        cells = [names + mode, part(row), *numbers, where, row.mindspore or words.NONE, row.truth or words.NONE]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def into(text: str, found: Sequence[Row]) -> str:
    """A page's text with the table between its two marks anew. Raises ValueError where it has no marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{markdown(found)}\n\n{END}{after}"
