"""Charts by matplotlib as SVG that stands in a page: in its colours, which dark mode changes, and in its letters."""

from __future__ import annotations

import html
import io
import logging
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WIDTH, HEIGHT = 460, 230
POINTS = 240  # of a line; more would be finer than a pixel
# The page's colours have names, matplotlib's have numbers: each name gets one, and is put back in the SVG.
NAMES = ("ink", "soft", "rule", "accent", "second", "h2", "h4", "a1", "a2", "hb", "bad", "tube", "torch")
COLOUR = {name: f"#c0de{number:02x}" for number, name in enumerate(NAMES)}
FONT = "DejaVu Sans"  # measures the words; they are shown in the page's
SETTINGS = {
    "svg.fonttype": "none", "font.family": FONT, "font.size": 12, "text.color": COLOUR["soft"],
    "axes.labelcolor": COLOUR["soft"], "xtick.labelcolor": COLOUR["soft"], "ytick.labelcolor": COLOUR["soft"],
    "axes.edgecolor": COLOUR["soft"], "grid.color": COLOUR["rule"], "grid.linewidth": 1, "axes.linewidth": 1,
    "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False, "axes.axisbelow": True,
    "axes.titlelocation": "left", "axes.titlesize": 13, "xtick.bottom": False, "ytick.left": False,
    "xtick.major.size": 0, "xtick.major.pad": 6, "ytick.major.size": 0, "ytick.major.pad": 6,
    "lines.markeredgewidth": 0, "legend.frameon": False, "text.parse_math": False, "figure.dpi": 72, "savefig.dpi": 72,
}  # fmt: skip
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def clean(text: object) -> str:
    """Text without what HTML, XML and fonts do not know."""
    return _CONTROLS.sub("�", str(text))


def escape(text: object) -> str:
    """Text for HTML, in an element or in a quoted attribute."""
    return html.escape(clean(text))


def power_of_ten(value: float, _: object = None) -> str:
    """10⁻³ for 0.001; 1 and 10 and 0.1 as they are."""
    exponent = round(math.log10(value))
    plain = {-1: "0.1", 0: "1", 1: "10"}
    return plain.get(exponent) or f"10{str(exponent).translate(_SUPERSCRIPT)}"


