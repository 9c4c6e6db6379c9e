"""Images above what an autoencoder gives back: what sample.py shows of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...pictures import figures
from ...pictures.looking import in_a_row

if TYPE_CHECKING:
    from PIL.Image import Image

    from .image_autoencoder import ImageAutoencoder

ROWS = 8  # of originals with their reconstructions, in one picture


def reconstructions(images: np.ndarray, decoded: np.ndarray, columns: int | None = None) -> Image:
    """Rows of images, each above the row of their reconstructions; both (N, C, H, W) in [0, 1], up to 8 rows of each.

    Args:
        images, decoded: what the autoencoder was given, and what it gave back.
        columns: images in a row (default 8, fewer of large ones).
    """
    columns = min(columns or in_a_row(*images.shape[2:]), len(images))
    pairs = []
    for first in range(0, min(len(images), ROWS * columns), columns):
        part = slice(first, first + columns)
        rows = [("original", images[part]), ("reconstruction", np.clip(decoded[part], 0, 1))]
        pairs.append(figures.sheet(rows))
    error = float(np.mean((images.astype(np.float64) - decoded) ** 2))
    return figures.page(
        figures.stacked(pairs, gap=14), "What the autoencoder gives back",
        f"Mean squared error of {len(images)} image{'s' if len(images) > 1 else ''}, pixels from 0 to 1: {error:.3g}.",
    )  # fmt: skip


def look_at_autoencoder(
    cell: ImageAutoencoder, images: np.ndarray, folder: Path, columns: int | None = None
) -> tuple[np.ndarray, Path]:
    """The reconstructions (N, C, H, W) of ``images``, and ``folder``/reconstructions.png, which shows both."""
    decoded = cell.reconstruct(images)
    return decoded, figures.save(reconstructions(images, decoded, columns), folder / "reconstructions.png")
