"""Inline SVG: marks, axes, and lines of many points. Colours are the classes of style.py, so that dark mode holds."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

POINTS = 240  # of a line; more would be finer than a pixel
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def escape(text: object) -> str:
    """Text for HTML, in an element or in a quoted attribute."""
    return html.escape(_CONTROLS.sub("�", str(text)))


def num(x: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{x:.1f}".removesuffix(".0")


def text(x: float, y: float, said: str, kind: str = "", anchor: str = "start") -> str:
    """A label; ``anchor`` is start, middle or end."""
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{num(x)}" y="{num(y)}"{kind} text-anchor="{anchor}">{escape(said)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<path class="{kind}" d="M{num(x1)} {num(y1)}L{num(x2)} {num(y2)}"/>'


def curve(points: Iterable[tuple[float, float]], kind: str) -> str:
    """A line through points."""
    return f'<path class="{kind}" d="M{"L".join(f"{num(x)} {num(y)}" for x, y in points)}"/>'


def dot(x: float, y: float, kind: str, title: str = "", radius: float = 2.6) -> str:
    """A round mark, with a tooltip where there is a title."""
    told = f"<title>{escape(title)}</title>" if title else ""
    return f'<circle class="{kind}" cx="{num(x)}" cy="{num(y)}" r="{num(radius)}">{told}</circle>'


def rect(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> str:
    """A box, with a tooltip where there is a title."""
    told = f"<title>{escape(title)}</title>" if title else ""
    box = f'x="{num(x)}" y="{num(y)}" width="{num(width)}" height="{num(height)}"'
    return f'<rect class="{kind}" {box}>{told}</rect>'


def picture(width: float, height: float, marks: Iterable[str], label: str) -> str:
    """The SVG element; it scales to its container."""
    size = f'viewBox="0 0 {num(width)} {num(height)}"'
    return f'<svg {size} role="img" aria-label="{escape(label)}">{"".join(marks)}</svg>'


def power_of_ten(exponent: int) -> str:
    """10⁻³; 1 and 10 and 0.1 as they are."""
    plain = {-1: "0.1", 0: "1", 1: "10"}
    return plain.get(exponent) or f"10{str(exponent).translate(_SUPERSCRIPT)}"


@dataclass(frozen=True)
class Scale:
    """Values of [low, high] on pixels [start, end], linearly or by their logarithm; values outside are clamped."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, x: float) -> float:
        """Where x lies, in pixels."""
        if math.isnan(x):
            x = self.high
        x = min(max(x, self.low), self.high)
        if self.log:
            share = math.log(x / self.low) / math.log(self.high / self.low)
        else:
            share = (x - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """(value, label) of at most about ``most`` round values."""
        if self.log:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            step = max(1, math.ceil((last - first) / most))
            return [(10.0**e, power_of_ten(e)) for e in range(first, last + 1) if e % step == 0]
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
        first = math.ceil(self.low / step)
        return [(i * step, f"{i * step:g}") for i in range(first, math.floor(self.high / step * 1.0001) + 1)]


def log_scale(values: Iterable[float], start: float, end: float, least: float, most: float) -> Scale:
    """A log axis in whole decades around the positive ones of ``values``, within [least, most] (powers of ten)."""
    usable = [math.log10(v) for v in values if 0 < v < math.inf]
    first = max(math.floor(min(usable, default=0.0)), round(math.log10(least)))
    last = min(math.ceil(max(usable, default=1.0)), round(math.log10(most)))
    first = min(first, round(math.log10(most)) - 1)
    return Scale(10.0**first, 10.0 ** max(last, first + 1), start, end, log=True)


def linear_scale(values: Iterable[float], start: float, end: float) -> Scale:
    """A linear axis around the finite ones of ``values``."""
    finite = [v for v in values if math.isfinite(v)] or [0.0]
    low, high = min(finite), max(finite)
    margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return Scale(low - margin, high + margin, start, end)


def thinned(values: Sequence[float], keep: Callable[[Sequence[float]], float] = max) -> list[tuple[int, float]]:
    """(index, value) of at most about `POINTS` values; of each stretch the one that ``keep`` chooses."""
    stretch = max(1, math.ceil(len(values) / POINTS))
    found = []
    for start in range(0, len(values), stretch):
        block = values[start : start + stretch]
        chosen = keep(block)
        found.append((start + list(block).index(chosen), chosen))
    return found
