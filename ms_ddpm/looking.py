"""Pictures of a trained autoencoder or corruption model beside real images, from its checkpoint: for sample.py.

What is shown are images of the run's own data set that it was not trained on, as far as there are any, or of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import data, figures
from ._datasets import DIGITS
from .errors import UserError, quoted
from .images import enlargement

if TYPE_CHECKING:
    from PIL.Image import Image

    from .autoencoder import ImageAutoencoder
    from .config import Config

IN_A_ROW = 8
ROWS = 8  # of originals with their reconstructions, in one picture
WIDEST = 1600  # pixels of a row of pictures


def in_a_row(height: int, width: int) -> int:
    """How many images of that size stand side by side in a labelled picture: 8, fewer of large ones."""
    return max(1, min(IN_A_ROW, WIDEST // (width * enlargement(height, width))))


def unseen(train: data.ImageSource, held_out: data.ImageSource | None, config: Config) -> data.ImageSource:
    """Images that were not trained on: those held out, MNIST-like files' test images, or else some that were."""
    if held_out is not None:
        return held_out
    path = None if config.dataset in DIGITS else data.test_file(Path(config.dataset).expanduser())
    return train if path is None else data.open_configured(config, path)


def images_for(cell, config: Config, count: int, dataset: str | None = None) -> np.ndarray:
    """Up to ``count`` images (N, C, H, W) float32 in [0, 1] to look at ``cell`` with.

    Args:
        cell: has ``image_size`` and ``channels``.
        config: of the run that it is from.
        count: how many at most; a data set may have fewer.
        dataset: another data set than the run's own; its first images.

    Raises:
        UserError: for a data set that is not there (any more) or cannot be read.
    """
    if dataset is not None:
        source = data.open_configured(config, dataset, tuple(cell.image_size))
    else:
        try:
            whole = data.open_configured(config, image_size=tuple(cell.image_size))
            source = unseen(*data.prepare(whole, cell, config.validation_images, config.seed), config)
        except UserError as error:
            raise UserError(f"the data set that the model was trained on: {error}; give another as --dataset") from None
    return data.as_float(source.batch(range(min(count, len(source)))))


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


def check_amounts(amounts: Sequence[float]) -> tuple[float, ...]:
    """``amounts`` of noise as they are. Raises UserError for one that is not from 0 to 1, and for too many."""
    for amount in amounts:
        if not 0 <= amount <= 1:  # true for NaN
            raise UserError(f"--amounts has {quoted(amount)}, expected numbers from 0 (no noise) to 1 (nothing else)")
    if len(amounts) > 20:
        raise UserError(f"--amounts has {len(amounts)} numbers, expected at most 20")
    return tuple(amounts)
