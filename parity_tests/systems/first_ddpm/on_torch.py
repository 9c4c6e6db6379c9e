"""torch_ref's FirstDDPM for the harness."""

from __future__ import annotations

from collections.abc import Mapping

import torch

import torch_ref
from parity_tests.backends.shared_torch import AffineModel
from portparity.case import Arrays
from portparity.on_torch import DTYPES, arrays, tensor


class _Network(AffineModel):
    """The stand-in gain x + bias, called with a time and nothing else."""

    def forward(self, x: torch.Tensor, t: torch.Tensor, x_self_cond: torch.Tensor | None = None) -> torch.Tensor:
        assert t.shape == x.shape[:1]
        return super().forward(x, t)


def _made(spec: Mapping, inputs: Arrays, dtype: str) -> torch_ref.FirstDDPM:
    channels = spec["arguments"]["image_chw"][0]
    network = _Network(channels, channels, False).to(DTYPES[dtype])
    if inputs:
        network.gain.data, network.bias.data = (tensor(inputs[f"weight.{name}"], dtype) for name in ("gain", "bias"))
    return torch_ref.FirstDDPM(network, **spec["arguments"], dtype=DTYPES[dtype])


def tables(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """betas, alphas, alpha_bars."""
    made = _made(spec, inputs, dtype)
    return arrays({name: getattr(made, name) for name in ("betas", "alphas", "alpha_bars")})


@torch.no_grad()
def methods(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """forward with t as (n,) and as (n, 1), and backward."""
    made = _made(spec, inputs, dtype)
    x0, t, eta = (tensor(inputs[name], dtype) for name in ("x0", "t", "eta"))
    column = t[:, None]
    return arrays({"forward": made(x0, t, eta), "column": made(x0, column, eta), "backward": made.backward(x0, column)})


@torch.no_grad()
def sample(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The images of a chain: torch_ref's own sampler around the same network and betas."""
    made, given = _made(spec, inputs, dtype), spec["arguments"]
    diffusion = torch_ref.GaussianDiffusion(
        made.network, image_size=tuple(given["image_chw"][1:]), timesteps=given["n_steps"], objective="pred_noise",
        beta_schedule="linear", dtype=DTYPES[dtype],
        schedule_fn_kwargs={"beta_start": given["min_beta"], "beta_end": given["max_beta"]},
    )  # fmt: skip
    tape = inputs["tape"]
    return arrays({"images": torch_ref.ddpm(diffusion, tape.shape[1], noise=tape)})


KINDS = {"first_ddpm_tables": tables, "first_ddpm_methods": methods, "first_ddpm_sample": sample}
