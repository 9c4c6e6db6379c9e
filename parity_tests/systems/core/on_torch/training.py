"""Tiers 4 to 6: losses, optimizer, averages, training runs, sampling chains, state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

import torch_ref
from parity_tests.backends.shared_torch import diffusion_of, kernels
from portparity.arrays import given
from portparity.case import Arrays
from portparity.on_torch import DTYPES, arrays, precision, tensor
from torch_ref import optim, samplers
from torch_ref.train import train_step


def loss(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """GaussianDiffusion's loss and its gradients."""
    diffusion = diffusion_of(spec, inputs, dtype)
    offset = tensor(inputs["offset_noise"], dtype) if "offset_noise" in inputs else None
    img, t, noise = (tensor(inputs[name], dtype) for name in ("img", "t", "noise"))
    value = diffusion(img, t, noise, bool(spec.get("self_cond", False)), offset)
    trained = dict(diffusion.model.named_parameters())
    gradients = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    outputs = {"loss": value}
    for (name, parameter), gradient in zip(trained.items(), gradients, strict=True):
        outputs[f"grad.weight.{name}"] = torch.zeros_like(parameter) if gradient is None else gradient
    return arrays(outputs)


def optimizer(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """An optimizer fed given gradients: the weights after every step of ``spec["shown"]``."""
    weights = {name: torch.nn.Parameter(tensor(value, dtype)) for name, value in given(inputs, "weight").items()}
    step = {"adam": optim.Adam, "adamw": optim.AdamW}[spec["optimizer"]](list(weights.values()), **spec["arguments"])
    outputs = {}
    for i in range(spec["steps"]):
        rate = spec["rates"][i] if "rates" in spec else None
        step.step([tensor(inputs[f"gradient.{name}"][i], dtype) for name in weights], rate)
        if i + 1 in spec["shown"]:
            outputs |= {f"{name}[step={i + 1}]": w.detach().clone() for name, w in weights.items()}
    return arrays(outputs)


def clip(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Gradients clipped by their global norm, and the norm."""
    gradients = {name: tensor(value, dtype) for name, value in given(inputs, "gradient").items()}
    clipped, norm = optim.clip_by_global_norm(list(gradients.values()), spec["max_norm"])
    return arrays(dict(zip(gradients, clipped, strict=True)) | {"norm": torch.as_tensor(norm, dtype=DTYPES[dtype])})


class Weights(torch.nn.Module):
    """A module that holds one vector of weights."""

    def __init__(self, size: int, dtype: torch.dtype):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(size, dtype=dtype))


@torch.no_grad()
def ema(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The averaged weights after the calls in ``spec["shown"]``, and what the model holds after a swap."""
    weights = Weights(inputs["w"].shape[1], DTYPES[dtype])
    average = torch_ref.EMA(weights, **spec["arguments"])
    outputs = {}
    for i, value in enumerate(inputs["w"]):
        weights.w.copy_(tensor(value, dtype))
        average.update()
        if i + 1 in spec["shown"]:
            outputs[f"average[call={i + 1}]"] = average.average["w"].clone()
            with average.swapped():
                outputs[f"swapped in[call={i + 1}]"] = weights.w.clone()
            outputs[f"swapped back[call={i + 1}]"] = weights.w.clone()
    return arrays(outputs)


def batches_of(spec: Mapping, inputs: Arrays, step: int, dtype: str) -> list[tuple]:
    """The (img, t, noise, self_cond, offset_noise) of the batches of one optimizer step."""
    n = spec.get("accumulate", 1)
    found = []
    for i in range(step * n, step * n + n):
        flag = bool(inputs["self_cond"][i]) if "self_cond" in inputs else False
        offset = tensor(inputs["offset_noise"][i], dtype) if "offset_noise" in inputs else None
        img, t, noise = (tensor(inputs[name][i], dtype) for name in ("img", "t", "noise"))
        found.append((img, t, noise, flag, offset))
    return found


@kernels
def train(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Free-running training: loss and gradient norm of every step, the weights and the average at the end."""
    diffusion = diffusion_of(spec, inputs, dtype)
    trained = [p for p in diffusion.parameters() if p.requires_grad]
    step = {"adam": optim.Adam, "adamw": optim.AdamW}[spec["optimizer"]](trained, **spec["arguments"])
    average = torch_ref.EMA(diffusion, **spec["ema"]) if "ema" in spec else None
    losses, norms = [], []

    def forward(*batch) -> torch.Tensor:  # backward stands outside of autocast
        with precision(dtype):
            return diffusion(*batch)

    for i in range(spec["steps"]):
        batches = batches_of(spec, inputs, i, dtype)
        scale = 1.0 if dtype == "float64" else spec.get("loss_scale", 1.0)
        value, norm = train_step(forward, step, batches, max_grad_norm=spec["max_grad_norm"], loss_scale=scale)
        if average is not None:
            average.update()
        losses.append(float(value))
        norms.append(float(norm))
    kind = np.float64 if dtype == "float64" else np.float32
    outputs = {"loss": np.array(losses, kind), "grad_norm": np.array(norms, kind)}
    outputs |= arrays({f"weight.{name}": p for name, p in diffusion.model.named_parameters() if p.requires_grad})
    if average is not None:
        outputs |= arrays({f"average.{name.removeprefix('model.')}": w for name, w in average.average.items()})
    return outputs


@kernels
@torch.no_grad()
def chain(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """A whole sampling chain from one noise tape, x_T first: (steps + 1, B, C, H, W)."""
    diffusion = diffusion_of(spec, inputs, dtype)
    tape = [tensor(array, dtype) for array in inputs["tape"]]
    sampler = {"ddpm": samplers.ddpm, "ddim": samplers.ddim, "sample": type(diffusion).sample}[spec["sampler"]]
    images = sampler(diffusion, tape[0].shape[0], noise=tape, return_all_timesteps=True, **spec.get("arguments", {}))
    return arrays({"chain": images.transpose(0, 1).contiguous()})


@torch.no_grad()
def interpolate(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Images between two."""
    diffusion = diffusion_of(spec, inputs, dtype)
    x1, x2 = (tensor(inputs[name], dtype) for name in ("x1", "x2"))
    tape = [tensor(array, dtype) for array in inputs["tape"]]
    return arrays({"images": diffusion.interpolate(x1, x2, spec["t"], spec["lam"], noise=tape)})


def loss_scale(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """PyTorch's own GradScaler: its scale after every step, of which ``inputs["finite"]`` had finite gradients."""
    scaler = torch.amp.GradScaler("cpu", **spec["arguments"])
    parameter = torch.nn.Parameter(torch.zeros(1))
    step, scales = torch.optim.SGD([parameter], lr=0.0), []
    scaler.scale(parameter.sum())  # which makes its tensors
    for finite in inputs["finite"]:
        parameter.grad = torch.full((1,), 1.0 if finite else torch.inf)
        scaler.step(step)
        scaler.update()
        scales.append(scaler.get_scale())
    return {"scale": np.array(scales, np.float32)}


def roundtrip(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The given weights into PyTorch's Unet, strictly, and out again."""
    net = torch_ref.Unet(**spec["unet"])
    net.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in given(inputs, "weight").items()}, strict=True)
    return arrays({f"weight.{name}": value for name, value in net.state_dict().items()})
