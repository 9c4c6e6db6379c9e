"""The results as tables: for the terminal, for a README, for the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from . import results
from .contestants import AS_IT_IS, CONTESTANTS, REFERENCE
from .sizes import GROWTH, WHAT, Workload, axis_value

NONE = "–"
BUSY = 0.05  # share of the processors that went to others, above which times mean little


@dataclass
class Table:
    """Rows of text under a head; the first ``labels`` columns are words, the rest numbers."""

    title: str
    lead: str
    head: list[str]
    rows: list[list[str]] = field(default_factory=list)
    labels: int = 2
    folded: bool = False


def number(x: float | None) -> str:
    """Three digits: 0.473, 4.73, 47.3, 473, 4,730."""
    if x is None:
        return NONE
    if x >= 1000:
        digits = len(str(int(x))) - 3
        return f"{round(x, -digits):,.0f}"
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}" if x >= 1 else f"{x:.3f}"


def times(x: float | None) -> str:
    """5.1x; nothing where it is unknown."""
    return "" if x is None else f" ({x:.0f}x)" if x >= 20 else f" ({x:.1f}x)" if x >= 1.95 else f" ({x:.2f}x)"


def title_of(name: str) -> str:
    """A contestant's name in tables."""
    return CONTESTANTS[name].title if name in CONTESTANTS else name


def mib(size: float | None) -> str:
    """Bytes as MiB."""
    return NONE if size is None else f"{size / results.MIB:,.0f}"


def what_title(found: Mapping, what: str) -> str:
    """ "DDIM-50 sample" where the steps are 50."""
    return f"DDIM-{found['settings']['ddim_steps']} sample" if what == "sample" else WHAT[what]


def _state(row: Mapping | None) -> str | None:
    """What stands in a cell that has no number."""
    if row is None:
        return NONE
    return "failed" if row["failed"] else "differs" if row["disagrees"] else None


def _grid(rows: Sequence[Mapping], title: str, lead: str, cell) -> Table:
    """A table of workloads by contestants."""
    names = results.contestants_of(rows)
    table = Table(title, lead, ["network", "batch", *map(title_of, names)])
    for group in results.workloads(rows).values():
        by_name = {row["contestant"]: row for row in group}
        workload = Workload.from_json(group[0]["workload"])
        cells = [cell(by_name.get(name)) for name in names]
        if any(text != NONE for text in cells):
            table.rows.append([str(workload.size), str(workload.batch), *cells])
    return table


def time_table(found: Mapping, what: str) -> Table:
    """Median milliseconds, and how many times the reference's."""
    rows = results.main_rows(found)

    def cell(row: Mapping | None) -> str:
        if row is None or results.median_of(row, what) is None:
            return (_state(row) if row and what in row["workload"]["what"] else None) or NONE
        ratio = None if row["contestant"] == REFERENCE else results.ratio_of(row, rows, what)
        return number(results.median_of(row, what)) + times(ratio)

    name = what_title(found, what)
    name = name[0].upper() + name[1:]
    lead = f"Median, ms; in brackets how many times {title_of(REFERENCE)}'s."
    return _grid(rows, name, lead, cell)


def first_table(found: Mapping) -> Table:
    """Time to the first step."""

    def cell(row: Mapping | None) -> str:
        if row is None or "first_step_s" not in row:
            return _state(row) or NONE
        own = row["build_s"] + row["first"][row.get("memory_of", next(iter(row["first"])))]
        return f"{number(row['first_step_s'])} ({number(own)})"

    lead = "Seconds from the start of the process to the end of the first step; in brackets without the imports."
    return _grid(results.main_rows(found), "Time to the first step", lead, cell)


def memory_table(found: Mapping) -> Table:
    """Peak growth of resident memory."""

    def cell(row: Mapping | None) -> str:
        if row is None or "growth" not in row:
            return _state(row) or NONE
        return f"{mib(row['growth'])} ({mib(row['resident'])})"

    kinds = {row["memory_of"] for row in results.main_rows(found) if "memory_of" in row}
    doing = WHAT[kinds.pop()] + "s" if len(kinds) == 1 else "the first kind of step"
    lead = f"MiB that {doing} added at their peak to what is resident after the imports (in brackets)."
    return _grid(results.main_rows(found), "Peak memory", lead, cell)


def detail_table(found: Mapping) -> Table:
    """Every measurement with its spread."""
    table = Table(
        "Every measurement", "Milliseconds. Steady means that the slowest step takes less than 1.5 times the median.",
        ["network", "batch", "step", "who", "steps", "median", "fastest", "quartiles", "slowest/median", "images/s",
         "difference"], labels=4, folded=True,
    )  # fmt: skip
    for row in found["rows"]:
        workload = Workload.from_json(row["workload"])
        for what, seconds in row["times"].items():
            s = results.summary(seconds)
            worst = max(row["differences"].values(), default=None)
            table.rows.append([
                str(workload.size), str(workload.batch), what_title(found, what), title_of(row["contestant"]),
                str(s["n"]), number(s["median"]), number(s["fastest"]), f"{number(s['low'])} to {number(s['high'])}",
                f"{s['unsteady']:.2f}",
                number(1000 * workload.batch / s["median"]), NONE if worst is None else f"{worst:.0e}",
            ])  # fmt: skip
    return table


