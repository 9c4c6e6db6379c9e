"""The results as one HTML page that needs nothing but itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..report import style, svg
from ..report.svg import escape
from . import results, tables
from .contestants import REFERENCE
from .sizes import GROWTH, MIDDLE, WHAT, Workload

WIDTH, LEFT, ROW, BAR = 560, 172, 15, 9
CLASSES = {
    "ours": "k-ours", "ours-no-kernels": "k-plain", "torch": "k-torch", "torch-compile": "k-compile",
    "stock": "k-stock",
}  # fmt: skip
CSS = """
svg .k-ours { fill: var(--accent); } svg .k-plain { fill: var(--second); } svg .k-torch { fill: var(--a2); }
svg .k-compile { fill: var(--a1); } svg .k-stock { fill: var(--hb); }
svg path.l-ours { stroke: var(--accent); } svg path.l-plain { stroke: var(--second); }
svg path.l-torch { stroke: var(--a2); } svg path.l-compile { stroke: var(--a1); }
svg path.l-stock { stroke: var(--hb); }
svg path.whisker { stroke: var(--ink); stroke-width: 1; opacity: .55; }
svg text.strong { fill: var(--ink); font-weight: 600; }
.key i.k-ours { background: var(--accent); } .key i.k-plain { background: var(--second); }
.key i.k-torch { background: var(--a2); } .key i.k-compile { background: var(--a1); }
.key i.k-stock { background: var(--hb); }
h1::before { content: none; }
.three { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 28px 36px; margin-top: 18px; }
@media (max-width: 860px) { .three { grid-template-columns: minmax(0, 1fr); } }
"""


def _kind(name: str) -> str:
    return CLASSES.get(name, "k-plain")


def _key(names: Sequence[str]) -> str:
    entries = "".join(f'<span><i class="{_kind(name)}"></i>{escape(tables.title_of(name))}</span>' for name in names)
    return f'<div class="key">{entries}</div>'


def bars(group: Sequence[Mapping], what: str) -> str:
    """One workload: a bar for each contestant, as long as its median, with its quartiles and its times-PyTorch.

    A bar more than eight times the shortest is cut, and says so by its open end.
    """
    timed = [row for row in group if results.median_of(row, what) is not None]
    medians = [results.median_of(row, what) for row in timed]
    limit = max(m for m in medians if m <= 8 * min(medians)) * 1.12
    x = svg.Scale(0, limit, LEFT, WIDTH - 128)
    marks = []
    for i, row in enumerate(timed):
        s = results.summary(row["times"][what])
        y, cut = i * (ROW + 7) + 4, s["median"] > limit
        name = tables.title_of(row["contestant"])
        median, low, high = (tables.number(s[key]) for key in ("median", "low", "high"))
        told = f"{name}: {median} ms, quartiles {low} to {high}"
        marks.append(svg.text(LEFT - 8, y + BAR, name, "strong" if row["contestant"] == "ours" else "", "end"))
        marks.append(svg.rect(x(0), y, x(s["median"]) - x(0), BAR + 2, _kind(row["contestant"]), told))
        if cut:
            marks.append(svg.text(x(limit) - 14, y + BAR, "»", "strong"))
        else:
            middle = y + BAR / 2 + 1
            marks.append(svg.line(x(s["low"]), middle, x(min(s["high"], limit)), middle, "whisker"))
        ratio = None if row["contestant"] == REFERENCE else results.ratio_of(row, group, what)
        marks.append(svg.text(x(s["median"] if cut else s["high"]) + 6, y + BAR, f"{median} ms{tables.times(ratio)}"))
    return svg.picture(WIDTH, len(timed) * (ROW + 7) + 6, marks, f"{WHAT[what]}, median time of each contestant")


def _speed(found: Mapping) -> str:
    """Bars of every kind of step."""
    rows, parts = results.main_rows(found), []
    for what in WHAT:
        figures = []
        for group in results.workloads(rows).values():
            if any(results.median_of(row, what) is not None for row in group):
                workload = Workload.from_json(group[0]["workload"])
                figures.append(f"<figure><figcaption>{escape(workload)}</figcaption>{bars(group, what)}</figure>")
        if figures:
            title = tables.what_title(found, what)
            parts.append(
                f'<section id="{what}"><h2>{escape(title[0].upper() + title[1:])}</h2><p class="lead">Median, and the '
                "quartiles as a line. In brackets: how many times PyTorch's. A bar with » is cut.</p>"
                f'{_key(results.contestants_of(rows))}<div class="charts">{"".join(figures)}</div></section>'
            )
    return "".join(parts)


def curves(found: Mapping, axis: str, what: str) -> str:
    """One cost along one axis, both logarithmic, a line for each contestant with the power that fits it."""
    names = results.contestants_of(results.series_rows(found, axis))
    points = {name: tables.growth_points(found, axis, name, what) for name in names}
    points = {name: found_ for name, found_ in points.items() if found_}
    if not points:
        return ""
    xs = sorted({x for line in points.values() for x, _ in line})
    width, left, right, top, bottom = 340, 46, 280, 12, 176
    low, high = min(xs), max(xs) if len(xs) > 1 else min(xs) * 2
    x = svg.Scale(low, high, left + 6, right, log=True)
    y = svg.log_scale([v for line in points.values() for _, v in line], bottom, top, 1e-3, 1e7)
    marks = []
    for value, label in y.ticks(5):
        marks += [svg.line(left, y(value), right + 6, y(value), "grid")]
        marks += [svg.text(left - 6, y(value) + 4, label, anchor="end")]
    marks += [svg.text(x(value), bottom + 16, str(value), anchor="middle") for value in xs]
    marks.append(svg.text((left + right) / 2, bottom + 32, axis, "name", "middle"))
    ends, last = sorted((y(line[-1][1]), name) for name, line in points.items()), -math.inf
    for height, name in ends:
        line, kind = points[name], _kind(name)
        marks.append(svg.curve([(x(a), y(b)) for a, b in line], kind.replace("k-", "l-")))
        marks += [
            svg.dot(x(a), y(b), kind, f"{tables.title_of(name)}, {axis} {a}: {tables.number(b)}") for a, b in line
        ]
        power = results.exponent(line)
        last = max(height + 4, last + 13)
        marks += [] if power is None else [svg.text(right + 10, last, f"p {power:.2f}", kind)]
    return svg.picture(width, bottom + 38, marks, f"{what} along {axis}")


def _growth(found: Mapping) -> str:
    figures = []
    for what, unit in (
        ("train", "training step, ms"),
        ("denoise", "denoising step, ms"),
        ("memory", "peak memory, MiB"),
    ):
        for axis in GROWTH:
            drawn = curves(found, axis, what)
            if drawn:
                figures.append(f"<figure><figcaption>{unit}, by {axis}</figcaption>{drawn}</figure>")
    if not figures:
        return ""
    return (
        f'<section id="growth"><h2>How cost grows</h2><p class="lead">{MIDDLE} at batch 16, one of the three varied at '
        "a time, both axes logarithmic; p is the power of the straight line that fits: with 1, cost doubles when the "
        f"axis does.</p>{_key(results.contestants_of([row for row in found['rows'] if row['workload']['series']]))}"
        f'<div class="three">{"".join(figures)}</div></section>'
    )


def _table(table: tables.Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(
            f'<{tag} class="{"label" if i < table.labels else "n"}">{escape(cell)}' for i, cell in enumerate(cells)
        )

    body = "".join(row(cells, "td") for cells in table.rows)
    inside = f'<div class="scroll"><table>{row(table.head, "th")}{body}</table></div>'
    lead = f'<p class="lead">{escape(table.lead)}</p>'
    if table.folded:
        summary = f"<summary><strong>{escape(table.title)}</strong></summary>"
        return f"<section><details>{summary}{lead}{inside}</details></section>"
    return f"<section><h2>{escape(table.title)}</h2>{lead}{inside}</section>"


def headline(found: Mapping) -> str:
    """The training step in one sentence: the range of ours over PyTorch's."""
    rows = results.main_rows(found)
    ours = [row for row in rows if row["contestant"] == "ours"]
    for what in WHAT:
        ratios = [r for r in (results.ratio_of(row, rows, what) for row in ours) if r]
        if ratios:
            low, high = min(ratios), max(ratios)
            span = f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
            return f"A {tables.what_title(found, what)} of ms_ddpm takes {span} times as long as PyTorch's"
    return "How fast, and how large"


def page(found: Mapping) -> str:
    """The whole page as text, self-contained."""
    problems = "".join(f"<li>{escape(line)}" for line in tables.notes(found))
    facts = found["machine"] | found["settings"] | {"date": found["date"], "command": found["command"]}
    told = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Speed and memory</title><style>{style.CSS}{CSS}</style></head><body>"
        f'<header><div class="eyebrow">Speed and memory of ms_ddpm</div><h1>{escape(headline(found))}</h1>'
        f'<p class="lead">{escape(tables.setting(found))}</p></header><main>'
        f"{_speed(found)}{_growth(found)}{''.join(_table(table) for table in tables.all_tables(found))}"
        f"{f'<section><h2>What to know</h2><ul>{problems}</ul></section>' if problems else ''}"
        f'<section><h2>Where and how</h2><dl class="environment">{told}</dl></section></main></body></html>\n'
    )
