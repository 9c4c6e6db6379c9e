"""The fifteen losses that the corruption article prints for Fashion-MNIST, beside those of a run here.

The article: docs/systems.md. They are means over the batches of an epoch, each taken before its batch was learnt from,
of the mean squared error with uniform noise and amounts uniform in [0, 1): configs/corruption.yaml, on the 60,000
training images. The article's last batch of an epoch has 96 images; here every one has 128, and the last of an epoch
takes some of the next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...config import Config
from ...errors import UserError, quoted, reason_of
from ...pictures import figures
from .config import CorruptionConfig

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...data import ImageSource

LOSSES = (
    0.059535, 0.024476, 0.022848, 0.021662, 0.021025, 0.020682, 0.020176, 0.020124, 0.019379, 0.019473, 0.018823,
    0.018897, 0.018471, 0.018010, 0.017308,
)  # fmt: skip


IMAGES, SHAPE, MEAN = 60_000, (1, 28, 28), 0.28604059698879553  # of the training images, whose pixels are in [0, 1]


def is_fashion_mnist(source: ImageSource) -> bool:
    """Whether ``source`` holds the training images of Fashion-MNIST, all of them, wherever they come from.

    They are known by their number, their size and the mean of their pixels. MNIST has as many of that size, whose mean
    is 0.1307.
    """
    if (len(source), source.shape) != (IMAGES, SHAPE):
        return False
    scale = 255 if source.dtype == np.uint8 else 1
    return abs(source.batch(range(IMAGES)).mean(dtype=np.float64) / scale - MEAN) < 1e-6


def applies(config: Config, train_set: ImageSource) -> bool:
    """Whether a run of ``config`` on ``train_set`` computes what the published losses are of.

    The data are those of `is_fashion_mnist`, and so it is asked of the images and not of the path they lie at, which is
    anybody's choice, nor of a key of the recipe, which stays true when other data are given. Images held out for
    validation count as there.
    """
    return (
        isinstance(config, CorruptionConfig) and config.noise_kind == "uniform" and config.epochs is not None
        and config.train_batch_size * config.gradient_accumulate_every == 128
        and is_fashion_mnist(train_set.origin or train_set)
    )  # fmt: skip


def read_log(path: str | Path) -> list[dict]:
    """The records of a log.jsonl. Raises UserError where it cannot be read, or a line is no JSON object."""
    records = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the log {path} ({reason_of(error)}); give the log.jsonl of a run") from None
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if record is None and number == len(lines):
            break  # cut short by a kill
        if not isinstance(record, dict):
            raise UserError(f"line {number} of {path} is {quoted(line)}, expected a JSON object, as train.py writes it")
        records.append(record)
    return records


def epoch_losses(records: Sequence[Mapping]) -> dict[int, float]:
    """Epoch, from 1, -> its mean loss, of the records of a log; of an epoch that is there twice the later one."""
    return {int(r["epoch"]): float(r["epoch_loss"]) for r in records if "epoch" in r and "epoch_loss" in r}


def table(ours: Mapping[int, float]) -> str:
    """A line per epoch: its number from 0 as the article counts, the published loss, ours, and the ratio of both.

    Raises UserError where there is no epoch to compare.
    """
    both = [epoch for epoch in ours if epoch <= len(LOSSES)]
    if not both:
        raise UserError("no epoch has ended yet; the published losses are means over epochs (set epochs)")
    lines = ["epoch  published      ours  ours/published"]
    for epoch, loss in enumerate(LOSSES, 1):
        mine = f"{ours[epoch]:9.6f}  {ours[epoch] / loss:14.2f}" if epoch in ours else f"{'-':>9}  {'-':>14}"
        lines.append(f"{epoch - 1:5d}  {loss:9.6f} {mine}")
    mean, theirs = (sum(losses[epoch] for epoch in both) / len(both) for losses in (ours, dict(enumerate(LOSSES, 1))))
    lines.append(f" mean  {theirs:9.6f} {mean:9.6f}  {mean / theirs:14.2f}  (of the {len(both)} epochs that both have)")
    return "\n".join(lines)


def chart(ours: Mapping[int, float]) -> Image:
    """Both as lines over the epochs. Raises UserError as `table`."""
    table(ours)
    series = {
        "published": (range(len(LOSSES)), LOSSES),
        "this run": ([epoch - 1 for epoch in sorted(ours)], [ours[epoch] for epoch in sorted(ours)]),
    }
    made = figures.line_chart(
        series, x_label="epoch, counted from 0", y_label="mean squared error, mean of the epoch", dots=tuple(series)
    )
    return figures.page(made, "Fashion-MNIST: the article's losses and these")


def compare(log: str | Path, picture: str | Path | None = None) -> str:
    """The table for the log.jsonl of a run; the chart is written to ``picture`` where that is given.

    Raises:
        UserError: a log that cannot be read or has no epoch, a picture that cannot be written.
    """
    ours = epoch_losses(read_log(log))
    words = table(ours)
    if picture is not None:
        figures.save(chart(ours), picture)
    return words
