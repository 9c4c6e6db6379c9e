"""The charts of the page: heat map, histogram, error by depth, trajectory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..runner import BROKEN
from . import facts, svg, words

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 44, 448, 26, 198
SIDES = {facts.FORWARD: ("forward", "inherited"), facts.BACKWARD: ("backward", "inherited_backward")}

# (largest ratio, class, label); calm up to 1, alarming above
STEPS = [
    (0.0, "h0", "exact"),
    (1 / 16, "h1", "≤ 1/16"),
    (1 / 8, "h2", "≤ 1/8"),
    (1 / 4, "h3", "≤ 1/4"),
    (1 / 2, "h4", "≤ 1/2"),
    (1.0, "h5", "≤ 1"),
    (10.0, "a1", "≤ 10"),
    (1000.0, "a2", "≤ 1000"),
    (math.inf, "a3", "more"),
]


def step_of(case: Mapping) -> str:
    """The class of the heat map's colour for a case."""
    if case["verdict"] == BROKEN:
        return "hb"
    return next((kind for limit, kind, _ in STEPS if case["ratio"] <= limit), "a3")


def cells(numbered: Sequence[tuple[int, Mapping]], columns: int = 24, size: int = 14) -> str:
    """One family's row of the heat map: a square per case that links to its row in the table."""
    marks = []
    for at, (number, case) in enumerate(numbered):
        x, y = at % columns * size, at // columns * size
        told = "broken" if case["verdict"] == BROKEN else words.ratio(case["ratio"])
        mark = svg.rect(x, y, size - 2, size - 2, step_of(case), f"{case['id']}  {told}")
        if case["verdict"] == BROKEN:
            mark += f'<path class="cross" d="M{x + 3} {y + 3}l6 6m0-6l-6 6"/>'
        marks.append(f'<a href="#c{number}">{mark}</a>')
    width = min(len(numbered), columns) * size - 2
    height = math.ceil(len(numbered) / columns) * size - 2
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg class="cells" {box}>{"".join(marks)}</svg>'


def frame(y: svg.Scale) -> list[str]:
    """Horizontal grid lines with their labels."""
    marks = []
    for value, label in y.ticks(5):
        marks.append(svg.line(LEFT, y(value), RIGHT, y(value), "grid"))
        marks.append(svg.text(LEFT - 6, y(value) + 4, label, anchor="end"))
    return marks


def legend(entries: Sequence[tuple[str, str]]) -> list[str]:
    """The legend: (class of the line, label), above the plot."""
    marks, x = [], float(LEFT)
    for kind, label in entries:
        marks.append(svg.line(x, 10, x + 16, 10, kind) if "dot" not in kind else svg.dot(x + 8, 10, kind))
        marks.append(svg.text(x + 21, 14, label))
        x += 34 + 6.3 * len(label)
    return marks


