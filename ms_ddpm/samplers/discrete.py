"""Samplers: plain functions that loop over one compiled reverse step, all with one signature.

``sampler(diffusion, batch_size, *, steps, eta, seed, noise, return_all_timesteps, progress)`` returns images
(B, C, H, W) in [0, 1], or all of the chain (B, steps + 1, C, H, W), x_T first.

``noise`` is a tape: anything that yields whole-batch arrays of the sample's shape, x_T first, then one per reverse
step but the last (drawn even where its coefficient is zero). Without it every image draws from a stream of its own,
named by ``seed`` and its index, so image 7 of seed 0 is the same picture whatever the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from .bars import bar
from .errors import UserError
from .random import Tape, noise_tape
from .schedules import ddim_row, ddim_times

if TYPE_CHECKING:
    from .diffusion import GaussianDiffusion

Step = Callable[[Tensor, Tensor, Tensor, "Tensor | None"], tuple[Tensor, Tensor]]


def _tape(diffusion: GaussianDiffusion, batch_size: int, seed: int | None, noise, first_image: int) -> Tape:
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, expected at least 1")
    shape = (batch_size, diffusion.channels, *diffusion.image_size)
    return Tape(noise_tape(seed, shape, first_image) if noise is None else noise, shape)


def _run_chain(
    diffusion: GaussianDiffusion,
    tape: Tape,
    x: np.ndarray,
    times: list[int],
    step: Step,
    *,
    return_all_timesteps: bool,
    progress: bool,
    description: str,
) -> Tensor:
    """Applies ``step`` at each of ``times`` (descending), the last without noise."""
    batch_size = x.shape[0]
    x = Tensor(x)
    chain = [x]
    silence = Tensor(np.zeros(tape.shape, np.float32))
    x_start = silence if diffusion.self_condition else None
    for i, time in enumerate(bar(times, description, show=progress, leave=False)):
        t = Tensor(np.full(batch_size, time, np.int32))
        noise = silence if i == len(times) - 1 else Tensor(next(tape))
        x, predicted = step(i, x, t, noise, x_start)
        if diffusion.self_condition:
            x_start = predicted
        if return_all_timesteps:
            chain.append(x)
    return diffusion.unnormalize(ops.stack(chain, axis=1) if return_all_timesteps else x)


def ddpm(
    diffusion: GaussianDiffusion,
    batch_size: int = 16,
    *,
    steps: int | None = None,
    eta: float | None = None,
    seed: int | None = None,
    noise: Iterable | None = None,
    return_all_timesteps: bool = False,
    progress: bool = True,
    first_image: int = 0,
) -> Tensor:
    """Ancestral sampling through all T steps (Ho et al., Algorithm 2). ``steps`` must be None or T; no ``eta``."""
    check_request(diffusion, "ddpm", steps, eta)
    total = diffusion.num_timesteps
    tape = _tape(diffusion, batch_size, seed, noise, first_image)
    compiled = diffusion.compiled_step("p_sample")
    return _run_chain(
        diffusion,
        tape,
        next(tape),
        list(reversed(range(total))),
        lambda i, x, t, noise, x_start: compiled(x, t, noise, x_start),
        return_all_timesteps=return_all_timesteps,
        progress=progress,
        description=f"ddpm {total}",
    )


def ddim_coefficients(alphas_cumprod: np.ndarray, times: list[int], eta: float) -> np.ndarray:
    """(S, 3) float32: what multiplies x_0, eps and noise in each step of ``times`` (S + 1, descending to -1).

    sigma = eta sqrt((1 - abar/abar') (1 - abar') / (1 - abar)) (Song et al., eq. 16), computed in float64.
    """
    rows = []
    for time, time_next in pairwise(times):
        if time_next < 0:
            rows.append((1.0, 0.0, 0.0))
            continue
        rows.append(ddim_row(float(alphas_cumprod[time]), float(alphas_cumprod[time_next]), eta))
    return np.asarray(rows, np.float64).astype(np.float32)


def ddim(
    diffusion: GaussianDiffusion,
    batch_size: int = 16,
    *,
    steps: int | None = None,
    eta: float | None = None,
    seed: int | None = None,
    noise: Iterable | None = None,
    return_all_timesteps: bool = False,
    progress: bool = True,
    first_image: int = 0,
) -> Tensor:
    """Denoising diffusion implicit model in ``steps`` steps (Song et al., https://arxiv.org/abs/2010.02502, eq. 12).

    ``steps`` and ``eta`` default to the diffusion's ``sampling_timesteps`` and ``ddim_sampling_eta``. x_0 is clipped
    and, where ``rederive_pred_noise`` says so, eps derived again from it.
    """
    steps = diffusion.sampling_timesteps if steps is None else steps
    eta = diffusion.ddim_sampling_eta if eta is None else eta
    check_request(diffusion, "ddim", steps, eta)
    times = ddim_times(diffusion.num_timesteps, steps)
    tape = _tape(diffusion, batch_size, seed, noise, first_image)
    rows = [Tensor(row) for row in ddim_coefficients(diffusion.tables["alphas_cumprod"], times, eta)]
    compiled = diffusion.compiled_step("ddim_step")
    return _run_chain(
        diffusion,
        tape,
        next(tape),
        times[:-1],
        lambda i, x, t, noise, x_start: compiled(x, t, rows[i], noise, x_start),
        return_all_timesteps=return_all_timesteps,
        progress=progress,
        description=f"ddim {steps}",
    )


SAMPLERS = {"ddpm": ddpm, "ddim": ddim}


def default_sampler(diffusion: GaussianDiffusion, steps: int | None = None) -> str:
    """ "ddim" exactly when the steps are fewer than T."""
    return "ddim" if (steps or diffusion.sampling_timesteps) != diffusion.num_timesteps else "ddpm"


def check_request(diffusion: GaussianDiffusion, sampler: str, steps: int | None, eta: float | None) -> None:
    """Raises UserError where ``sampler`` does not exist or cannot take ``steps`` and ``eta``."""
    total = diffusion.num_timesteps
    if sampler not in SAMPLERS:
        raise UserError(f"sampler is {sampler!r}, expected one of: {', '.join(SAMPLERS)}")
    if sampler == "ddpm":
        if steps not in (None, total):
            raise UserError(f"the ddpm sampler takes all {total} steps, not {steps}; use the ddim sampler for fewer")
        if eta is not None:
            raise UserError("the ddpm sampler takes no eta; it belongs to the ddim sampler")
        return
    ddim_times(total, diffusion.sampling_timesteps if steps is None else steps)
    if eta is not None and not 0 <= eta <= 1:
        raise UserError(f"eta is {eta}, expected 0 (deterministic) to 1 (as noisy as ddpm)")


def sample_images(
    diffusion: GaussianDiffusion,
    num: int,
    *,
    sampler: str | None = None,
    batch_size: int = 256,
    seed: int = 0,
    steps: int | None = None,
    eta: float | None = None,
    progress: bool = True,
) -> np.ndarray:
    """``num`` images (num, C, H, W) float32 in [0, 1], made ``batch_size`` at a time; the same for any batch size."""
    sampler = sampler or default_sampler(diffusion, steps)
    check_request(diffusion, sampler, steps, eta)
    if num < 1:
        raise UserError(f"the number of images is {num}, expected at least 1")
    batch_size = min(batch_size, num)
    batches = []
    for first in bar(range(0, num, batch_size), "sampling", show=progress and num > batch_size, unit="batch"):
        # The last batch is filled up and cut, so that one compiled graph serves all.
        images = SAMPLERS[sampler](
            diffusion, batch_size, steps=steps, eta=eta, seed=seed, progress=progress, first_image=first
        )
        batches.append(images.asnumpy())
    return np.clip(np.concatenate(batches)[:num], 0.0, 1.0)


def _as_tensor(array) -> Tensor:
    return array if isinstance(array, Tensor) else Tensor(np.asarray(array, np.float32), ms.float32)


def interpolate(
    diffusion: GaussianDiffusion,
    x1: Tensor | np.ndarray,
    x2: Tensor | np.ndarray,
    t: int | None = None,
    lam: float = 0.5,
    *,
    seed: int | None = None,
    noise: Iterable | None = None,
    progress: bool = True,
) -> Tensor:
    """Images between x1 and x2, both (B, C, H, W) in [0, 1] (Ho et al., section 4.3).

    Both are noised to time t (default T-1), mixed as (1 - lam) x1_t + lam x2_t, and taken back through steps t-1 ... 0.
    The tape's first two arrays noise x1 and x2, the rest serve the steps.
    """
    total = diffusion.num_timesteps
    t = total - 1 if t is None else t
    if not 1 <= t < total:
        raise UserError(f"t is {t}, expected 1 to {total - 1}")
    if not 0 <= lam <= 1:
        raise UserError(f"lam is {lam}, expected 0 (the first image) to 1 (the second)")
    x1, x2 = _as_tensor(x1), _as_tensor(x2)
    if x1.shape != x2.shape:
        raise UserError(f"the images to interpolate have shapes {x1.shape} and {x2.shape}, expected the same")
    tape = _tape(diffusion, x1.shape[0], seed, noise, 0)
    if tuple(x1.shape) != tape.shape:
        raise UserError(f"the images to interpolate have shape {tuple(x1.shape)}, expected {tape.shape}")
    time = Tensor(np.full(x1.shape[0], t, np.int32), ms.int32)
    ends = [diffusion.q_sample(diffusion.normalize(x), time, Tensor(next(tape))) for x in (x1, x2)]
    mixed = (1 - lam) * ends[0] + lam * ends[1]
    compiled = diffusion.compiled_step("p_sample")
    return _run_chain(
        diffusion,
        tape,
        mixed.asnumpy(),
        list(reversed(range(t))),
        lambda i, x, t, noise, x_start: compiled(x, t, noise, x_start),
        return_all_timesteps=False,
        progress=progress,
        description=f"interpolate {t}",
    )
