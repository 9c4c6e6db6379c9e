"""Images between two of the data set, through the noise: what sample.py --interpolate shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ... import data, samplers
from ...errors import UserError
from ...pictures import images

if TYPE_CHECKING:
    from ..sample import Sampling

PAIRS = 6  # rows of the picture


def check_time(diffusion, t: int | None) -> None:
    """Raises UserError for a time that the diffusion does not have."""
    if t is not None and t >= diffusion.num_timesteps:
        raise UserError(f"--interpolate_t is {t}, expected 1 to {diffusion.num_timesteps - 1}")


def interpolation_ends(run: Sampling) -> np.ndarray:
    """Two sets of data set images to go between: (2, pairs, C, H, W) float32 in [0, 1]."""
    name = run.args["dataset"] or run.config.dataset
    source = run.system.open_images(run.config, name)
    pairs = min(PAIRS, len(source) // 2)
    if pairs < 1:
        raise UserError(f"--interpolate needs 2 images, {name} has {len(source)}")
    return data.as_float(source.batch(range(2 * pairs))).reshape(2, pairs, *source.shape)


def draw_interpolation(diffusion, ends: np.ndarray, count: int, t: int | None, seed: int) -> np.ndarray:
    """Rows of ``count`` images between the two of each pair, ends included: (pairs * count, C, H, W)."""
    t = t or diffusion.num_timesteps // 2
    columns = [ends[0]]
    for lam in np.linspace(0, 1, count)[1:-1]:
        between = samplers.interpolate(diffusion, *ends, t, float(lam), seed=seed)
        columns.append(np.clip(between.asnumpy(), 0, 1))
    columns.append(ends[1])
    return np.stack(columns, axis=1).reshape(-1, *ends.shape[2:])


def save_interpolation(run: Sampling, ends: np.ndarray) -> None:
    """Writes interpolation.png."""
    count = run.args["interpolate"]
    rows = draw_interpolation(run.cell, ends, count, run.args["interpolate_t"], run.args["seed"])
    images.save_grid(rows, run.folder / "interpolation.png", columns=count)
    run.say(f"interpolation: {run.folder / 'interpolation.png'}")
