"""The results as one HTML page that needs nothing but itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from portparity.report import style
from portparity.report.svg import COLOUR, chart, clean, escape

from . import results, tables
from .contestants import REFERENCE
from .sizes import GROWTH, MIDDLE, WHAT, Workload

COLOURS = {"ours": "accent", "ours-no-kernels": "second", "torch": "a2", "torch-compile": "a1", "stock": "hb"}
CSS = """
h1::before { content: none; }
.three { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 28px 36px; margin-top: 18px; }
@media (max-width: 860px) { .three { grid-template-columns: minmax(0, 1fr); } }
"""


def _colour(name: str) -> str:
    return COLOURS.get(name, "second")


def _key(names: Sequence[str]) -> str:
    entries = "".join(
        f'<span><i style="background: var(--{_colour(name)})"></i>{escape(tables.title_of(name))}</span>'
        for name in names
    )
    return f'<div class="key">{entries}</div>'


def bars(group: Sequence[Mapping], what: str) -> str:
    """One workload: a bar for each contestant, as long as its median, with its quartiles and its times-PyTorch.

    A bar more than eight times the shortest is cut, and says so by its open end.
    """
    timed = [row for row in group if results.median_of(row, what) is not None]
    medians = [results.median_of(row, what) for row in timed]
    limit = max(m for m in medians if m <= 8 * min(medians)) * 1.12
    with chart(560, 22 * len(timed) + 4, (172, 0, 128, 0)) as drawn:
        axes = drawn.axes
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set(xlim=(0, limit), ylim=(len(timed) - 0.5, -0.5), xticks=[])
        axes.set_yticks(range(len(timed)), [clean(tables.title_of(row["contestant"])) for row in timed])
        for i, row in enumerate(timed):
            s = results.summary(row["times"][what])
            cut, strong = s["median"] > limit, {"color": COLOUR["ink"], "weight": "bold"}
            median, low, high = (tables.number(s[key]) for key in ("median", "low", "high"))
            (bar,) = axes.barh(i, min(s["median"], limit), 0.5, color=COLOUR[_colour(row["contestant"])])
            drawn.tell(bar, [f"{tables.title_of(row['contestant'])}: {median} ms, quartiles {low} to {high}"])
            if cut:
                axes.annotate("»", (limit, i), (-4, 0), textcoords="offset points", ha="right", va="center", **strong)
            else:
                axes.plot([s["low"], min(s["high"], limit)], [i, i], color=COLOUR["ink"], linewidth=1, alpha=0.55)
            ratio = None if row["contestant"] == REFERENCE else results.ratio_of(row, group, what)
            end = limit if cut else min(s["high"], limit)
            axes.annotate(
                f"{median} ms{tables.times(ratio)}", (end, i), (6, 0), textcoords="offset points", va="center"
            )
            if row["contestant"] == "ours":
                axes.get_yticklabels()[i].set(**strong)
        return drawn.svg(f"{WHAT[what]}, median time of each contestant")


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
    with chart(340, 214, (46, 12, 60, 38)) as drawn:
        axes = drawn.axes
        drawn.log([v for line in points.values() for _, v in line], 1e-3, 1e7)
        axes.set_xscale("log")
        axes.set_xticks(xs, map(str, xs))
        axes.set_xticks([], minor=True)
        axes.set_xlabel(axis)
        axes.spines["bottom"].set_visible(False)
        axes.set_xlim(min(xs) / 1.1, max(*xs, 2 * min(xs)) * 1.1)
        height = math.inf  # of the words on the right, which keep clear of each other
        for name, line in sorted(points.items(), key=lambda of: -of[1][-1][1]):
            titles = [f"{tables.title_of(name)}, {axis} {a}: {tables.number(b)}" for a, b in line]
            axes.plot(*zip(*line, strict=True), color=COLOUR[_colour(name)])
            drawn.dots(*zip(*line, strict=True), titles, _colour(name))
            if (power := results.exponent(line)) is not None:
                height = min(axes.transData.transform(line[-1])[1] - 4, height - 13)
                axes.text(axes.bbox.x1 + 8, height, f"p {power:.2f}", color=COLOUR[_colour(name)], transform=None)
        return drawn.svg(f"{what} along {axis}")


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
