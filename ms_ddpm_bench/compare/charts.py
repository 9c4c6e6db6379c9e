"""The charts of the comparison: both curves, their distance in its envelope, time per step, classes, colour scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from portparity.report.charts import MAIN, steps, tube
from portparity.report.svg import COLOUR, chart

from . import pictures, words
from .judge import NAMES

TORCH = {"color": COLOUR["torch"], "linewidth": 1.4, "zorder": 2.5}
BROAD = {"color": COLOUR["torch"], "linewidth": 5, "alpha": 0.38}
BETWEEN = {"color": COLOUR["a1"], "linewidth": 1.2, "linestyle": (0, (2, 2))}

CSS = """
:root { --torch: #8f4f86; }
@media (prefers-color-scheme: dark) { :root { --torch: #d68fca; } }
.grids { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 18px 22px; margin-top: 18px; }
.grids img { width: 100%; display: block; border-radius: 4px; image-rendering: pixelated; }
.scale { height: 10px; margin-top: 8px; border-radius: 2px; }
.ends { display: flex; justify-content: space-between; color: var(--soft); font-size: 13px; }
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


def curves(ours: Sequence[float], theirs: Sequence[float], label: str, outside: int | None = None) -> str:
    """Both sides' values on one axis: PyTorch's broad, MindSpore's a line on it."""
    with chart() as drawn:
        drawn.fitting([*ours, *theirs])
        steps(drawn, len(ours), outside)
        drawn.line(ours, "MindSpore", **MAIN)
        drawn.line(theirs, "PyTorch", **BROAD)
        drawn.legend()
        return drawn.svg(f"{label} of both, step by step")


def distance(check: Mapping, theirs: Sequence[float], between: Sequence[float], label: str) -> str:
    """How far each side is from float64, and both from each other, within what is allowed; on a log axis."""
    error, bound = check["trajectory"]["error"], check["trajectory"]["bound"]
    # the smallest of the smallest would stretch the axis over decades of luck
    shown = sorted(v for v in (*error, *theirs, *between) if 0 < v < math.inf)
    with chart() as drawn:
        drawn.log([*bound, *shown[len(shown) // 20 :]], 1e-12, 1e6)
        steps(drawn, len(error), check["trajectory"]["first_outside"])
        drawn.line(error, "MindSpore", peaks=True, **MAIN)
        drawn.line(theirs, "PyTorch", peaks=True, **TORCH)
        drawn.line(between, "apart", peaks=True, **BETWEEN)
        tube(drawn, bound)
        drawn.legend()
        return drawn.svg(f"{label}: distance from float64 and from each other")


def times(sides: Mapping[str, Mapping]) -> str:
    """Every step's time as a dot, the median as a line; the first step, which compiles, is left out."""
    milliseconds = {side: [1000 * v for v in told["seconds"][1:] or told["seconds"]] for side, told in sides.items()}
    everything = [v for values in milliseconds.values() for v in values]
    with chart() as drawn:
        if max(everything) > 6 * min(everything):
            drawn.log(everything, 1e-3, 1e9)
        else:
            drawn.linear(0, max(everything) * 1.06)
        steps(drawn, len(everything) // 2 + 1, None)
        for side, colour, look in (("mindspore", "accent", MAIN), ("torch", "torch", TORCH)):
            titles = [f"step {i}: {value:.3g} ms" for i, value in enumerate(milliseconds[side], 1)]
            at = range(1, len(titles) + 1)
            drawn.dots(at, drawn.inside(milliseconds[side]), titles, colour, size=4.4, alpha=0.55)
            drawn.axes.axhline(1000 * words.seconds(sides[side])["median"], **look, label=NAMES[side])
        drawn.legend()
        return drawn.svg("time of every step")


def classes(ours: Sequence[int], theirs: Sequence[int]) -> str:
    """How often each digit was drawn, side by side."""
    with chart() as drawn:
        drawn.linear(0, max(*ours, *theirs, 1) * 1.08)
        for counts, colour, name, shift in ((ours, "accent", "MindSpore", -0.18), (theirs, "torch", "PyTorch", 0.18)):
            at = [digit + shift for digit in range(len(counts))]
            bars = drawn.axes.bar(at, counts, 0.33, color=COLOUR[colour], label=name)
            for digit, (bar, count) in enumerate(zip(bars, counts, strict=True)):
                drawn.tell(bar, [f"{name}: {count} times a {digit}"])
        drawn.axes.set_xticks(range(len(ours)))
        drawn.axes.set_xlabel("digit, as a classifier reads the samples")
        drawn.legend()
        return drawn.svg("how often each digit was drawn")


def colour_scale(factor: int) -> str:
    """What the colours of the difference picture mean, in units of the pixels' range."""
    colours = ", ".join(f"rgb({' '.join(f'{v:.0f}' for v in colour)})" for colour in pictures.ENDS)
    ends = f"<span>−{1 / factor:g}</span><span>0</span><span>+{1 / factor:g}</span>"
    return (
        f'<div class="scale" style="background: linear-gradient(90deg, {colours})"></div><div class="ends">{ends}</div>'
    )
