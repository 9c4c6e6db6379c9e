"""Pictures of a class-conditional model: how alike its classes' embeddings are, and what it draws of each class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import UserError
from ...pictures import figures
from ...pictures.images import grid

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
    from ...trainable import said_by

    tables = [p.asnumpy() for name, p in cell.parameters_and_names() if name.endswith("cond_embed.weight")]
    if not tables or not said_by(cell, "conditional"):
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
    np.fill_diagonal(similarity, np.nan)
    count, side = len(similarity), CELL * len(similarity)
    largest = max(float(np.nanmax(np.abs(similarity), initial=0)), 1e-6)
    with figures.drawing() as figure:
        axes = figures.field(figure, 0, 0, side, side)
        axes.set_facecolor(figures.LINE)
        colours = axes.imshow(similarity, **figures.signed(largest))
        for (i, j), value in np.ndenumerate(similarity):
            if i != j and count <= MOST_NUMBERS:
                ink = "white" if abs(value) > 0.6 * largest else figures.INK
                axes.text(j, i, f"{round(value, 2) + 0.0:.2f}", color=ink, ha="center", va="center", fontsize=12)
        axes.set(xticks=range(count), yticks=range(count))
        axes.set_xticks(np.arange(1, count) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, count) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=2)
        axes.tick_params(which="both", size=0, labelcolor=figures.INK)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(colours, cax=figures.field(figure, side + 20, 0, 20, side), format="%+.2f")
        bar.set_ticks(np.linspace(-largest, largest, 5))
        bar.outline.set_visible(False)
        return figures.page(figures.rendered(figure), "Cosine similarity of the class embeddings")


def labelled_rows(images: np.ndarray, labels: np.ndarray, columns: int = IN_A_ROW) -> Image:
    """One row per class, its number before it: of each class's images (C, H, W in [0, 1]) the first ``columns``.

    Args:
        images: (B, C, H, W) float in [0, 1], grey or RGB.
        labels: (B,) int, the class of each.
    """
    images, labels = _checked(images, labels)
    return figures.page(figures.sheet([(str(k), images[labels == k][:columns]) for k in np.unique(labels)]))


def save_embedding_similarity(cell: nn.Cell, path: str | Path) -> None:
    """Write `similarity_picture` of a model's classes to ``path`` as PNG. Raises UserError where it has none."""
    figures.save(similarity_picture(class_table(cell)), path)


def save_class_grids(images: np.ndarray, labels: np.ndarray, folder: str | Path) -> list[Path]:
    """Write classes.png, a row for each class, and class-K.png, all of one, into ``folder``; gives the paths.

    Raises:
        UserError: as `ms_ddpm.pictures.images.grid`, or not one label per image.
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
