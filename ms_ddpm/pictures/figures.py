"""Figures with words on them, drawn by matplotlib: labelled sheets of images, panels with captions, line charts.

A finished figure is a Pillow image of mode RGB. What is a grid of samples is put together in `images`: that one is for
looking at many images, these for seeing what is what. Lengths are pixels; pixels of images stay exact, or become
squares of pixels.
"""

from __future__ import annotations

import io
import logging
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..storage.files import atomic
from .images import GREY, enlargement, to_uint8

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

INK, PALE, LINE = "#212529", "#6e757d", "#dee2e6"
COLOURS = ("#1f5fa8", "#d66018", "#2c8c48", "#8c50a0")  # of lines in a chart, in this order
FRAME = 226  # grey like `LINE`
SIGNED = ("#194ba0", "#f6f6f6", "#be3214")  # of values of both signs: blue below 0, red above
TITLE = 19
PLANE = 1024  # of a figure's coordinates: a power of two, by which whole pixels are divided exactly
SETTINGS = {
    "figure.dpi": 72, "savefig.dpi": 72, "font.size": 13, "text.color": INK, "text.parse_math": False,
    "axes.labelcolor": INK, "axes.edgecolor": LINE, "axes.titlelocation": "left", "axes.titlesize": 13,
    "xtick.labelcolor": PALE, "xtick.major.size": 0, "ytick.labelcolor": PALE, "ytick.major.size": 0,
    "ytick.major.pad": 6, "grid.color": LINE, "image.interpolation": "nearest", "image.aspect": "auto",
    "legend.frameon": False,
}  # fmt: skip


@contextmanager
def drawing(settings: Mapping[str, object] | None = None) -> Iterator[Figure]:
    """An empty matplotlib figure to draw on and to save within the block, with `SETTINGS` and these of matplotlib's.

    matplotlib is imported here and nowhere else, without pyplot, which would choose a backend. What its user has set
    does not count within the block, and is as it was after it.
    """
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)  # where it cannot keep its list of fonts it says so, which helps nobody here
    try:
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn for it
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(SETTINGS | (settings or {}))
            yield Figure(figsize=(PLANE / 72, PLANE / 72))
    finally:
        log.setLevel(level)


def field(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes of that size with that corner; y counts downwards, and what lies beyond the figure's plane is drawn too."""
    return figure.add_axes((left / PLANE, 1 - (top + height) / PLANE, width / PLANE, height / PLANE))


def rendered(figure: Figure, margin: int = 0) -> Image:
    """All that is drawn on ``figure``, cut out by whole pixels, with a white margin."""
    from matplotlib.transforms import Bbox
    from PIL import Image

    drawn = figure.get_tightbbox().get_points() * 72
    # matplotlib before 3.11 rounds a size down, and what is in inches may be a billionth of a pixel too small
    box = Bbox([np.floor(drawn[0]) - margin, np.ceil(drawn[1]) + margin + 1e-6])
    with io.BytesIO() as file:
        figure.savefig(file, format="png", bbox_inches=Bbox(box.get_points() / 72))
        return Image.open(file).convert("RGB")


def signed(largest: float) -> dict[str, object]:
    """How imshow draws values of both signs: red above 0, blue below, the deeper the nearer to ``largest``."""
    from matplotlib.colors import LinearSegmentedColormap

    largest = largest or 1.0
    return {"cmap": LinearSegmentedColormap.from_list("signed", SIGNED), "vmin": -largest, "vmax": largest}


def opaque(images: np.ndarray) -> np.ndarray:
    """(N, C, H, W) float in [0, 1] -> (N, H, W, 3) uint8, transparent pixels on grey. Raises as `images.to_uint8`."""
    pixels = to_uint8(images)
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3:] / 255
        pixels = np.rint(alpha * pixels[..., :3] + (1 - alpha) * GREY).astype(np.uint8)
    return np.broadcast_to(pixels, (*pixels.shape[:3], 3))


