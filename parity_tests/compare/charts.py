"""The charts of the comparison: both curves, their distance in its envelope, time per step, classes, colour scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..report import svg
from ..report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, frame, legend, steps
from . import pictures, words

CSS = """
:root { --torch: #8f4f86; }
@media (prefers-color-scheme: dark) { :root { --torch: #d68fca; } }
svg .torch { stroke: var(--torch); stroke-width: 1.4; stroke-linejoin: round; }
svg .wide { stroke: var(--torch); stroke-width: 5; opacity: .38; stroke-linejoin: round; }
svg .between { stroke: var(--a1); stroke-width: 1.2; stroke-dasharray: 2 2; }
svg .dot.torch { fill: var(--torch); stroke: none; } svg .dot.step { opacity: .55; }
svg .bar.torch { fill: var(--torch); stroke: none; } svg .bar.ours { fill: var(--accent); }
.grids { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 18px 22px; margin-top: 18px; }
.grids img { width: 100%; display: block; border-radius: 4px; image-rendering: pixelated; }
.grids figure svg { max-width: 280px; }
.grids figcaption b { color: var(--ink); font-weight: 600; }
.sides td, .sides th { padding: 4px 26px 4px 0; border-bottom: 1px solid var(--rule); }
.sides th.mindspore { color: var(--accent); font-weight: 600; }
.sides th.torch { color: var(--torch); font-weight: 600; }
.environment dd { font-size: 13.5px; }
.gap { margin-top: 26px; }
@media screen and (max-width: 860px) {
  .grids { grid-template-columns: minmax(0, 1fr); max-width: 440px; }
  .sides td, .sides th { padding-right: 12px; } .sides td:first-child { white-space: normal; }
}
"""


def _scale(values: Sequence[float]) -> svg.Scale:
    """Linear, or by decades where the values span more than two."""
    finite = [v for v in values if math.isfinite(v)] or [0.0]
    if min(finite) > 0 and max(finite) / min(finite) > 100:
        return svg.log_scale(finite, BOTTOM, TOP + 4, 1e-12, 1e12)
    return svg.linear_scale(finite, BOTTOM, TOP + 4)


def _curve(x: svg.Scale, y: svg.Scale, values: Sequence[float], kind: str, keep=max) -> str:
    return svg.curve([(x(i), y(v)) for i, v in svg.thinned(values, keep)], kind)


def _middle(block: Sequence[float]) -> float:
    return block[len(block) // 2]


def curves(ours: Sequence[float], theirs: Sequence[float], label: str, outside: int | None = None) -> str:
    """Both sides' values on one axis: PyTorch's broad, MindSpore's a line on it."""
    x, y = svg.Scale(0, max(len(ours) - 1, 1), LEFT, RIGHT), _scale([*ours, *theirs])
    marks = [*frame(y), _curve(x, y, theirs, "wide", _middle), _curve(x, y, ours, "main", _middle)]
    marks += steps(x, outside)
    marks += legend([("main", "MindSpore"), ("wide", "PyTorch")])
    return svg.picture(WIDTH, HEIGHT, marks, f"{label} of both, step by step")


def distance(check: Mapping, theirs: Sequence[float], between: Sequence[float], label: str) -> str:
    """How far each side is from float64, and both from each other, within what is allowed; on a log axis."""
    curve = check["trajectory"]
    error, bound = curve["error"], curve["bound"]
    x = svg.Scale(0, max(len(error) - 1, 1), LEFT, RIGHT)
    # the smallest of the smallest would stretch the axis over decades of luck
    shown = sorted(v for v in (*error, *theirs, *between) if 0 < v < math.inf)
    y = svg.log_scale([*bound, *shown[len(shown) // 20 :]], BOTTOM, TOP + 4, 1e-12, 1e6)
    edge = [(x(i), y(v)) for i, v in svg.thinned(bound)]
    marks = [
        svg.curve([(edge[0][0], BOTTOM), *edge, (edge[-1][0], BOTTOM)], "tube"),
        *frame(y),
        svg.curve(edge, "bound"),
    ]
    marks += [_curve(x, y, between, "between"), _curve(x, y, theirs, "torch"), _curve(x, y, error, "main")]
    marks += steps(x, curve["first_outside"])
    marks += legend([("main", "MindSpore"), ("torch", "PyTorch"), ("between", "apart"), ("bound", "allowed")])
    return svg.picture(WIDTH, HEIGHT, marks, f"{label}: distance from float64 and from each other")


def times(sides: Mapping[str, Mapping]) -> str:
    """Every step's time as a dot, the median as a line; the first step, which compiles, is left out."""
    seconds = {side: (told["seconds"][1:] or told["seconds"]) for side, told in sides.items()}
    milliseconds = {side: [1000 * v for v in values] for side, values in seconds.items()}
    everything = [v for values in milliseconds.values() for v in values]
    y = _time_scale(everything)
    x = svg.Scale(0, max(len(everything) // 2, 1), LEFT, RIGHT)
    marks = frame(y)
    for side, kind in (("torch", "dot step torch"), ("mindspore", "dot step")):
        for i, value in enumerate(milliseconds[side]):
            marks.append(svg.dot(x(i + 1), y(value), kind, f"step {i + 1}: {value:.3g} ms", 2.2))
        middle = 1000 * words.seconds(sides[side])["median"]
        marks.append(svg.line(LEFT, y(middle), RIGHT, y(middle), "torch" if side == "torch" else "main"))
    marks += steps(x, None)
    marks += legend([("main", "MindSpore"), ("torch", "PyTorch"), ("dot step", "ms per step; line: median")])
    return svg.picture(WIDTH, HEIGHT, marks, "time of every step")


def _time_scale(values: Sequence[float]) -> svg.Scale:
    if max(values) > 6 * min(values):
        return svg.log_scale(values, BOTTOM, TOP + 4, 1e-3, 1e9)
    return svg.Scale(0, max(values) * 1.06, BOTTOM, TOP + 4)


def classes(ours: Sequence[int], theirs: Sequence[int]) -> str:
    """How often each digit was drawn, side by side."""
    y = svg.Scale(0, max(*ours, *theirs, 1) * 1.08, BOTTOM, TOP + 4)
    width = (RIGHT - LEFT) / len(ours)
    marks = frame(y)
    for i, pair in enumerate(zip(ours, theirs, strict=True)):
        for number, (count, kind, name) in enumerate(zip(pair, ("ours", "torch"), words.NAMES.values(), strict=True)):
            left = LEFT + i * width + width * (0.14 + 0.37 * number)
            told = f"{name}: {count} times a {i}"
            marks.append(svg.rect(left, y(count), width * 0.34, BOTTOM - y(count), f"bar {kind}", told))
        marks.append(svg.text(LEFT + (i + 0.5) * width, BOTTOM + 15, str(i), anchor="middle"))
    marks += [svg.line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis")]
    marks.append(svg.text((LEFT + RIGHT) / 2, HEIGHT - 3, "digit, as a classifier reads the samples", "name", "middle"))
    marks += legend([("main", "MindSpore"), ("torch", "PyTorch")])
    return svg.picture(WIDTH, HEIGHT, marks, "how often each digit was drawn")


def colour_scale(factor: int) -> str:
    """What the colours of the difference picture mean, in units of the pixels' range."""
    marks, size = [], 240 / 40
    for i in range(40):
        r, g, b = (round(255 * c) for c in pictures.colours((i + 0.5) / 20 - 1))
        box = f'x="{svg.num(10 + i * size)}" y="2" width="{svg.num(size + 0.4)}" height="10"'
        marks.append(f'<rect {box} fill="rgb({r} {g} {b})"/>')
    end = f"{1 / factor:g}"
    for at, said, anchor in ((10, f"−{end}", "start"), (130, "0", "middle"), (250, f"+{end}", "end")):
        marks.append(svg.text(at, 27, said, anchor=anchor))
    return svg.picture(260, 32, marks, "colour scale of the difference")
