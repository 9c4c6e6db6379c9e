"""Pictures of a class-conditional model: how alike its classes' embeddings are, and what it draws of each class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import figures
from .errors import UserError
from .images import grid

if TYPE_CHECKING:
    from mindspore import nn
    from PIL.Image import Image

CELL = 56  # pixels of a matrix entry
MOST_NUMBERS = 32  # classes up to which the entries are written out
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

    The diagonal is 1 by definition and left blank, so that the colours serve the rest, as in the score
    article of docs/systems.md.
    """
    similarity = cosine_similarity(table)
    count = len(similarity)
    others = ~np.eye(count, dtype=bool)
    largest = max(float(np.abs(similarity[others]).max(initial=0)), 1e-6)
    names = [figures.text(str(k)) for k in range(count)]
    left = max(name.width for name in names)
    rows = []
    for i in range(count):
        entries = [
            _entry(None if i == j else float(similarity[i, j]), largest, count <= MOST_NUMBERS) for j in range(count)
        ]
        rows.append(figures.beside([figures.padded(names[i], left, align=1.0), figures.beside(entries, gap=2)]))
    feet = figures.beside([figures.padded(name, CELL) for name in names], gap=2)
    rows.append(figures.beside([figures.padded(figures.text(""), left), feet]))
    matrix = figures.below(rows, gap=2)
    bar = _colour_bar(count * (CELL + 2) - 2, largest)
    return figures.page(figures.beside([matrix, bar], gap=20, align=0.0), "Cosine similarity of the class embeddings")


def _entry(value: float | None, largest: float, numbered: bool) -> Image:
    """A field of the matrix; None: blank."""
    from PIL import Image

    colour = figures.LINE if value is None else figures.signed_colour(value / largest)
    field = Image.new("RGB", (CELL, CELL), colour)
    if value is not None and numbered:
        words = figures.stamp(f"{round(value, 2) + 0.0:.2f}")
        ink = figures.PAPER if abs(value) > 0.6 * largest else figures.INK
        field.paste(ink, ((CELL - words.width) // 2, (CELL - words.height) // 2), words)
    return field


def _colour_bar(height: int, largest: float) -> Image:
    """What the colours of the matrix mean."""
    from PIL import Image

    shares = np.linspace(1, -1, height)
    strip = np.array([figures.signed_colour(share) for share in shares], np.uint8)[:, None].repeat(20, axis=1)
    marks = [figures.text(f"{share * largest:+.2f}" if share else "0") for share in (1.0, 0.5, 0.0, -0.5, -1.0)]
    made = Image.new("RGB", (20 + 8 + max(mark.width for mark in marks), height), figures.PAPER)
    made.paste(Image.fromarray(strip), (0, 0))
    for i, mark in enumerate(marks):
        top = round(i / 4 * (height - 1) - mark.height / 2)
        made.paste(mark, (28, min(max(top, 0), height - mark.height)))
    return made


def labelled_rows(images: np.ndarray, labels: np.ndarray, columns: int = IN_A_ROW) -> Image:
    """One row per class, its number before it: of each class's images (C, H, W in [0, 1]) the first ``columns``.

    Args:
        images: (B, C, H, W) float in [0, 1], grey or RGB.
        labels: (B,) int, the class of each.
    """
    images, labels = _checked(images, labels)
    classes = np.unique(labels)
    names = [figures.text(str(k), figures.TITLE) for k in classes]
    left = max(name.width for name in names)
    rows = []
    for k, name in zip(classes, names, strict=True):
        strip = grid(images[labels == k][:columns], columns=columns).convert("RGB")
        rows.append(figures.beside([figures.padded(name, left, align=1.0), strip]))
    return figures.page(figures.below(rows, gap=0))


def save_embedding_similarity(cell: nn.Cell, path: str | Path) -> None:
    """Write `similarity_picture` of a model's classes to ``path`` as PNG. Raises UserError where it has none."""
    figures.save(similarity_picture(class_table(cell)), path)


def save_class_grids(images: np.ndarray, labels: np.ndarray, folder: str | Path) -> list[Path]:
    """Write classes.png, a row for each class, and class-K.png, all of one, into ``folder``; gives the paths.

    Raises:
        UserError: as `ms_ddpm.images.grid`, or not one label per image.
    """
    images, labels = _checked(images, labels)
    paths = [Path(folder) / "classes.png"]
    figures.save(labelled_rows(images, labels), paths[0])
    for k in np.unique(labels):
        paths.append(Path(folder) / f"class-{k}.png")
        figures.save(figures.page(grid(images[labels == k]).convert("RGB"), f"class {k}"), paths[-1])
    return paths


def _checked(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    images, labels = np.asarray(images), np.asarray(labels)
    if labels.shape != images.shape[:1] or not len(images):
        raise UserError(f"labels of shape {labels.shape} for images of shape {images.shape}, expected one for each")
    return images, labels
