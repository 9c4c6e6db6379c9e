"""Images from a trained model of any system, many at a time: what ``sample.py`` and the Trainer's pictures call."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn

from .. import registry
from ..data.labels import labels_for, labels_of_images, require_conditional
from ..errors import UserError
from ..trainable import said_by
from .chain import in_batches

__all__ = ["check_options", "check_request", "draw_images", "labels_for"]


def check_options(system: str, options: dict) -> dict:
    """``options`` without those that are None. Raises UserError for one that the system's samplers do not take."""
    given = {name: value for name, value in options.items() if value is not None}
    asked = registry.get(system)
    known = {option.argument: option for option in asked.sampling}
    for name in given:
        if asked.no_options:
            raise UserError(f"{name} is an option of samplers, and {asked.no_options}")
        if name not in known:
            raise UserError(f"{name} belongs to other systems; a {system} model takes: {', '.join(known) or 'none'}")
        if known[name].choices and given[name] not in known[name].choices:
            raise UserError(
                f"{name} is {given[name]!r}, expected one of a {system} model's: {', '.join(known[name].choices)}"
            )
    return given


def check_request(cell: nn.Cell, **options) -> None:
    """Raises UserError where ``cell`` cannot be sampled with ``options``, before anything is drawn."""
    if said_by(cell, "sample") is None:
        raise UserError(f"{type(cell).__name__} draws nothing: it has no method sample")
    said_by(cell, "check_sample")(**options)


def columns_of(labels: np.ndarray) -> int | None:
    """How many columns make a nearly square grid each column of which is of one class, for ``labels`` (N,) in turn.

    None where the labels do not come in turn, or are all the same.
    """
    count = len(labels)
    for period in range(1, min(count // 2, 32) + 1):
        if (labels[period:] == labels[:-period]).all():
            return None if period == 1 else period * max(1, round(count**0.5 / period))
    return None


def draw_images(
    cell: nn.Cell,
    num: int,
    *,
    seed: int = 0,
    batch_size: int = 250,
    labels: np.ndarray | None = None,
    progress: bool = True,
    **options,
) -> np.ndarray:
    """``num`` images (num, C, H, W) float32 in [0, 1], made ``batch_size`` at a time; the same for any batch size.

    Args:
        cell: its ``sample`` takes batch_size, seed, first_image and progress, and labels where it is conditional.
        labels: class of each image, int32 (num,), or one for all, of a conditional model.
        options: of the system's samplers, see `systems.System.sampling`.

    Raises:
        UserError: for no images or none at a time, labels that do not fit, and what the Cell's ``sample`` raises.
    """
    if labels is not None:
        require_conditional(cell)
    labels = None if labels is None else labels_of_images(cell, labels, num)

    def sample(size: int, first: int) -> Tensor:
        classes = {} if labels is None else {"labels": np.resize(labels[first : first + size], size)}
        return cell.sample(size, seed=seed, first_image=first, progress=progress, **classes, **options)

    return np.clip(in_batches(sample, num, batch_size, progress=progress), 0.0, 1.0)
