"""Images from a trained model of any system, many at a time: what ``sample.py`` and the Trainer's pictures call."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn

from .config_systems import SAMPLERS
from .errors import UserError
from .labels import labels_for, labels_of_images, require_conditional
from .samplers.chain import in_batches

__all__ = ["check_options", "check_request", "draw_images", "labels_for"]

OPTIONS = {  # what may be asked of the systems' samplers
    "diffusion": ("sampler", "steps", "eta"),
    "score": ("sampler", "steps", "guidance_scale", "denoise", "eps", "snr"),
    "latent": ("sampler", "steps", "guidance_scale", "denoise", "eps", "snr"),
    "corruption": ("steps",),
    "autoencoder": (),
}


def check_options(system: str, options: dict) -> dict:
    """``options`` without those that are None. Raises UserError for one that the system's samplers do not take."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if system == "autoencoder":
            raise UserError(
                f"{name} is an option of samplers, and an autoencoder only gives images back; for new ones train the "
                "latent system on it, and sample that"
            )
        if name not in OPTIONS[system]:
            raise UserError(f"{name} belongs to other systems; a {system} model takes: {', '.join(OPTIONS[system])}")
    if "sampler" in given and given["sampler"] not in SAMPLERS[system]:
        raise UserError(
            f"sampler is {given['sampler']!r}, expected one of a {system} model's: {', '.join(SAMPLERS[system])}"
        )
    return given


def check_request(cell: nn.Cell, **options) -> None:
    """Raises UserError where ``cell`` cannot be sampled with ``options``, before anything is drawn."""
    cell.check_sample(**options)


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
        options: of the system's samplers, see `OPTIONS`.

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
