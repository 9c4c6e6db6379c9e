"""diffusers' own schedulers, driven like ours; "float64" replaces their float32 tables by the oracle's."""

from __future__ import annotations

from unittest import mock

import diffusers
import torch
from diffusers import DDIMScheduler

from portparity.on_torch import tensor

from .driver import Side, kinds, name_of
from .oracle import betas_of
from .solvers import SOLVERS, Solver


def _with_exact_levels(made, spec):
    """Their chain in float64: the oracle's noise levels, which are float32 there."""
    own = Solver(spec["scheduler"], spec["config"])
    made.alphas_cumprod = torch.from_numpy(own.abar)
    made.final_alpha_cumprod = made.alphas_cumprod[0]
    if spec["config"].get("set_alpha_to_one"):
        made.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    choose = made.set_timesteps

    def set_timesteps(*args, **arguments):
        choose(*args, **arguments)
        own.set_timesteps(*args, **arguments)
        made.sigmas = torch.from_numpy(own.sigmas)

    made.set_timesteps = set_timesteps
    return made


def _make(spec, dtype, mode):
    made = getattr(diffusers, name_of(spec))(**spec["config"])
    made.harness_dtype = dtype
    if dtype == "float64" and spec["scheduler"] in SOLVERS:
        return _with_exact_levels(made, spec)
    if dtype == "float64":
        made.betas = torch.from_numpy(betas_of(spec["config"]))
        made.alphas = 1 - made.betas
        made.alphas_cumprod = torch.cumprod(made.alphas, 0)
        made.one = torch.ones((), dtype=torch.float64)
        made.final_alpha_cumprod = made.one if spec["config"].get("set_alpha_to_one", True) else made.alphas_cumprod[0]
    return made


@torch.no_grad()
def _step(made, output, time, x, noise, options):
    if isinstance(made, DDIMScheduler):
        return made.step(output, time, x, **options, variance_noise=noise, return_dict=False)
    place = f"{type(made).__module__}.randn_tensor"
    single = torch.float64 if made.harness_dtype == "float64" else torch.float32  # what they compute in
    with mock.patch(place, return_value=noise, create=True), mock.patch.object(torch, "float32", single):
        found = made.step(output, time, x, **options, return_dict=False)
    return found if len(found) == 2 else (*found, None)


def _variance(made, time, later):
    return float(made._get_variance(time) if later is None else made._get_variance(time, later))


KINDS = kinds(
    Side(
        make=_make,
        tensor=tensor,
        array=lambda value: value.numpy().copy(),
        step=_step,
        variance=_variance,
        times=lambda made: made.timesteps.tolist(),
    )
)