def exact(figure: Figure, picture: Image | np.ndarray) -> Axes:
    """Axes at the corner of ``figure`` that a picture (H, W, 3) fills pixel by pixel, without ticks and lines."""
    height, width = np.shape(picture)[:2]
    axes = field(figure, 0, 0, width, height)
    axes.imshow(picture)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def sheet(
    rows: Sequence[tuple[str, np.ndarray]], columns: Sequence[str] = (), *, heading: str = "", scale: int | None = None
) -> Image:
    """Rows of images with a label each, under columns with a label each.

    Args:
        rows: (label, images (N, C, H, W) float in [0, 1]), all of one size, perhaps more in one than in another.
        columns: labels of the images of the longest row, or none.
        heading: above all of it.
        scale: whole enlargement factor; ``enlargement(H, W)`` by default.

    Raises:
        UserError: as `images.to_uint8`, and where the columns are not as many as the images of the longest row.
    """
    longest = max(len(images) for _, images in rows)
    if columns and len(columns) != longest:
        raise UserError(f"a sheet of rows of {longest} images under {len(columns)} columns, expected one number")
    scale = scale or enlargement(*rows[0][1].shape[2:])
    height, width = (side * scale + 6 for side in rows[0][1].shape[2:])  # a frame of one pixel, and two between them
    paper = np.full((len(rows), longest, height, width, 3), 255, np.uint8)
    for line, (_, images) in zip(paper, rows, strict=True):
        line[: len(images), 2:-2, 2:-2] = FRAME
        line[: len(images), 3:-3, 3:-3] = opaque(images).repeat(scale, axis=1).repeat(scale, axis=2)
    with drawing() as figure:
        axes = exact(figure, paper.swapaxes(1, 2).reshape(len(rows) * height, longest * width, 3))
        axes.set_yticks(np.arange(0.5, len(rows)) * height, [label for label, _ in rows], color=INK)
        axes.set_xticks(np.arange(0.5, len(columns)) * width, columns, fontsize=12)
        axes.xaxis.tick_top()
        axes.set_title(heading)
        return rendered(figure)


def page(picture: Image, title: str = "", note: str = "") -> Image:
    """``picture`` with a title above, a note below it in small print, and a margin."""
    note = "\n".join(textwrap.wrap(note, round(max(picture.width, 240) / 6.4)))  # of a letter
    with drawing() as figure:
        axes = exact(figure, picture)
        axes.set_title(title, fontsize=TITLE, pad=18)
        axes.text(0, picture.height + 14, note, color=PALE, fontsize=12, verticalalignment="top", linespacing=1.4)
        return rendered(figure, margin=18)


def stacked(pictures: Sequence[Image], gap: int, axis: int = 0) -> Image:
    """``pictures`` one below the other, or with ``axis`` 1 side by side, on white."""
    from PIL import Image

    sides = [max(picture.height for picture in pictures), max(picture.width for picture in pictures)]
    sides[axis] = sum((picture.height, picture.width)[axis] + gap for picture in pictures) - gap
    paper, at = Image.new("RGB", (sides[1], sides[0]), "white"), 0
    for picture in pictures:
        paper.paste(picture, (at, 0) if axis else (0, at))
        at += (picture.height, picture.width)[axis] + gap
    return paper


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    faint: Sequence[str] = (),
    dots: Sequence[str] = (),
) -> Image:
    """Lines over one pair of axes, with a legend where there are several.

    Args:
        series: name -> (x, y), each of one point or more, x in whole numbers. What is not finite, or beyond
            ``y_range``, is cut off.
        x_label, y_label: of the axes.
        y_range: (lowest, highest) of the y axis; by default what is there, and 0.
        faint, dots: series drawn thin and pale, and series whose points are marked.

    Raises:
        UserError: no points, or none that is finite.
    """
    points = {name: np.array(xy, np.float64) for name, xy in series.items()}
    points = {name: xy[:, np.isfinite(xy).all(0)] for name, xy in points.items()}
    if not any(xy.size for xy in points.values()):
        raise UserError("a chart of no finite point, expected at least one")
    with drawing() as figure:
        axes = field(figure, 0, 0, 720, 400)
        for (name, xy), colour in zip(points.items(), COLOURS * len(points), strict=False):
            pale = {"alpha": 0.4, "linewidth": 1} if name in faint else {"linewidth": 2}
            axes.plot(*xy, label=name, color=colour, marker="o" if name in dots or xy.shape[1] == 1 else "", **pale)
        axes.set_ylim(y_range or (min(0, axes.dataLim.y0), None))
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel(x_label)
        axes.set_title(y_label)
        axes.grid(axis="y")
        axes.margins(x=0.02)
        if len(points) > 1:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=len(points))
        return rendered(figure)


def save(picture: Image, path: str | Path) -> Path:
    """Writes ``picture`` to ``path`` as PNG, whole or not at all. Raises UserError where that cannot be done."""
    with atomic(path) as file:
        picture.save(file, format="PNG")
    return Path(path)
