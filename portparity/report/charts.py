"""The charts of the page: heat map, histogram, error by depth, trajectory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..runner import BROKEN
from . import facts, svg, words
from .svg import COLOUR, Chart, chart, escape

SIDES = {facts.FORWARD: ("forward", "inherited"), facts.BACKWARD: ("backward", "inherited_backward")}

# how matplotlib draws what
MAIN = {"color": COLOUR["accent"], "linewidth": 1.7, "zorder": 3}
INHERITED = {"color": COLOUR["second"], "linewidth": 1.4}
BOUND = {"color": COLOUR["soft"], "linewidth": 1.2}
TUBE = {"facecolor": COLOUR["tube"], "edgecolor": "none"}
LIMIT = {"color": COLOUR["bad"], "linewidth": 1, "linestyle": (0, (4, 3))}
GUIDE = {"color": COLOUR["bad"], "linewidth": 1, "alpha": 0.45}
ALARM = {"color": COLOUR["bad"], "weight": "bold"}

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


def cells(numbered: Sequence[tuple[int, Mapping]]) -> str:
    """One family's row of the heat map: a square per case that links to its row in the table."""
    marks = []
    for number, case in numbered:
        broken = case["verdict"] == BROKEN
        told = escape(f"{case['id']}  {'broken' if broken else words.ratio(case['ratio'])}")
        marks.append(f'<a class="{step_of(case)}" href="#c{number}" title="{told}">{"×" if broken else ""}</a>')
    return f'<div class="cells">{"".join(marks)}</div>'


def histogram(cases: Sequence[Mapping]) -> str:
    """How many cases have which ratio; an eighth of a decade a bar, 0 and infinity apart."""
    ratios = [facts.ordering(case["ratio"]) for case in cases if case["verdict"] != BROKEN]
    finite = [r for r in ratios if 0 < r < math.inf]
    first = max(-4, math.floor(math.log10(min(finite, default=0.1))))
    last = min(5, max(1, math.ceil(math.log10(max(finite, default=1.0)))))
    counts = [0] * (8 * (last - first))
    for r in finite:
        # a ratio of exactly 1 agrees: it belongs below the limit
        counts[min(max(math.ceil(8 * (math.log10(r) - first)) - 1, 0), len(counts) - 1)] += 1
    edges = [words.ratio(10 ** (first + i / 8)) for i in range(len(counts) + 1)]
    # where, counted in bars from the left; how many; what it is
    bars = [(i, number, f"a ratio of {edges[i]} to {edges[i + 1]}") for i, number in enumerate(counts)]
    bars += [(-3, ratios.count(0), "no error at all"), (len(counts) + 2, ratios.count(math.inf), "an infinite ratio")]
    ticks = {8 * (exponent - first): svg.power_of_ten(10.0**exponent) for exponent in range(first, last + 1)}
    ticks |= {-2.5: "0"} if bars[-2][1] else {}
    ticks |= {len(counts) + 2.5: "∞"} if bars[-1][1] else {}
    peak, limit = max(1, *(number for _, number, _ in bars)), -8 * first
    with chart() as drawn:
        drawn.linear(0, 1.12 * peak)
        for at, number, told in bars:
            if number:
                height, over = max(number, 0.02 * peak), at >= limit  # never too low to be seen
                (bar,) = drawn.axes.bar(at + 0.5, height, 0.9, color=COLOUR["a2" if over else "h4"])
                drawn.tell(bar, [f"{words.plural(number, 'check')} with {told}"])
                if over:
                    drawn.axes.text(at + 0.5, height + 0.02 * peak, str(number), ha="center", **ALARM)
        drawn.axes.axvline(limit, **LIMIT)
        drawn.beside(limit, 1.12 * peak, "limit 1", **ALARM)
        drawn.axes.set_xticks(list(ticks), list(ticks.values()))
        drawn.axes.set_xlabel("ratio: error over bound")
        return drawn.svg("distribution of the ratios")


