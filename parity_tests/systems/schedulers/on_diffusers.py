"""diffusers' own schedulers, driven like ours; "float64" replaces their float32 tables by the oracle's."""

from __future__ import annotations

from unittest import mock

import torch
from diffusers import DDIMScheduler, DDPMScheduler

from portparity.on_torch import tensor

from .driver import Side, kinds
from .oracle import betas_of

CLASSES = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}


def _make(spec, dtype, mode):
    made = CLASSES[spec["scheduler"]](**spec["config"])
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
    with mock.patch("diffusers.schedulers.scheduling_ddpm.randn_tensor", return_value=noise):
        return made.step(output, time, x, return_dict=False)


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
