"""What a corruption model does, in pictures: eight amounts, a sampling history, the loss, and the kinds of noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mindspore import Tensor

from ... import data
from ...config import Config
from ...devices.runtime import compiled
from ...errors import UserError
from ...maths.random import stream
from ...pictures import figures
from ...pictures.images import save_grid
from ...pictures.looking import check_amounts, images_for, in_a_row, unseen
from . import published
from .corruption import NOISES, Corruption
from .published import read_log

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...training.trainer import Trainer
    from ..sample import Sampling

LEVELS = 8
AMOUNTS = (0.25, 0.5, 0.75, 1.0)
LOSS_RANGE = (0.0, 0.1)  # of the y axis, as in the corruption article (docs/systems.md)
PICTURE_STREAM = 1 << 20  # beside the images of a sample, which are counted from 0


def _shown(images: Tensor | np.ndarray) -> np.ndarray:
    return np.clip(images.asnumpy() if isinstance(images, Tensor) else images, 0.0, 1.0)


def _model_of(corruption: Corruption):
    def model(x):
        return corruption.model(x)

    return compiled(model)


def predictions(corruption: Corruption, images: np.ndarray, seed: int = 0) -> Image:
    """Three rows: images, the same corrupted by amounts from 0 to 1, and what the network makes of them.

    Args:
        corruption: trained, or not.
        images: (N, C, H, W) float32 in [0, 1], two or more; the article shows eight of the test set.
        seed: of the noise.

    Raises:
        UserError: for fewer than two images, or of another shape than the model's.
    """
    shape = (corruption.channels, *corruption.image_size)
    if images.ndim != 4 or len(images) < 2 or images.shape[1:] != shape:
        raise UserError(
            f"images to predict have shape {images.shape}, expected (2 or more, {', '.join(map(str, shape))})"
        )
    amount = np.linspace(0, 1, len(images), dtype=np.float32)
    z = corruption.noise.draw(stream(seed, PICTURE_STREAM), images, amount)
    corrupted = corruption.corruption(Tensor(images), Tensor(amount), Tensor(z))
    rows = [
        ("image", images),
        ("corrupted", _shown(corrupted)),
        ("prediction", _shown(_model_of(corruption)(corrupted))),
    ]
    made = figures.sheet(rows, [f"amount {a:.2f}" for a in amount])
    return figures.page(
        made, f"What the network makes of {corruption.noise_kind.replace('_', ' ')} noise",
        "The less of the image is left, the more the answer is the mean of all images that fit: that is what the mean "
        "squared error asks for.",
    )  # fmt: skip


def restorations(
    corruption: Corruption, images: np.ndarray, amounts: Sequence[float] = AMOUNTS, seed: int = 0
) -> Image:
    """Images in the first row; then, for every amount, the same with that much noise above what the network answers.

    Args:
        corruption: trained, or not.
        images: (N, C, H, W) float32 in [0, 1].
        amounts: of noise, from 0 to 1, as many as wanted.
        seed: of the noise.

    Raises:
        UserError: for amounts out of range, or none.
    """
    rows, mix = [("original", images)], Tensor(np.float32(1.0))
    for amount in check_amounts(amounts):
        each = np.full(len(images), amount, np.float32)
        z = corruption.noise.draw(stream(seed, PICTURE_STREAM), images, each)
        noised = corruption.corruption(images, each, z)
        _, answer = corruption.compiled_step()(noised, mix)  # the graph that samples are made with
        rows += [(f"amount {amount:g}", _shown(noised)), ("prediction", _shown(answer))]
    kind = corruption.noise_kind.replace("_", " ")
    return figures.page(
        figures.sheet(rows), f"Images with {kind} noise, and what the network makes of them in one step",
        "The less of the image is left, the more the answer is the mean of all images that fit.",
    )  # fmt: skip


def history(corruption: Corruption, batch_size: int = 8, steps: int = 5, seed: int = 0, most: int = 12) -> Image:
    """A row per sampling step: left what the network is given, right what it answers.

    Args:
        corruption: trained, or not.
        batch_size: images in a row.
        steps: of the chain, any number.
        seed: of the noise.
        most: rows at most; of more steps so many are shown, evenly chosen, the first and the last among them.

    Raises:
        UserError: as `Corruption.sample`.
    """
    states, answers = (_shown(a) for a in corruption.chain(batch_size, seed=seed, steps=steps))
    shown = np.unique(np.linspace(0, steps - 1, min(steps, max(most, 2))).round().astype(int)).tolist()
    scale = max(1, figures.enlargement(*corruption.image_size) - 1)
    left = figures.sheet(
        [(f"step {i + 1}", states[:, i]) for i in shown], heading="what the network is given", scale=scale
    )
    right = figures.sheet(
        [(f"1/{steps - i} of the way", answers[:, i]) for i in shown], heading="what it answers", scale=scale
    )
    some = "" if len(shown) == steps else f" {len(shown)} of the {steps} steps are shown."
    return figures.page(
        figures.stacked([left, right], gap=24, axis=1), f"From noise to images in {steps} steps",
        "In step i of n the image goes 1/(n - i) of the way towards the answer: the noise that the answer implies "
        f"shrinks in equal parts, and the last step is the answer itself.{some}",
    )  # fmt: skip


def look_at_corruption(
    corruption: Corruption, images: np.ndarray, folder: Path, *, steps: int | None = None,
    amounts: Sequence[float] | None = None, seed: int = 0,
) -> list[Path]:  # fmt: skip
    """restorations.png of ``images`` (N, C, H, W) and history.png of as many samples in ``folder``; gives their paths.

    ``steps`` and ``amounts`` are by default the model's, and `AMOUNTS`. Raises UserError as the two.
    """
    steps = corruption.sampling_timesteps if steps is None else steps
    return [
        figures.save(restorations(corruption, images, amounts or AMOUNTS, seed), folder / "restorations.png"),
        figures.save(history(corruption, len(images), steps, seed), folder / "history.png"),
    ]


def noise_strip(image: np.ndarray, amounts: tuple[float, ...] = (0, 0.1, 0.25, 0.5, 0.75, 1), seed: int = 0) -> Image:
    """One image (C, H, W) in [0, 1] after every kind of noise at growing amounts. Raises UserError for no image."""
    if image.ndim != 3:
        raise UserError(f"an image of shape {image.shape}, expected (C, H, W)")
    many = np.repeat(np.asarray(image, np.float32)[None], len(amounts), axis=0)
    amount = np.array(amounts, np.float32)
    rows = []
    for kind, noise in NOISES.items():
        z = noise.draw(stream(seed, PICTURE_STREAM), many, amount)
        rows.append((kind.replace("_", " "), _shown(noise.apply(Tensor(many), Tensor(amount), Tensor(z)))))
    return figures.page(
        figures.sheet(rows, [f"amount {a:g}" for a in amounts]), "The kinds of noise",
        "Shown clipped to the range from black to white. Poisson and multiplicative noise leave black pixels alone.",
    )  # fmt: skip


def loss_curve(records: list[Mapping], y_range: tuple[float, float] = LOSS_RANGE) -> Image:
    """The loss over the steps, from the ``records`` of log.jsonl; the means of epochs too, where there are.

    Raises UserError where the log holds no loss.
    """
    steps = [(r["step"], float(r["loss"])) for r in records if "loss" in r and "step" in r]
    if not steps:
        raise UserError("the log holds no loss yet; train first")
    epochs = [(r["step"], float(r["epoch_loss"])) for r in records if "epoch_loss" in r]
    series = {"loss of the last steps": tuple(zip(*steps, strict=True))}
    if epochs:
        series["mean of the epoch"] = tuple(zip(*epochs, strict=True))
    chart = figures.line_chart(
        series, x_label="step", y_label="mean squared error", y_range=y_range, dots=("mean of the epoch",),
        faint=("loss of the last steps",) if epochs else (),
    )  # fmt: skip
    return figures.page(chart, "The loss of the corruption model")


def write_pictures(
    corruption: Corruption, images: np.ndarray, folder: str | Path, *, log: str | Path | None = None, seed: int = 0
) -> list[Path]:
    """Every picture of a trained model: predictions.png, history.png, samples-40.png, noises.png, loss.png.

    Args:
        corruption: the model.
        images: (N, C, H, W) float32 in [0, 1] that it was not trained on; the first eight are shown.
        folder: where the files go; made where it is missing.
        log: the log.jsonl of its training; without it there is no loss.png.
        seed: of all noise.

    Returns:
        The paths written.

    Raises:
        UserError: fewer than two images, a log that cannot be read, a folder that cannot be written.
    """
    folder = Path(folder)
    made = {
        "predictions": predictions(corruption, images[:LEVELS], seed),
        "history": history(corruption, seed=seed),
        "noises": noise_strip(images[0], seed=seed),
    }
    if log is not None:
        made["loss"] = loss_curve(read_log(log))
    paths = [figures.save(picture, folder / f"{name}.png") for name, picture in made.items()]
    steps = corruption.sampling_timesteps
    path = folder / f"samples-{steps}.png"
    save_grid(_shown(corruption.sample(64, seed=seed, steps=steps)), path, columns=8)
    return [*paths, path]


def report(trainer: Trainer, config: Config) -> list[str]:
    """What train.py does at the end of a run of the system corruption: pictures, and the published losses beside ours.

    Returns the lines to print. Files go to OUTPUT/pictures, drawn with the averaged weights.

    Raises UserError as `write_pictures`.
    """
    source = unseen(trainer.train_set, trainer.validation_set, config)
    log = trainer.folder / "log.jsonl"
    images = data.as_float(source.batch(range(min(LEVELS, len(source)))))
    if len(images) < 2:
        return []
    folder = trainer.folder / "pictures"
    with trainer.ema.swapped():
        write_pictures(trainer.cell, images, folder, log=log, seed=trainer.seed)
    lines = [f"pictures: {folder}"]
    if published.applies(config, trainer.train_set) and published.epoch_losses(read_log(log)):
        lines += ["mean loss of each epoch:", *published.compare(log, folder / "published.png").splitlines()]
    return lines


def look(run: Sampling) -> list[str]:
    """restorations.png and history.png of a corruption model; what to say of them.

    Sampling needs no data set: where that of training is gone, a line says so.
    """
    try:
        shown = images_for(run.cell, run.config, in_a_row(*run.cell.image_size), run.args["dataset"])
    except UserError as error:
        if run.args["dataset"] is not None:
            raise
        return [f"no restorations.png and history.png: {error}"]
    options = {"steps": run.args["sampling_steps"], "amounts": run.args["amounts"], "seed": run.args["seed"]}
    paths = look_at_corruption(run.cell, shown, run.folder, **options)
    return [f"with and without noise: {paths[0]}", f"steps of sampling: {paths[1]}"]
