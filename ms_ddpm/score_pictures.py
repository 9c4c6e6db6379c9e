"""Pictures of a class-conditional model: how alike its classes' embeddings are, and what it draws of each class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import UserError
from .files import atomic
from .images import grid

if TYPE_CHECKING:
    from mindspore import nn
    from PIL.Image import Image

CELL = 56  # pixels of a matrix entry
FONT = 20
INK, PAPER, BLANK = (34, 34, 34), (255, 255, 255), (222, 222, 222)
BLUE, WHITE, RED = np.array([[33, 102, 172], [247, 247, 247], [178, 24, 43]], np.float64)
IN_A_ROW = 10


def class_table(cell: nn.Cell) -> np.ndarray:
    """The embedding of each class of a conditional model, (num_classes, D) float32, without the row for "no class".

    Raises UserError where the model has no classes.
    """
    tables = [p.asnumpy() for name, p in cell.parameters_and_names() if name.endswith("cond_embed.weight")]
    if not tables or not getattr(cell, "conditional", False):
        raise UserError("this model has no class embedding: it is not conditional")
    return tables[0][: cell.num_classes]


def cosine_similarity(table: np.ndarray) -> np.ndarray:
    """Of every two rows of ``table`` (K, D): (K, K) float64 in [-1, 1]; 0 where a row is zero."""
    table = np.asarray(table, np.float64)
    length = np.linalg.norm(table, axis=1, keepdims=True)
    unit = np.divide(table, length, out=np.zeros_like(table), where=length > 0)
    return np.clip(unit @ unit.T, -1, 1)


def similarity_picture(table: np.ndarray) -> Image:
    """The cosine similarities of the rows of ``table`` (K, D) as a matrix of colours: blue below 0, red above.

    The diagonal is 1 by definition and left blank, so that the colours serve the rest, as in the source document.
    """
    from PIL import Image, ImageDraw

    similarity = cosine_similarity(table)
    count = len(similarity)
    others = ~np.eye(count, dtype=bool)
    largest = max(float(np.abs(similarity[others]).max(initial=0)), 1e-6)
    left, top, right, bottom = 2 * FONT, int(3.4 * FONT), int(5.6 * FONT), int(2.4 * FONT)
    side = count * CELL
    picture = Image.new("RGB", (max(left + side + right, 22 * FONT), top + side + bottom), PAPER)
    draw, font, small = ImageDraw.Draw(picture), _font(FONT), _font(int(0.75 * FONT))
    draw.text((left, 0.6 * FONT), "Cosine similarity of the class embeddings", INK, font, anchor="la")
    for i in range(count):
        middle = i * CELL + CELL / 2
        draw.text((left - 0.6 * FONT, top + middle), str(i), INK, font, anchor="rm")
        draw.text((left + middle, top + side + 0.5 * FONT), str(i), INK, font, anchor="ma")
        for j in range(count):
            value = float(similarity[i, j])
            colour = BLANK if i == j else _colour(value / largest)
            x, y = left + j * CELL, top + i * CELL
            draw.rectangle((x, y, x + CELL - 2, y + CELL - 2), colour)
            if i != j and count <= 32:
                ink = PAPER if abs(value) > 0.6 * largest else INK
                draw.text((x + CELL / 2 - 1, y + CELL / 2 - 1), f"{round(value, 2) + 0.0:.2f}", ink, small, anchor="mm")
    _colour_bar(draw, small, left + side + FONT, top, side - 2, largest)
    return picture


def _font(size: int):
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size
        return ImageFont.load_default()


def _colour(share: float) -> tuple[int, int, int]:
    """-1 blue, 0 white, 1 red."""
    end = RED if share > 0 else BLUE
    return tuple(int(v) for v in np.rint(WHITE + min(abs(share), 1.0) * (end - WHITE)))


def _colour_bar(draw, font, x: int, y: int, height: int, largest: float) -> None:
    for row in range(height):
        draw.line((x, y + row, x + FONT, y + row), _colour(1 - 2 * row / max(height - 1, 1)))
    for share in (1.0, 0.5, 0.0, -0.5, -1.0):
        at = y + (1 - share) / 2 * (height - 1)
        draw.line((x + FONT, at, x + 1.3 * FONT, at), INK)
        anchor = {1.0: "la", -1.0: "ld"}.get(share, "lm")
        draw.text((x + 1.6 * FONT, at), f"{share * largest:+.2f}" if share else "0", INK, font, anchor=anchor)


def labelled_rows(images: np.ndarray, labels: np.ndarray, columns: int = IN_A_ROW) -> Image:
    """One row per class, its number before it: of each class's images (C, H, W in [0, 1]) the first ``columns``.

    Args:
        images: (B, C, H, W) float in [0, 1], grey or RGB.
        labels: (B,) int, the class of each.
    """
    from PIL import Image, ImageDraw

    images, labels = _checked(images, labels)
    strips = [grid(images[labels == k][:columns], columns=columns).convert("RGB") for k in np.unique(labels)]
    widest = max(strip.width for strip in strips)
    names = [str(k) for k in np.unique(labels)]
    font = _font(int(1.4 * FONT))
    margin = int(max(font.getlength(name) for name in names) + 1.2 * FONT)
    picture = Image.new("RGB", (margin + widest, sum(strip.height for strip in strips)), PAPER)
    draw, y = ImageDraw.Draw(picture), 0
    for name, strip in zip(names, strips, strict=True):
        picture.paste(strip, (margin, y))
        draw.text((margin - 0.6 * FONT, y + strip.height / 2), name, INK, font, anchor="rm")
        y += strip.height
    return picture


def titled(picture: Image, title: str) -> Image:
    """``picture`` on white, under ``title``."""
    from PIL import Image, ImageDraw

    head = 2 * FONT
    whole = Image.new("RGB", (picture.width, picture.height + head), PAPER)
    whole.paste(picture.convert("RGB"), (0, head))
    ImageDraw.Draw(whole).text((FONT // 2, head / 2), title, INK, _font(FONT), anchor="lm")
    return whole


def save_embedding_similarity(cell: nn.Cell, path: str | Path) -> None:
    """Write `similarity_picture` of a model's classes to ``path`` as PNG. Raises UserError where it has none."""
    _save(similarity_picture(class_table(cell)), path)


def save_class_grids(images: np.ndarray, labels: np.ndarray, folder: str | Path) -> list[Path]:
    """Write classes.png, a row for each class, and class-K.png, all of one, into ``folder``; gives the paths.

    Raises:
        UserError: as `ms_ddpm.images.grid`, or not one label per image.
    """
    images, labels = _checked(images, labels)
    paths = [Path(folder) / "classes.png"]
    _save(labelled_rows(images, labels), paths[0])
    for k in np.unique(labels):
        paths.append(Path(folder) / f"class-{k}.png")
        _save(titled(grid(images[labels == k]), f"class {k}"), paths[-1])
    return paths


def _checked(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    images, labels = np.asarray(images), np.asarray(labels)
    if labels.shape != images.shape[:1] or not len(images):
        raise UserError(f"labels of shape {labels.shape} for images of shape {images.shape}, expected one for each")
    return images, labels


def _save(picture: Image, path: str | Path) -> None:
    with atomic(path) as file:
        picture.save(file, format="PNG")
