"""Images from a trained model of any system, many at a time: what ``sample.py`` and the Trainer's pictures call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mindspore import nn
from tqdm.auto import tqdm

from . import samplers
from .data import check_labels
from .diffusion import GaussianDiffusion
from .errors import UserError

OPTIONS = {  # what may be asked of the systems' samplers
    "diffusion": ("sampler", "steps", "eta"),
    "score": ("sampler", "steps", "guidance_scale"),
    "latent": ("sampler", "steps", "guidance_scale"),
    "corruption": ("steps",),
    "autoencoder": (),
}
SAMPLERS = {
    "diffusion": tuple(samplers.SAMPLERS),
    "score": ("euler", "pc", "ode", "heun"),
    "latent": ("euler", "pc", "ode", "heun"),
}


def check_options(system: str, options: dict) -> dict:
    """``options`` without those that are None. Raises UserError for one that the system's samplers do not take."""
    if system == "autoencoder":
        raise UserError("an autoencoder draws no images; train the latent system on it, and sample that")
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in OPTIONS[system]:
            raise UserError(f"{name} belongs to other systems; a {system} model takes: {', '.join(OPTIONS[system])}")
    if "sampler" in given and given["sampler"] not in SAMPLERS[system]:
        raise UserError(
            f"sampler is {given['sampler']!r}, expected one of a {system} model's: {', '.join(SAMPLERS[system])}"
        )
    return given


def labels_for(cell: nn.Cell, num: int, classes: Sequence[int] | None) -> np.ndarray | None:
    """The class of each of ``num`` images, int32 (num,): ``classes`` in turn (default: all); None without classes.

    Raises:
        UserError: for classes given to a model that has none, and for an unknown one.
    """
    if not getattr(cell, "conditional", False):
        if classes is not None:
            raise UserError(f"labels {list(classes)} are given, but this model knows no classes")
        return None
    chosen = np.asarray(range(cell.num_classes) if classes is None else classes, np.int64)
    check_labels(chosen, cell.num_classes)
    return np.resize(chosen, num).astype(np.int32)


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
        cell: a `GaussianDiffusion`, or a Cell whose ``sample`` takes batch_size, seed, first_image, progress, labels.
        labels: class of each image, int32 (num,), of a conditional model.
        options: of the system's samplers, see `OPTIONS`.

    Raises:
        UserError: as `samplers.sample_images`, or what the Cell's ``sample`` raises.
    """
    if isinstance(cell, GaussianDiffusion):
        return samplers.sample_images(cell, num, seed=seed, batch_size=batch_size, progress=progress, **options)
    if num < 1:
        raise UserError(f"the number of images is {num}, expected at least 1")
    batch_size = min(batch_size, num)
    found = []
    batches = range(0, num, batch_size)
    for first in tqdm(batches, desc="sampling", unit="batch", disable=not progress or len(batches) == 1):
        # The last batch is filled up and cut, so that one compiled graph serves all.
        if labels is not None:
            options["labels"] = np.resize(labels[first : first + batch_size], batch_size)
        images = cell.sample(batch_size, seed=seed, first_image=first, progress=progress, **options)
        found.append(images.asnumpy())
    return np.clip(np.concatenate(found)[:num], 0.0, 1.0)
