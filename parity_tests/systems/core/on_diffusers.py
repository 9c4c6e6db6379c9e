"""huggingface/diffusers: its DDPMScheduler and DDIMScheduler, driven by the specs that drive the other backends.

A scheduler computes its tables in float32. ``dtype`` "float32" takes it as it is installed; "float64" replaces the
tables by ours in double and computes in double, which shows whether its formulas are ours, whatever it rounds.
Noise comes from the inputs: where a scheduler draws it itself, its ``randn_tensor`` is replaced for that call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from unittest import mock

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from parity_tests import oracle
from parity_tests.backends.shared_torch import AffineModel
from portparity.arrays import by_time
from portparity.case import Arrays
from portparity.on_torch import arrays, load, tensor

OBJECTIVES = {"pred_noise": "epsilon", "pred_x0": "sample", "pred_v": "v_prediction"}
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}


def scheduler_of(kind: type, spec: Mapping, dtype: str = "float32", **options) -> DDPMScheduler | DDIMScheduler:
    """The scheduler of class ``kind`` that a GaussianDiffusion's ``spec["diffusion"]`` describes."""
    diffusion = spec["diffusion"]
    name, arguments = diffusion["beta_schedule"], diffusion.get("schedule_fn_kwargs", {})
    steps = diffusion.get("timesteps", 1000)
    made = kind(
        num_train_timesteps=steps,
        beta_schedule=SCHEDULES[name],
        prediction_type=OBJECTIVES[diffusion.get("objective", "pred_v")],
        **arguments,
        **options,
    )
    if dtype == "float64":
        made.betas = torch.from_numpy(oracle.beta_schedule(name, steps, **arguments))
        made.alphas = 1 - made.betas
        made.alphas_cumprod = torch.cumprod(made.alphas, 0)
        if kind is DDPMScheduler:
            made.one = torch.ones((), dtype=torch.float64)
        else:
            to_one = options.get("set_alpha_to_one", True)
            made.final_alpha_cumprod = torch.ones((), dtype=torch.float64) if to_one else made.alphas_cumprod[0]
    return made


def model_of(spec: Mapping, inputs: Arrays, dtype: str) -> AffineModel:
    """The stand-in network, with the given weights."""
    model = AffineModel(*spec["affine"])
    load(model, inputs, dtype)
    return model


