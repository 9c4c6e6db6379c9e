"""Samplers: one chain, and one file per family of steps.

    chain.py         the loop, its noise, its progress, the batches that many images are made in
    discrete.py      ddpm, ddim and interpolation of a `GaussianDiffusion`, in T times
    score.py         what all samplers of a `ScoreModel` take, and their table
    request.py       that, checked
    reverse_sde.py   euler and pc: back along the SDE
    flow_ode.py      heun and ode: back along the ODE with the SDE's marginals
    likelihood.py    that ODE forth: bits per dimension
    corruption.py    towards what a `Corruption` network answers

A family is its step, one compiled graph of fixed shapes, and its table of float64 numbers, a row for each call of it.
None of them knows a model's class: what it must have stands as a Protocol where it is used.

The names of ``discrete`` are here too. Its samplers have one signature, ``sampler(diffusion, batch_size, *, steps, eta,
seed, noise, return_all_timesteps, progress, first_image)``.
"""

from ..maths.schedules import ddim_times
from .discrete import (
    SAMPLERS,
    check_request,
    ddim,
    ddim_coefficients,
    ddpm,
    default_sampler,
    interpolate,
    sample_images,
)

__all__ = [
    "SAMPLERS", "check_request", "ddim", "ddim_coefficients", "ddim_times", "ddpm", "default_sampler", "interpolate",
    "sample_images",
]  # fmt: skip
