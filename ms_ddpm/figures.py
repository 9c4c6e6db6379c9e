"""Figures with words on them, in Pillow alone: tiles with captions, labelled sheets, line charts.

A figure is a Pillow image of mode RGB. The functions put together what is a grid of samples in `images`: that one is
for looking at many images, these for seeing what is what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import UserError
from .files import atomic
from .images import enlargement, to_uint8

if TYPE_CHECKING:
    from PIL.Image import Image

PAPER, INK, PALE, LINE = (255, 255, 255), (33, 37, 41), (110, 117, 125), (222, 226, 230)
COLOURS = ((31, 95, 168), (214, 96, 24), (44, 140, 72), (140, 80, 160))  # of lines in a chart, in this order
NEGATIVE, ZERO, POSITIVE = (25, 75, 160), (246, 246, 246), (190, 50, 20)  # ends and middle of signed values
TEXT, TITLE = 15, 20  # heights of letters in pixels
GAP = 10
SHARPER = 3  # lines are drawn so many times larger and scaled down, which smooths them


def _font(size: int):
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size
        return ImageFont.load_default()


def text(words: str, size: int = TEXT, colour: tuple[int, int, int] = INK, align: str = "left") -> Image:
    """``words``, of one or more lines, on white."""
    from PIL import Image, ImageDraw

    font = _font(size)
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), words or " ", font=font, spacing=4)
    height = max(math.ceil(box[3]), (size + 4) * len(words.splitlines() or [""])) + 2  # the same with and without a g
    made = Image.new("RGB", (math.ceil(box[2]) + 1, height), PAPER)
    ImageDraw.Draw(made).multiline_text((0, 0), words, fill=colour, font=font, spacing=4, align=align)
    return made


def stamp(words: str, size: int = TEXT - 3) -> Image:
    """``words`` as a mask (mode L) to paste a colour through."""
    from PIL import ImageOps

    return ImageOps.invert(text(words, size, (0, 0, 0)).convert("L"))


def tile(image: np.ndarray, scale: int | None = None) -> Image:
    """An image (C, H, W), float in [0, 1], enlarged pixel by pixel, with a thin frame; outside [0, 1] it is clipped.

    Raises:
        UserError: as `images.to_uint8`.
    """
    from PIL import Image

    pixels = to_uint8(np.asarray(image)[None])[0]
    height, width, channels = pixels.shape
    scale = enlargement(height, width) if scale is None else scale
    pixels = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    if channels == 4:
        made = Image.fromarray(pixels)
        made = Image.alpha_composite(Image.new("RGBA", made.size, (128, 128, 128, 255)), made).convert("RGB")
    else:
        made = Image.fromarray(pixels[..., 0] if channels == 1 else pixels).convert("RGB")
    return framed(made)


def signed(image: np.ndarray, scale: int | None = None, largest: float | None = None) -> Image:
    """An image (C, H, W) of values of both signs: red above 0, blue below, the deeper the nearer to ``largest``.

    ``largest`` is by default the largest magnitude there is. Of colour images the mean of the channels is shown.
    """
    values = np.asarray(image, np.float64).mean(0)
    peak = float(np.abs(values).max()) if largest is None else largest
    colours = _signed_colours(values / peak if peak > 0 else np.zeros_like(values))
    return tile(colours.transpose(2, 0, 1) / 255, scale)


def _signed_colours(share: np.ndarray) -> np.ndarray:
    """Colours (..., 3), float in [0, 255], of ``share`` (...), cut to [-1, 1]: blue, white, red."""
    share = np.clip(share, -1, 1)[..., None]
    ends = np.where(share < 0, np.array(NEGATIVE), np.array(POSITIVE))
    return np.array(ZERO) * (1 - np.abs(share)) + ends * np.abs(share)


def signed_colour(share: float) -> tuple[int, int, int]:
    """The colour of one signed value between -1 (blue) and 1 (red), as in `signed`."""
    return tuple(int(v) for v in np.rint(_signed_colours(np.float64(share))))


def framed(picture: Image) -> Image:
    """``picture`` with a thin line around it."""
    from PIL import ImageOps

    return ImageOps.expand(picture, border=1, fill=LINE)


def beside(pictures: Sequence[Image], gap: int = GAP, align: float = 0.5) -> Image:
    """``pictures`` from left to right; ``align`` 0 puts their tops on one line, 1 their feet."""
    from PIL import Image

    height = max(p.height for p in pictures)
    made = Image.new("RGB", (sum(p.width for p in pictures) + gap * (len(pictures) - 1), height), PAPER)
    left = 0
    for picture in pictures:
        made.paste(picture, (left, round((height - picture.height) * align)))
        left += picture.width + gap
    return made


def below(pictures: Sequence[Image], gap: int = GAP, align: float = 0.0) -> Image:
    """``pictures`` from top to bottom; ``align`` 0 puts them to the left, 0.5 in the middle."""
    from PIL import Image

    width = max(p.width for p in pictures)
    made = Image.new("RGB", (width, sum(p.height for p in pictures) + gap * (len(pictures) - 1)), PAPER)
    top = 0
    for picture in pictures:
        made.paste(picture, (round((width - picture.width) * align), top))
        top += picture.height + gap
    return made


def padded(picture: Image, width: int = 0, height: int = 0, align: float = 0.5) -> Image:
    """``picture`` in a field of at least that size."""
    from PIL import Image

    width, height = max(width, picture.width), max(height, picture.height)
    made = Image.new("RGB", (width, height), PAPER)
    made.paste(picture, (round((width - picture.width) * align), (height - picture.height) // 2))
    return made


def _wrapped(words: str, size: int, width: int) -> str:
    """``words`` in lines of at most ``width`` pixels."""
    lines, font = [""], _font(size)
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def page(picture: Image, title: str = "", note: str = "") -> Image:
    """``picture`` with a title above, a note below it in small print, and a margin."""
    from PIL import ImageOps

    parts = [text(title, TITLE)] if title else []
    parts += [picture] + ([text(_wrapped(note, TEXT - 1, picture.width), TEXT - 1, PALE)] if note else [])
    return ImageOps.expand(below(parts, gap=14), border=18, fill=PAPER)


def sheet(
    rows: Sequence[tuple[str, np.ndarray]], columns: Sequence[str] = (), *, heading: str = "", scale: int | None = None
) -> Image:
    """Rows of images with a label each, under columns with a label each.

    Args:
        rows: (label, images (N, C, H, W) float in [0, 1]), all of one N and size.
        columns: N labels, or none.
        heading: above all of it.

    Raises:
        UserError: as `images.to_uint8`, and where the rows differ or have no columns' number.
    """
    counts = {images.shape[0] for _, images in rows}
    if len(counts) != 1 or (columns and len(columns) not in counts):
        raise UserError(f"a sheet of rows of {sorted(counts)} images under {len(columns)} columns, expected one number")
    tiles = [[tile(image, scale) for image in images] for _, images in rows]
    heads = [text(words, TEXT - 1, PALE) for words in columns]
    labels = [text(words) for words, _ in rows]
    width = max([t.width for line in tiles for t in line] + [h.width for h in heads])
    left = max(label.width for label in labels)
    lines = [beside([padded(t, width) for t in line], gap=4) for line in tiles]
    made = [beside([padded(label, left, align=1.0), line]) for label, line in zip(labels, lines, strict=True)]
    if heads:
        made.insert(0, beside([padded(text(""), left), beside([padded(h, width) for h in heads], gap=4)]))
    if heading:
        made.insert(0, beside([padded(text(""), left), text(heading)]))
    return below(made, gap=4)


def captioned(picture: Image, caption: str, width: int = 0) -> Image:
    """``picture`` with a caption under it, both in the middle of a field of at least ``width``."""
    words = text(caption, TEXT - 1, align="center")
    return below([padded(picture, max(width, words.width)), padded(words, max(width, picture.width))], gap=4)


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, 1, 2 or 5 times a power of ten apart."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    size: tuple[int, int] = (720, 400),
    faint: Sequence[str] = (),
    dots: Sequence[str] = (),
) -> Image:
    """Lines over one pair of axes, with a legend where there are several.

    Args:
        series: name -> (x, y), each of one point or more; what is not finite, or beyond ``y_range``, is cut off.
        x_label, y_label: of the axes.
        y_range: (lowest, highest) of the y axis; by default what is there.
        size: (width, height) of the field of the lines in pixels.
        faint, dots: series drawn thin and pale, and series whose points are marked.

    Raises:
        UserError: no points, or none that is finite.
    """
    from PIL import Image, ImageDraw

    points = {
        name: np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)], 1) for name, (x, y) in series.items()
    }
    points = {name: p[np.isfinite(p).all(1)] for name, p in points.items()}
    together = np.concatenate(list(points.values())) if points else np.zeros((0, 2))
    if not len(together):
        raise UserError("a chart of no finite point, expected at least one")
    x_low, x_high = float(together[:, 0].min()), float(together[:, 0].max())
    y_low, y_high = y_range or (min(0.0, float(together[:, 1].min())), float(together[:, 1].max()) * 1.05)
    x_ticks = _ticks(x_low, max(x_high, x_low + 1e-6), 8)
    margin = max(0.02 * (x_high - x_low), 1e-6)
    x_low, x_high, y_high = x_low - margin, x_high + margin, max(y_high, y_low + 1e-12)
    width, height = size

    def place(xy: np.ndarray) -> list[tuple[float, float]]:
        at = (xy - (x_low, y_low)) / (x_high - x_low, y_high - y_low) * (width, height)
        return [(SHARPER * x, SHARPER * (height - y)) for x, y in at]

    field = Image.new("RGB", (width * SHARPER, height * SHARPER), PAPER)
    draw = ImageDraw.Draw(field)
    y_ticks = _ticks(y_low, y_high)
    for y in y_ticks:
        draw.line(place(np.array([[x_low, y], [x_high, y]])), fill=LINE, width=SHARPER)
    colours = dict(zip(points, COLOURS * len(points), strict=False))
    colours |= {name: tuple((2 * c + 3 * 255) // 5 for c in colours[name]) for name in faint if name in colours}
    for name, line in points.items():
        colour = colours[name]
        placed = place(line)
        if len(placed) > 1:
            draw.line(placed, fill=colour, width=SHARPER * (1 if name in faint else 2), joint="curve")
        if name in dots or len(placed) == 1:
            for x, y in placed:
                draw.ellipse((x - 3 * SHARPER, y - 3 * SHARPER, x + 3 * SHARPER, y + 3 * SHARPER), fill=colour)
    field = framed(field.resize((width, height), Image.Resampling.LANCZOS))
    return _with_axes(field, x_ticks, y_ticks, (x_low, x_high), (y_low, y_high), x_label, y_label, _legend(colours))


def _legend(colours: Mapping[str, tuple[int, ...]]) -> Image | None:
    from PIL import Image, ImageDraw

    if len(colours) < 2:
        return None
    entries = []
    for name, colour in colours.items():
        mark = Image.new("RGB", (22, TEXT), PAPER)
        ImageDraw.Draw(mark).rectangle((0, TEXT // 2 - 1, 21, TEXT // 2 + 1), fill=colour)
        entries.append(beside([mark, text(name, TEXT - 1)], gap=6))
    return beside(entries, gap=24)


def _with_axes(field, x_ticks, y_ticks, x_range, y_range, x_label, y_label, legend) -> Image:
    """The field of a chart with numbers and labels around it."""
    from PIL import Image

    digits = max(0, -math.floor(math.log10(y_ticks[1] - y_ticks[0]))) if len(y_ticks) > 1 else 3
    numbers = [(y, text(f"{y:.{digits}f}", TEXT - 2, PALE)) for y in y_ticks]
    left, top, foot = max(n.width for _, n in numbers) + 8, 8, 26
    made = Image.new("RGB", (left + field.width + 24, top + field.height + foot), PAPER)
    made.paste(field, (left, top))
    for y, number in numbers:
        at = top + field.height * (1 - (y - y_range[0]) / (y_range[1] - y_range[0]))
        made.paste(number, (left - 8 - number.width, round(at - number.height / 2)))
    for x in x_ticks:
        number = text(f"{x:g}", TEXT - 2, PALE)
        at = left + field.width * (x - x_range[0]) / (x_range[1] - x_range[0])
        made.paste(number, (round(at - number.width / 2), top + field.height + 5))
    parts = [text(y_label, TEXT - 1)] if y_label else []
    parts += [made] + ([padded(text(x_label, TEXT - 1), made.width)] if x_label else [])
    return below(parts + ([padded(legend, made.width)] if legend else []), gap=4)


def save(picture: Image, path: str | Path) -> Path:
    """Writes ``picture`` to ``path`` as PNG, whole or not at all. Raises UserError where that cannot be done."""
    with atomic(path) as file:
        picture.save(file, format="PNG")
    return Path(path)