def growth_points(found: Mapping, axis: str, name: str, what: str) -> list[tuple[int, float]]:
    """(where on the axis, milliseconds; MiB for ``what`` "memory") of one contestant."""
    points = []
    for row in results.series_rows(found, axis):
        value = row.get("growth", 0) / results.MIB if what == "memory" else results.median_of(row, what)
        if row["contestant"] == name and value:
            points.append((axis_value(Workload.from_json(row["workload"])), value))
    return sorted(points)


def growth_tables(found: Mapping) -> list[Table]:
    """How cost grows along each axis: the values, and the power that fits them."""
    tables = []
    for axis in GROWTH:
        rows = results.series_rows(found, axis)
        values = sorted({axis_value(Workload.from_json(row["workload"])) for row in rows})
        if not values:
            continue
        table = Table(
            f"Growth with {axis}", f"Milliseconds (memory: MiB), and p where cost grows as {axis} to the power p.",
            ["step", "who", *map(str, values), "p"],
        )  # fmt: skip
        for what in ("train", "denoise", "memory"):
            for name in results.contestants_of(rows):
                points = growth_points(found, axis, name, what)
                if points:
                    power = results.exponent(points)
                    cells = [number(dict(points).get(value)) for value in values]
                    power = NONE if power is None else f"{power:.2f}"
                    table.rows.append([WHAT.get(what, "peak memory"), title_of(name), *cells, power])
        tables.append(table)
    return tables


def all_tables(found: Mapping) -> list[Table]:
    """Every table that has something in it."""
    tables = [time_table(found, what) for what in WHAT]
    tables += [first_table(found), memory_table(found), *growth_tables(found), detail_table(found)]
    return [table for table in tables if table.rows]


def without_kernels(found: Mapping) -> str:
    """The line that says so where ours, as it is, ran by MindSpore's operators; nothing where it did not."""
    for row in found["rows"]:
        if row["contestant"] == AS_IT_IS and row.get("no_kernels"):
            return f"{title_of(AS_IT_IS)} ran by MindSpore's operators, not by its C++ kernels: {row['no_kernels']}"
    return ""


def notes(found: Mapping) -> list[str]:
    """What did not go as it should, one line each."""
    lines = [] if found["complete"] else ["The run was interrupted: this is what was measured until then."]
    lines += filter(None, [without_kernels(found)])
    if found["others"] > BUSY:
        share = f"{100 * found['others']:.0f} %"
        lines.append(f"Other processes took {share} of the processors meanwhile: measure again on a machine at rest.")
    said = {}
    for row in found["rows"]:
        where = Workload.from_json(row["workload"])
        if row["failed"]:
            said[f"{title_of(row['contestant'])} failed at {where}: {row['failed']}"] = None
        elif row["disagrees"]:
            said[f"Outputs differ at {row['disagrees']}"] = None
        for what, seconds in row["times"].items():
            s = results.summary(seconds)
            if s["n"] >= 3 and s["unsteady"] >= 1.5 and not row["workload"]["series"]:
                line = f"{title_of(row['contestant'])} was unsteady at {where}, {what_title(found, what)}"
                said[f"{line}: the slowest of {s['n']} took {s['unsteady']:.1f} times the median."] = None
    return lines + list(said)


def setting(found: Mapping) -> str:
    """Machine, versions and date in a sentence."""
    m, s = found["machine"], found["settings"]
    return (
        f"{m['processor']} ({m['instruction sets']}), {s['threads']} of {m['cores']} cores, {m['memory (GiB)']} GiB, "
        f"{m['system']}; Python {m['python']}, MindSpore {m['mindspore']}, PyTorch {m['torch']}; {found['date'][:10]}."
    )


def _columns(rows: Iterable[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _text(table: Table) -> list[str]:
    widths = _columns([table.head, *table.rows])
    lines = [table.title.upper(), table.lead]
    for row in [table.head, *table.rows]:
        cells = [
            text.ljust(width) if i < table.labels else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def terminal(found: Mapping) -> str:
    """The tables for reading in a terminal, the long one left out."""
    lines = [setting(found)]
    for table in all_tables(found):
        if not table.folded:
            lines += ["", *_text(table)]
    return "\n".join(lines + [""] + [f"! {line}" for line in notes(found)]).rstrip().replace(NONE, "-")


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def markdown(found: Mapping) -> str:
    """The tables, the machine and the command, for a README."""
    lines = [f"Measured on {setting(found)}", "", "```bash", found["command"], "```", ""]
    for table in all_tables(found):
        lines += ["<details><summary>" + table.title + "</summary>", ""] if table.folded else [f"**{table.title}.** "]
        lines[-1] += table.lead
        rule = ["---"] * table.labels + ["---:"] * (len(table.head) - table.labels)
        lines += ["", _pipes(table.head), _pipes(rule), *map(_pipes, table.rows), ""]
        lines += ["</details>", ""] if table.folded else []
    lines += [f"- {line}" for line in notes(found)]
    return "\n".join(lines).rstrip() + "\n"