def ddpm_step(scheduler: DDPMScheduler, output: Tensor, time: int, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """(x_{t-1}, x_0) of one step with this noise."""
    with mock.patch("diffusers.schedulers.scheduling_ddpm.randn_tensor", return_value=noise):
        return scheduler.step(output, time, x, return_dict=False)


def _ddpm(spec: Mapping, dtype: str, *, clip: bool) -> DDPMScheduler:
    channels, out_dim, _ = spec["affine"]
    learned = {"variance_type": "learned_range"} if out_dim == 2 * channels else {}
    return scheduler_of(DDPMScheduler, spec, dtype, clip_sample=clip, **learned)


def _p_sample(spec: Mapping, inputs: Arrays, dtype: str) -> dict[str, Tensor]:
    scheduler, x, noise = _ddpm(spec, dtype, clip=True), tensor(inputs["x"], dtype), tensor(inputs["noise"], dtype)
    output = model_of(spec, inputs, dtype)(x, tensor(inputs["t"], dtype))
    rows = [
        ddpm_step(scheduler, output[i, None], int(t), x[i, None], noise[i, None]) for i, t in enumerate(inputs["t"])
    ]
    return {"x_prev": torch.cat([row[0] for row in rows]), "x_start": torch.cat([row[1] for row in rows])}


def _p_mean_variance(spec: Mapping, inputs: Arrays, dtype: str) -> dict[str, Tensor]:
    """The mean is a step without noise; a learned_range variance comes as its logarithm."""
    scheduler, x = _ddpm(spec, dtype, clip=spec["constants"]["clip_denoised"]), tensor(inputs["x"], dtype)
    output = model_of(spec, inputs, dtype)(x, tensor(inputs["t"], dtype))
    channels, found = x.shape[1], {"mean": [], "variance": [], "log_variance": [], "x_start": []}
    for i, time in enumerate(inputs["t"].tolist()):
        mean, x_start = ddpm_step(scheduler, output[i, None], time, x[i, None], torch.zeros_like(x[i, None]))
        if output.shape[1] == channels:
            variance = scheduler._get_variance(time).reshape(1, 1, 1, 1)
            log_variance = variance.log()
        else:
            log_variance = scheduler._get_variance(time, output[i, None, channels:])
            variance = log_variance.exp()
        for name, value in zip(found, (mean, variance, log_variance, x_start), strict=True):
            found[name].append(value)
    return {name: torch.cat(values) for name, values in found.items()}


def _q_sample(spec: Mapping, inputs: Arrays, dtype: str) -> dict[str, Tensor]:
    x_start, t, noise = (tensor(inputs[name], dtype) for name in ("x_start", "t", "noise"))
    return {"x_t": scheduler_of(DDPMScheduler, spec, dtype).add_noise(x_start, noise, t)}


def _predict_v(spec: Mapping, inputs: Arrays, dtype: str) -> dict[str, Tensor]:
    x_start, t, noise = (tensor(inputs[name], dtype) for name in ("x_start", "t", "noise"))
    return {"v": scheduler_of(DDPMScheduler, spec, dtype).get_velocity(x_start, noise, t)}


METHODS: dict[str, Callable] = {
    "p_sample": _p_sample, "p_mean_variance": _p_mean_variance, "q_sample": _q_sample, "predict_v": _predict_v,
}  # fmt: skip


@torch.no_grad()
def method(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """What corresponds to one method of GaussianDiffusion, image by image."""
    return by_time(arrays(METHODS[spec["method"]](spec, inputs, dtype)), inputs["t"])


@torch.no_grad()
def ddim_step(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """DDIM steps between the pairs of times in ``spec["pairs"]``.

    ``spec["rederive"]`` (default true, as ours): eps again from the clipped x_0, use_clipped_model_output.
    ``spec["final"]`` (default "one"): abar behind the last step, "one" or "first" (abar_0), set_alpha_to_one.
    """
    scheduler = scheduler_of(
        DDIMScheduler, spec, dtype, clip_sample=spec.get("clip", True),
        set_alpha_to_one=spec.get("final", "one") == "one",
    )  # fmt: skip
    x, noise = (tensor(inputs[name], dtype) for name in ("x", "noise"))
    model, outputs = model_of(spec, inputs, dtype), {}
    for time, time_next in spec["pairs"]:
        scheduler.num_inference_steps = scheduler.config.num_train_timesteps // (time - time_next)
        output = model(x, torch.full((len(x),), time))
        x_next, x_start = scheduler.step(
            output, time, x, spec["eta"], use_clipped_model_output=spec.get("rederive", True), variance_noise=noise,
            return_dict=False,
        )  # fmt: skip
        outputs |= {f"x_next[t={time}]": x_next, f"x_start[t={time}]": x_start}
    return arrays(outputs)


@torch.no_grad()
def chain(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """A whole sampling chain from one noise tape, x_T first: (steps + 1, B, C, H, W), in [-1, 1].

    DDIM in "trailing" spacing: where the steps divide T, those are the times of ours.
    """
    model, tape = model_of(spec, inputs, dtype), [tensor(array, dtype) for array in inputs["tape"]]
    x, frames = tape[0], [tape[0]]
    if spec["sampler"] == "ddpm":
        scheduler = _ddpm(spec, dtype, clip=True)
    else:
        scheduler = scheduler_of(DDIMScheduler, spec, dtype, timestep_spacing="trailing")
        scheduler.set_timesteps(spec["arguments"]["steps"])
    for i, time in enumerate(scheduler.timesteps.tolist(), 1):
        noise = tape[i] if i < len(tape) else torch.zeros_like(x)
        output = model(x, torch.full((len(x),), time))
        if spec["sampler"] == "ddpm":
            x, _ = ddpm_step(scheduler, output, time, x, noise)
        else:
            x, _ = scheduler.step(
                output, time, x, spec["arguments"]["eta"], use_clipped_model_output=True, variance_noise=noise,
                return_dict=False,
            )  # fmt: skip
        frames.append(x)
    return arrays({"chain": torch.stack(frames)})


def tables(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Its betas and alphas_cumprod."""
    scheduler = scheduler_of(DDPMScheduler, spec, dtype)
    return arrays({"betas": scheduler.betas, "alphas_cumprod": scheduler.alphas_cumprod})


def times(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Its DDIM times in "trailing" spacing for every number of steps in ``spec["steps"]``, and -1 behind them."""
    scheduler, found = DDIMScheduler(spec["timesteps"], timestep_spacing="trailing"), {}
    for steps in spec["steps"]:
        scheduler.set_timesteps(steps)
        found[f"S={steps}"] = np.array([*scheduler.timesteps.tolist(), -1], np.int64)
    return found


KINDS = {"tables": tables, "times": times, "method": method, "ddim_step": ddim_step, "chain": chain}
