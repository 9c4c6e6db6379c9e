"""Score models: SDEs, one step, losses, training, chains, likelihood."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from parity_tests.backends.shared_torch import kernels
from portparity.case import Arrays
from portparity.on_torch import DTYPES, arrays, load, tensor
from portparity.rounded_products import with_rounded_products
from torch_ref import optim
from torch_ref.systems.score import samplers as score_samplers
from torch_ref.systems.score import unet as score_unet
from torch_ref.systems.score.likelihood import log_likelihood, slope_and_divergence
from torch_ref.systems.score.model import PreconditionedScore, ScoreModel, per_image
from torch_ref.systems.score.sde import SDES
from torch_ref.train import train_step

from ..names import innermost

FUNCTIONS = ("marginal_prob_coeff", "marginal_prob_std", "drift_coeff", "diffusion_coeff")
NETWORKS = {"score_unet": score_unet.ScoreUnet, "conditional_score_unet": score_unet.ConditionalScoreUnet}


class StandIn(torch.nn.Module):
    """(bias + table[y] - gain x + mix x / (1 + x^2)) / (0.2 + std(t)^2), channel by channel."""

    def __init__(self, sde, channels: int, num_classes: int):
        super().__init__()
        self.sde = sde
        self.gain, self.bias, self.mix = (torch.nn.Parameter(torch.zeros(1, channels, 1, 1)) for _ in range(3))
        if num_classes:
            self.table = torch.nn.Parameter(torch.zeros(num_classes + 1, channels))

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """x (B, C, H, W), t (B,), y (B,)."""
        value = self.bias - self.gain * x + self.mix * x / (1 + x**2)
        if y is not None:
            value = value + self.table[y][:, :, None, None]
        return value / (0.2 + per_image(self.sde.marginal_prob_std(t)) ** 2)


def model_of(spec: Mapping, inputs: Arrays, dtype: str) -> ScoreModel:
    """The ScoreModel of ``spec`` with the given weights."""
    sde = SDES[spec["sde"]](**spec.get("sde_arguments", {}))
    classes = spec.get("num_classes", 0)
    if "net" in spec:
        net = NETWORKS[spec["net"]](sde.marginal_prob_std, **spec["arguments_of_net"])
    else:
        net = StandIn(sde, spec["channels"], classes)
    load(net, inputs, dtype)
    if "precondition" in spec:
        net = PreconditionedScore(net, sde, **spec["precondition"])
    return ScoreModel(net, sde, num_classes=classes)


def _maybe(inputs: Arrays, name: str, dtype: str) -> torch.Tensor | None:
    return tensor(inputs[name], dtype) if name in inputs else None


def sde(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The four functions at each of the times."""
    process, t = SDES[spec["sde"]](**spec.get("sde_arguments", {})), tensor(inputs["t"], dtype)
    values = {name: getattr(process, name)(t) for name in FUNCTIONS}
    return arrays({f"{n}[t={time:.3g}]": v[i] for n, v in values.items() for i, time in enumerate(inputs["t"])})


@torch.no_grad()
def score_step(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """One step of a sampler at each of ``spec["times"]``."""
    model, x, y = model_of(spec, inputs, dtype), tensor(inputs["x"], dtype), _maybe(inputs, "labels", dtype)
    f, g, score = score_samplers.functions_of(model, x, y, spec.get("scale", 1.0))
    dt, found = spec["dt"], {}
    for t in spec["times"]:
        if spec["step"] == "heun":
            x_next = score_samplers.heun_step(model, x, t, t * (1 - dt), y, spec.get("scale", 1.0))
        elif spec["step"] == "flow":
            x_next, divergence = slope_and_divergence(model, x, t, tensor(inputs["probe"], dtype), y)
            found[f"divergence[t={t:g}]"] = divergence.double()
        elif spec["step"] == "denoise":
            x_next = score_samplers.denoised(model, x, score(x, t), t)
        else:
            x_next = x
            if spec["step"].startswith("pc"):
                norm, noise = spec["step"].removeprefix("pc_"), tensor(inputs["corrector_noise"], dtype)
                x_next = score_samplers.corrected(model, x, score(x, t), noise, spec["snr"], t, dt, norm)
            x_next = x_next - (f(x_next, t) - g(t) ** 2 * score(x_next, t)) * dt
            x_next = x_next + g(t) * dt**0.5 * tensor(inputs["noise"], dtype)
        found[f"x_next[t={t:g}]"] = x_next.double() if spec["step"] == "flow" else x_next
    return arrays(found)


@kernels
def score_loss(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The loss and its gradients."""
    model = model_of(spec, inputs, dtype)
    img, t, z = (tensor(inputs[name], dtype) for name in ("img", "t", "z"))
    value = model(img, t, z, _maybe(inputs, "labels", dtype), _maybe(inputs, "dropped", dtype))
    trained = {innermost(name): p for name, p in model.net.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(value, list(trained.values()))
    return arrays({"loss": value} | {f"grad.weight.{n}": g for n, g in zip(trained, gradients, strict=True)})


@kernels
def score_train(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Free steps of Adam: loss and gradient norm of every one, the weights at the end."""
    model = model_of(spec, inputs, dtype)
    step = optim.Adam([p for p in model.parameters() if p.requires_grad], **spec["adam"])
    names = [name for name in ("img", "t", "z", "labels", "dropped") if name in inputs]
    log = []
    for i in range(len(inputs["img"])):
        batch = tuple(tensor(inputs[name][i], dtype) for name in names)
        log.append([float(v) for v in train_step(model, step, [batch], max_grad_norm=spec["max_grad_norm"])])
    losses, norms = np.array(log, np.float64 if dtype == "float64" else np.float32).T
    weights = {f"weight.{innermost(name)}": p for name, p in model.net.named_parameters() if p.requires_grad}
    return {"loss": losses.copy(), "grad_norm": norms.copy()} | arrays(weights)


@kernels
def score_chain(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The states between, and the images at the end."""
    model, tape = model_of(spec, inputs, dtype), [tensor(array, dtype) for array in inputs["tape"]]
    options = dict(spec["arguments"])
    options["guidance_scale"] = options.pop("scale", 1.0)
    states = score_samplers.SCORE_SAMPLERS[spec["sampler"]](
        model, tuple(tape[0].shape), noise=tape, y=_maybe(inputs, "labels", dtype), dtype=DTYPES[dtype], **options
    )
    if spec["sampler"] == "ode":
        return arrays({"images": states})
    return arrays({"chain": states[:-1], "images": states[-1]})


def score_likelihood(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """log p_0(x), nats."""
    model = model_of(spec, inputs, dtype)
    x, probe = (tensor(inputs[name], dtype) for name in ("x", "probe"))
    return arrays({"nats": log_likelihood(model, x, probe, **spec["arguments"])})


KINDS = {
    "sde": sde, "score_step": score_step, "score_loss": with_rounded_products(score_loss),
    "score_train": with_rounded_products(score_train),
    "score_chain": score_chain, "score_likelihood": score_likelihood,
}  # fmt: skip