def histogram(cases: Sequence[Mapping]) -> str:
    """How many cases have which ratio; an eighth of a decade a bar, 0 and infinity apart."""
    ratios = [facts.ordering(case["ratio"]) for case in cases if case["verdict"] != BROKEN]
    finite = [r for r in ratios if 0 < r < math.inf]
    first = max(-4, math.floor(math.log10(min(finite, default=0.1))))
    last = min(5, max(1, math.ceil(math.log10(max(finite, default=1.0)))))
    bars = [0] * (8 * (last - first))
    for r in finite:
        # a ratio of exactly 1 agrees: it belongs below the limit
        bars[min(max(math.ceil(8 * (math.log10(r) - first)) - 1, 0), len(bars) - 1)] += 1
    zero, infinite = ratios.count(0), ratios.count(math.inf)
    peak = max([zero, infinite, *bars, 1])
    y = svg.Scale(0, peak * 1.12, BOTTOM, TOP)
    start, end = LEFT + 34 * (zero > 0), RIGHT - 34 * (infinite > 0)
    x = svg.Scale(10.0**first, 10.0**last, start, end, log=True)
    marks = [mark for value, label in y.ticks(4) if value == int(value) for mark in _grid_line(y, value, label)]
    spans = [(10 ** (first + i / 8), 10 ** (first + (i + 1) / 8)) for i in range(len(bars))]
    for number, (low, high) in zip(bars, spans, strict=True):
        told = f"{words.plural(number, 'check')} with a ratio of {words.ratio(low)} to {words.ratio(high)}"
        marks += _bar(y, number, x(low) + 0.5, x(high) - 0.5, high > 1.001, told)
    if zero:
        marks += _bar(y, zero, LEFT + 4, LEFT + 22, False, f"{words.plural(zero, 'check')} without any error")
        marks.append(svg.text(LEFT + 13, BOTTOM + 15, "0", anchor="middle"))
    if infinite:
        told = f"{words.plural(infinite, 'check')} with an infinite ratio"
        marks += _bar(y, infinite, RIGHT - 22, RIGHT - 4, True, told)
        marks.append(svg.text(RIGHT - 13, BOTTOM + 15, "∞", anchor="middle"))
    marks += [svg.text(x(value), BOTTOM + 15, label, anchor="middle") for value, label in x.ticks(9)]
    marks += [svg.line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"), svg.line(x(1), TOP - 8, x(1), BOTTOM, "limit")]
    marks.append(svg.text(x(1) + 5, TOP - 1, "limit 1", "alarming"))
    marks.append(svg.text((LEFT + RIGHT) / 2, HEIGHT - 3, "ratio: error over bound", "name", "middle"))
    return svg.picture(WIDTH, HEIGHT, marks, "distribution of the ratios")


def _grid_line(y: svg.Scale, value: float, label: str) -> list[str]:
    return [
        svg.line(LEFT, y(value), RIGHT, y(value), "grid"),
        svg.text(LEFT - 6, y(value) + 4, label, anchor="end"),
    ]


def _bar(y: svg.Scale, number: int, left: float, right: float, alarming: bool, told: str) -> list[str]:
    """A bar; one above the limit carries its count and is never too low to be seen."""
    if not number:
        return []
    height = max(BOTTOM - y(number), 3.0)
    bar = svg.rect(left, BOTTOM - height, right - left, height, "bar over" if alarming else "bar", told)
    label = svg.text((left + right) / 2, BOTTOM - height - 5, str(number), "alarming", "middle")
    return [bar, label] if alarming else [bar]


def depth(layers: Sequence[Mapping], side: str = facts.FORWARD) -> str:
    """Own and inherited ratio of every layer in the order of computation, the first culprit marked."""
    name, inherited = SIDES[side]
    judged = [layer for layer in layers if layer.get(side) is not None]
    ratios = [layer[key] for layer in judged for key in (side, inherited) if layer.get(key) is not None]
    y = svg.log_scale([*ratios, 0.1, 10], BOTTOM, TOP + 4, 1e-4, 1e6)
    x = svg.Scale(0, max(len(judged) - 1, 1), LEFT + 8, RIGHT - 8)
    marks = [*frame(y), svg.line(LEFT, y(1), RIGHT, y(1), "limit")]
    found = facts.culprit(layers, side)
    followed = [(x(i), y(layer[inherited])) for i, layer in enumerate(judged) if layer.get(inherited) is not None]
    marks += [svg.curve(followed, "inherited")] if followed else []
    for i, layer in enumerate(judged):
        told = f"{layer['path']}: own {words.ratio(layer[side])}, inherited {words.ratio(layer.get(inherited))}"
        kind = "dot over" if facts.fails(layer, side) else "dot"
        marks.append(svg.dot(x(i), y(layer[side]), kind, told, 4 if layer is found else 2.4))
        if layer is found:
            marks.insert(0, svg.line(x(i), TOP, x(i), BOTTOM, "guide"))
            anchor = "start" if x(i) < WIDTH / 2 else "end"
            shift = 8 if anchor == "start" else -8
            height = y(layer[side]) + (16 if y(layer[side]) < TOP + 24 else -8)
            label = f"{layer['path']}  {words.ratio(layer[side])}"
            marks.append(svg.text(x(i) + shift, height, label, "alarming halo", anchor))
    marks += legend([("dot", "own"), ("inherited", "inherited"), ("limit", "limit 1")])
    marks.append(svg.text(LEFT, BOTTOM + 16, _ending(judged[0]["path"]), "name"))
    marks.append(svg.text((LEFT + RIGHT) / 2, BOTTOM + 16, f"{len(judged)} layers", "name", "middle"))
    marks.append(svg.text(RIGHT, BOTTOM + 16, _ending(judged[-1]["path"]), "name", "end"))
    return svg.picture(WIDTH, HEIGHT - 8, marks, f"error by depth, {name}")


def _ending(path: str, most: int = 24) -> str:
    return path if len(path) <= most else "…" + path[1 - most :]


def trajectory(curves: Mapping) -> str:
    """The candidate's error step by step in its envelope, on a log axis."""
    error, bound, reference = curves["error"], curves["bound"], curves["reference"]
    y = svg.log_scale([*error, *bound, *(r for r in reference if r > 0)], BOTTOM, TOP + 4, 1e-12, 1e12)
    if y.high / y.low > 1e9:
        y = svg.log_scale([*bound, max(error, key=facts.ordering)], BOTTOM, TOP + 4, 1e-12, 1e12)
    x = svg.Scale(0, max(len(error) - 1, 1), LEFT, RIGHT)
    edge = [(x(i), y(v)) for i, v in svg.thinned(bound)]
    tube = [(LEFT, BOTTOM), *edge, (edge[-1][0], BOTTOM)]
    marks = [svg.curve(tube, "tube"), *frame(y), svg.curve(edge, "bound")]
    marks.append(svg.curve([(x(i), y(v)) for i, v in svg.thinned(reference)], "inherited"))
    marks.append(svg.curve([(x(i), y(v)) for i, v in svg.thinned(error)], "main"))
    first = curves.get("first_outside")
    marks += steps(x, first)
    marks += [] if first is None else [svg.dot(x(first), y(error[first]), "dot over", radius=4)]
    marks += legend([("main", "candidate’s error"), ("inherited", "reference’s, so far"), ("bound", "allowed")])
    return svg.picture(WIDTH, HEIGHT, marks, "error step by step in its envelope")


def steps(x: svg.Scale, first_outside: int | None) -> list[str]:
    """The axis of steps, and the first step outside."""
    marks = [svg.line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis")]
    marks += [svg.text(x(value), BOTTOM + 15, label, anchor="middle") for value, label in x.ticks(6)]
    marks.append(svg.text((LEFT + RIGHT) / 2, HEIGHT - 3, "step", "name", "middle"))
    if first_outside is not None:
        at = x(first_outside)
        anchor, shift = ("start", 6) if at < WIDTH / 2 else ("end", -6)
        marks.append(svg.line(at, TOP, at, BOTTOM, "guide"))
        marks.append(svg.text(at + shift, BOTTOM - 7, f"outside from step {first_outside}", "alarming halo", anchor))
    return marks


def course(curves: Mapping) -> str:
    """What the candidate and float64 computed, step by step."""
    candidate, truth = curves["candidate"], curves["truth"]
    values = [v for v in (*candidate, *truth) if math.isfinite(v)] or [0.0]
    positive = min(values) > 0 and max(values) / min(values) > 100
    y = svg.log_scale(values, BOTTOM, TOP + 4, 1e-12, 1e12) if positive else svg.linear_scale(values, BOTTOM, TOP + 4)
    x = svg.Scale(0, max(len(truth) - 1, 1), LEFT, RIGHT)
    marks = frame(y)
    middle = svg.thinned(truth, lambda block: block[len(block) // 2])
    marks.append(svg.curve([(x(i), y(truth[i])) for i, _ in middle], "truth"))
    marks.append(svg.curve([(x(i), y(candidate[i])) for i, _ in middle], "main"))
    marks += steps(x, curves.get("first_outside"))
    marks += legend([("main", "candidate"), ("truth", "float64")])
    return svg.picture(WIDTH, HEIGHT, marks, "the values step by step")