def depth(layers: Sequence[Mapping], side: str = facts.FORWARD) -> str:
    """Own and inherited ratio of every layer in the order of computation, the first culprit marked."""
    name, inherited = SIDES[side]
    judged = [layer for layer in layers if layer.get(side) is not None]
    followed = [at for at, layer in enumerate(judged) if layer.get(inherited) is not None]
    told = [f"{x['path']}: own {words.ratio(x[side])}, inherited {words.ratio(x.get(inherited))}" for x in judged]
    right = max(len(judged) - 1, 1)
    with chart(height=222, margins=(44, 28, 12, 26)) as drawn:
        drawn.axes.set_xlim(-0.02 * right, 1.02 * right)
        drawn.log([*(x[side] for x in judged), *(judged[at][inherited] for at in followed), 0.1, 10], 1e-4, 1e6)
        own = drawn.inside(layer[side] for layer in judged)
        drawn.axes.plot(
            followed, drawn.inside(judged[at][inherited] for at in followed), **INHERITED, label="inherited"
        )
        for failing in (False, True):
            at = [i for i, layer in enumerate(judged) if facts.fails(layer, side) == failing]
            label = "" if failing else "own"
            drawn.dots(at, own[at], [told[i] for i in at], "bad" if failing else "accent", label=label)
        drawn.axes.axhline(1, **LIMIT, label="limit 1")
        if found := facts.culprit(layers, side):
            at = judged.index(found)
            drawn.axes.axvline(at, **GUIDE)
            drawn.dots([at], own[[at]], [told[at]], "bad", size=8)
            drawn.beside(at, own[at], f"{found['path']}  {words.ratio(found[side])}", **ALARM)
        drawn.legend()
        ends = _ending(judged[0]["path"]), words.plural(len(judged), "layer"), _ending(judged[-1]["path"])
        drawn.axes.set_xticks([0, right / 2, right], ends)
        for label, align in zip(drawn.axes.get_xticklabels(), ("left", "center", "right"), strict=True):
            label.set_horizontalalignment(align)
        return drawn.svg(f"error by depth, {name}")


def _ending(path: str, most: int = 22) -> str:
    path = svg.clean(path)
    return path if len(path) <= most else "…" + path[1 - most :].lstrip(".")


def trajectory(curves: Mapping) -> str:
    """The candidate's error step by step in its envelope, on a log axis."""
    error, bound, reference = curves["error"], curves["bound"], curves["reference"]
    with chart() as drawn:
        drawn.log([*error, *bound, *reference], 1e-12, 1e12)
        low, high = drawn.axes.get_ylim()
        if high / low > 1e9:
            drawn.log([*bound, max(error, key=facts.ordering)], 1e-12, 1e12)
        steps(drawn, len(error), curves.get("first_outside"))
        drawn.line(error, "candidate’s error", peaks=True, **MAIN)
        drawn.line(reference, "reference’s, so far", peaks=True, **INHERITED)
        tube(drawn, bound)
        if (first := curves.get("first_outside")) is not None:
            drawn.dots([first], drawn.inside([error[first]]), [], "bad", size=8)
        drawn.legend()
        return drawn.svg("error step by step in its envelope")


def tube(drawn: Chart, bound: Sequence[float]) -> None:
    """What is allowed, as a line and the area below it."""
    x, y = drawn.line(bound, "allowed", peaks=True, **BOUND).get_data()
    low, _ = drawn.axes.get_ylim()
    drawn.axes.fill([x[0], *x, x[-1]], [low, *y, low], **TUBE)


def steps(drawn: Chart, count: int, first_outside: int | None) -> None:
    """The axis of ``count`` steps, and the first step outside."""
    from matplotlib.ticker import MaxNLocator

    drawn.axes.set_xlim(0, max(count - 1, 1))
    drawn.axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    drawn.axes.set_xlabel("step")
    if first_outside is not None:
        drawn.axes.axvline(first_outside, **GUIDE)
        drawn.beside(first_outside, drawn.axes.get_ylim()[0], f"outside from step {first_outside}", **ALARM)


def course(curves: Mapping) -> str:
    """What the candidate and float64 computed, step by step."""
    candidate, truth = curves["candidate"], curves["truth"]
    with chart() as drawn:
        drawn.fitting([*candidate, *truth])
        steps(drawn, len(truth), curves.get("first_outside"))
        drawn.line(candidate, "candidate", **MAIN)
        drawn.line(truth, "float64", color=COLOUR["h2"], linewidth=5)
        drawn.legend()
        return drawn.svg("the values step by step")
