"""Samplers of a `GaussianDiffusion`: ancestral sampling, DDIM, and what lies between two images.

``sampler(diffusion, batch_size, *, steps, eta, seed, noise, return_all_timesteps, progress)`` returns images
(B, C, H, W) in [0, 1], or all of the chain (B, steps + 1, C, H, W), x_T first. The tape of `chain` holds x_T, then one
array per reverse step but the last, drawn even where its coefficient is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Protocol

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..arrays import float_tensor
from ..errors import UserError
from ..maths.random import Tape, noise_tape
from ..maths.schedules import ddim_row, ddim_times
from .chain import Chain, in_batches, numbers


class Diffusion(Protocol):
    """What is sampled here, see `ms_ddpm.GaussianDiffusion`."""

    channels: int
    image_size: tuple[int, int]
    num_timesteps: int
    sampling_timesteps: int
    ddim_sampling_eta: float
    self_condition: bool
    tables: Mapping[str, np.ndarray]

    def compiled_step(self, name: str) -> Callable:
        """A step of `REVERSE_STEPS` as one graph, made once."""

    def normalize(self, img: Tensor) -> Tensor:
        """[0, 1] -> what the steps work on."""

    def unnormalize(self, x: Tensor) -> Tensor:
        """And back."""

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of x_0."""

    def p_sample(self, x: Tensor, t: Tensor, noise: Tensor, x_self_cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """(x_{t-1}, x_0), an ancestral step."""

    def ddim_step(
        self, x: Tensor, t: Tensor, coefficients: Tensor, noise: Tensor, x_self_cond: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(x at the next time, x_0), the coefficients a row of `ddim_coefficients`."""


# --- the steps -------------------------------------------------------------------------------------------------------


def _p_sample_of(diffusion: Diffusion) -> Callable:
    def p_sample(x, t, noise, x_self_cond):
        return diffusion.p_sample(x, t, noise, x_self_cond)

    return p_sample


def _ddim_step_of(diffusion: Diffusion) -> Callable:
    def ddim_step(x, t, coefficients, noise, x_self_cond):
        return diffusion.ddim_step(x, t, coefficients, noise, x_self_cond)

    return ddim_step


# Plain functions: after ``ms.jit(cell.method)`` MindSpore 2.10 takes ``cell(...)`` in a later graph for that method.
REVERSE_STEPS = {"p_sample": _p_sample_of, "ddim_step": _ddim_step_of}


# --- their chains ----------------------------------------------------------------------------------------------------


def _begin(
    diffusion: Diffusion, batch_size: int, seed: int | None, noise, first_image: int, *, keep: bool, progress: bool
) -> Chain:
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, expected at least 1")
    shape = (batch_size, diffusion.channels, *diffusion.image_size)
    return Chain(Tape(noise_tape(seed, shape, first_image) if noise is None else noise, shape), keep, progress)


def _go_back(diffusion: Diffusion, chain: Chain, x: Tensor, name: str, table: np.ndarray, description: str) -> Tensor:
    """Applies the step ``name`` at each time of ``table`` (S, 1 or 4): the time, and a DDIM step's coefficients."""
    compiled = diffusion.compiled_step(name)
    x_start = chain.silence if diffusion.self_condition else None

    def step(x, row, noise):
        nonlocal x_start
        coefficients = [numbers(row[1:])] if len(row) > 1 else []
        x, predicted = compiled(x, chain.at(row[0], np.int32), *coefficients, noise, x_start)
        if diffusion.self_condition:
            x_start = predicted
        return x

    chain.run(x, table, step, description)
    return diffusion.unnormalize(chain.result())


def _times_back(start: int) -> np.ndarray:
    """start - 1 ... 0, a table of times alone."""
    return np.arange(start - 1, -1.0, -1.0).reshape(-1, 1)


def ddpm(
    diffusion: Diffusion,
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
    chain = _begin(diffusion, batch_size, seed, noise, first_image, keep=return_all_timesteps, progress=progress)
    x = Tensor(next(chain.tape))
    return _go_back(diffusion, chain, x, "p_sample", _times_back(diffusion.num_timesteps), "ddpm")


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
    diffusion: Diffusion,
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
    chain = _begin(diffusion, batch_size, seed, noise, first_image, keep=return_all_timesteps, progress=progress)
    rows = ddim_coefficients(diffusion.tables["alphas_cumprod"], times, eta)
    x = Tensor(next(chain.tape))
    return _go_back(diffusion, chain, x, "ddim_step", np.column_stack([times[:-1], rows]), "ddim")


SAMPLERS = {"ddpm": ddpm, "ddim": ddim}


def default_sampler(diffusion: Diffusion, steps: int | None = None) -> str:
    """ "ddim" exactly when the steps are fewer than T."""
    return "ddim" if (steps or diffusion.sampling_timesteps) != diffusion.num_timesteps else "ddpm"


def check_request(diffusion: Diffusion, sampler: str, steps: int | None, eta: float | None) -> None:
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
    diffusion: Diffusion,
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
    make = SAMPLERS[sampler]

    def sample(size: int, first: int) -> Tensor:
        return make(diffusion, size, steps=steps, eta=eta, seed=seed, progress=progress, first_image=first)

    return np.clip(in_batches(sample, num, batch_size, progress=progress), 0.0, 1.0)


def interpolate(
    diffusion: Diffusion,
    x1: Tensor | np.ndarray,
    x2: Tensor | np.ndarray,
    t: int | None = None,
    lam: float = 0.5,
    *,
    seed: int | None = None,
    noise: Iterable | None = None,
    progress: bool = True,
) -> Tensor:
    """Images between x1 and x2, both (B, C, H, W) in [0, 1] (Ho et al., section 4.4).

    Both are noised to time t (default T-1), mixed as (1 - lam) x1_t + lam x2_t, and taken back through steps t-1 ... 0.
    The tape's first two arrays noise x1 and x2, the rest serve the steps.
    """
    total = diffusion.num_timesteps
    t = total - 1 if t is None else t
    if not 1 <= t < total:
        raise UserError(f"t is {t}, expected 1 to {total - 1}")
    if not 0 <= lam <= 1:
        raise UserError(f"lam is {lam}, expected 0 (the first image) to 1 (the second)")
    x1, x2 = float_tensor(x1, "x1"), float_tensor(x2, "x2")
    if x1.shape != x2.shape:
        raise UserError(f"the images to interpolate have shapes {x1.shape} and {x2.shape}, expected the same")
    chain = _begin(diffusion, x1.shape[0], seed, noise, first_image=0, keep=False, progress=progress)
    tape = chain.tape
    if tuple(x1.shape) != tape.shape:
        raise UserError(f"the images to interpolate have shape {tuple(x1.shape)}, expected {tape.shape}")
    time = Tensor(np.full(x1.shape[0], t, np.int32), ms.int32)
    ends = [diffusion.q_sample(diffusion.normalize(x), time, Tensor(next(tape))) for x in (x1, x2)]
    mixed = (1 - lam) * ends[0] + lam * ends[1]
    return _go_back(diffusion, chain, mixed, "p_sample", _times_back(t), "interpolate")