class Chart:
    """One pair of axes on a page. ``axes`` are matplotlib's; colours are those of `COLOUR`."""

    def __init__(self, figure: Figure, width: float, height: float, margins: Sequence[float]):
        figure.set_size_inches(width / 72, height / 72)
        figure.patch.set_visible(False)
        left, top, right, foot = margins
        inner = (left / width, foot / height, 1 - (left + right) / width, 1 - (top + foot) / height)
        self.axes = figure.add_axes(inner)
        self.axes.patch.set_visible(False)
        self.axes.grid(axis="y")
        self._box = f"0 0 {width} {height}"
        self._titles: dict[str, Sequence[str]] = {}

    def log(self, values: Iterable[float], least: float, most: float) -> None:
        """Makes the y axis one of whole decades around the positive ones of ``values``, within [least, most]."""
        from matplotlib import ticker

        usable = [min(max(v, least), most) for v in values if 0 < v < math.inf] or [1.0]
        low, high = math.floor(math.log10(min(usable))), math.ceil(math.log10(max(usable)))
        self.axes.set_yscale("log")
        self.axes.set_ylim(10.0**low, 10.0 ** max(high, low + 1))
        self.axes.yaxis.set_major_locator(ticker.LogLocator(numticks=7))
        self.axes.yaxis.set_minor_locator(ticker.NullLocator())
        self.axes.yaxis.set_major_formatter(power_of_ten)

    def linear(self, low: float, high: float) -> None:
        """Makes the y axis a linear one from ``low`` to ``high``."""
        self.axes.set_ylim(low, high)
        self.axes.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])
        self.axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")

    def inside(self, values: Iterable[float]) -> np.ndarray:
        """``values`` on the y axis: what lies beyond it at its ends, NaN at the upper one."""
        low, high = self.axes.get_ylim()
        return np.clip(np.nan_to_num(np.fromiter(values, float), nan=high), low, high)

    def fitting(self, values: Iterable[float]) -> None:
        """Makes the y axis a linear one around ``values``, or a log one where they span more than two decades."""
        finite = [v for v in values if math.isfinite(v)] or [0.0]
        low, high = min(finite), max(finite)
        margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
        if 0 < 100 * low < high:
            self.log(finite, 1e-12, 1e12)
        else:
            self.linear(low - margin, high + margin)

    def line(self, values: Sequence[float], label: str, *, peaks: bool = False, **look: object) -> Line2D:
        """A line through ``values`` at 0, 1, ...; of many every n-th, or with ``peaks`` the largest of every n."""
        shown = self.inside(values)
        at = np.arange(0, len(shown), -(-len(shown) // POINTS))
        return self.axes.plot(at, np.maximum.reduceat(shown, at) if peaks else shown[at], label=label, **look)[0]

    def dots(self, x: Sequence[float], y: Sequence[float], titles: Sequence[str], colour: str, *,
             size: float = 4.8, label: str = "", **look: object) -> None:  # fmt: skip
        """Round marks, each with a tooltip."""
        look = {"color": COLOUR[colour], "markersize": size, "label": label, "zorder": 4, **look}
        (marks,) = self.axes.plot(x, y, "o", **look)
        self.tell(marks, titles)

    def beside(self, x: float, y: float, words: str, **look: object) -> None:
        """Words beside a point, on the side where there is more room, and below it where that is high up."""
        across, up = self.axes.transAxes.inverted().transform(self.axes.transData.transform((x, y)))
        align, shift = ("left", 8) if across < 0.5 else ("right", -8)
        self.axes.annotate(clean(words), (x, y), (shift, -16 if up > 0.9 else 7), textcoords="offset points",
                           horizontalalignment=align, zorder=5, **look)  # fmt: skip

    def tell(self, artist: Artist, titles: Sequence[str]) -> None:
        """Tooltips of the marks of ``artist``, in their order."""
        name = f"told-{len(self._titles)}"
        artist.set_gid(name)
        self._titles[name] = titles

    def legend(self) -> None:
        """Explains what has a label, in one line above the axes."""
        self.axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, borderpad=0.4, ncols=9, handlelength=1.3,
            handletextpad=0.5, columnspacing=1.3,
        )  # fmt: skip

    def svg(self, label: str) -> str:
        """The SVG element; it scales to its container. ``label`` is for who cannot see it."""
        with io.StringIO() as file:
            self.axes.figure.savefig(file, format="svg")
            drawn = ElementTree.fromstring(file.getvalue())
        marks = "".join(_marks(drawn, self._titles))
        return f'<svg viewBox="{self._box}" role="img" aria-label="{escape(label)}">{marks}</svg>'


@contextmanager
def chart(width: float = WIDTH, height: float = HEIGHT, margins: Sequence[float] = (44, 28, 12, 34)) -> Iterator[Chart]:
    """A `Chart` to draw on within the block. ``margins`` are left, above, right and below the axes, in pixels."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)  # where it cannot keep its list of fonts it says so, which helps nobody here
    try:
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the page's letters have it
            matplotlib.rcdefaults()  # what its user has set does not count
            matplotlib.rcParams.update(SETTINGS)
            yield Chart(Figure(), width, height, margins)
    finally:
        log.setLevel(level)


def _marks(drawn: ElementTree.Element, told: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What matplotlib drew, in its order, without groups and names: those of several charts would clash."""
    titles: Iterator[str] = iter(())
    radii = {}
    for element in drawn.iter():
        kind, name = element.tag.rpartition("}")[2], element.get("id")
        x, y, d = (_rounded(element.get(key, "")) for key in ("x", "y", "d"))
        style = element.get("style", "").replace(f"'{FONT}'", "var(--sans)")
        style = re.sub("#c0de(..)", lambda found: f"var(--{NAMES[int(found[1], 16)]})", style)
        if kind == "g" and name:
            titles = iter(told.get(name, ()))
        elif kind == "path" and name:  # what a mark is: here always a circle, M 0 RADIUS
            radii[f"#{name}"] = re.split("[ A-Z]", d)[2]
        elif kind == "text":
            yield f'<text x="{x}" y="{y}" style="{style}">{escape(element.text)}</text>'
        elif kind in ("path", "use"):
            title = next(titles, "")
            said = f"<title>{escape(title)}</title>" if title else ""
            if kind == "path":
                yield f'<path d="{d}" style="{style}">{said}</path>'
            else:
                radius = radii[element.get("{http://www.w3.org/1999/xlink}href")]
                yield f'<circle cx="{x}" cy="{y}" r="{radius}" style="{style}">{said}</circle>'


def _rounded(coordinates: str) -> str:
    """Numbers to a tenth of a pixel."""
    short = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), coordinates)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", short).strip()
