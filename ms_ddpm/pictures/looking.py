"""Real images to look at a trained model with, from its checkpoint: for sample.py.

What is shown are images of the run's own data set that it was not trained on, as far as there are any, or of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import data
from ..data.datasets import DIGITS
from ..errors import UserError, quoted
from .images import enlargement

if TYPE_CHECKING:
    from ..config import Config

IN_A_ROW = 8
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


def check_amounts(amounts: Sequence[float]) -> tuple[float, ...]:
    """``amounts`` of noise as they are. Raises UserError for one that is not from 0 to 1, and for too many."""
    for amount in amounts:
        if not 0 <= amount <= 1:  # true for NaN
            raise UserError(f"--amounts has {quoted(amount)}, expected numbers from 0 (no noise) to 1 (nothing else)")
    if len(amounts) > 20:
        raise UserError(f"--amounts has {len(amounts)} numbers, expected at most 20")
    return tuple(amounts)
