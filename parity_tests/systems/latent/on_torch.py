"""Batch normalisation, perceptual losses, the autoencoder and latent diffusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from parity_tests.backends.shared_torch import kernels
from parity_tests.systems.core.on_torch.nets import magnitudes
from portparity.case import Arrays
from portparity.on_torch import DTYPES, arrays, tensor, vjp
from portparity.rounded_products import with_rounded_products
from torch_ref import optim
from torch_ref.systems.latent import autoencoder, lpips
from torch_ref.systems.latent import model as latent
from torch_ref.systems.score.model import ScoreModel
from torch_ref.systems.score.samplers import euler, heun
from torch_ref.systems.score.sde import VESDE
from torch_ref.systems.score.unet import LatentScoreUnet


class UnitLength(nn.Module):
    """LPIPS's normalisation of features."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same."""
        return lpips.unit_length(x)


MODULES: dict[str, Callable[..., nn.Module]] = {
    "batch_norm": lambda dim: nn.BatchNorm2d(dim),
    "autoencoder": lambda channels, in_channels=1: autoencoder.AutoEncoder(channels, in_channels=in_channels),
    "fire": lambda **k: lpips.Fire(**k),
    "max_pool": lambda kernel, ceil: nn.MaxPool2d(kernel, stride=2, ceil_mode=ceil),
    "unit_length": UnitLength,
    "lpips": lambda net: lpips.LPIPS(net),
    "latent_net": lambda **k: LatentScoreUnet(VESDE(25.0).marginal_prob_std, **k),
}


def module_shapes(kind: str, arguments: Mapping) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a module's parameters and running statistics."""
    state = MODULES[kind](**arguments).state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}


def load(module: nn.Module, inputs: Arrays, dtype: str, prefix: str = "") -> None:
    """Puts the inputs called "weight.NAME" into the module's parameters and running statistics."""
    module.to(DTYPES[dtype])
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                value.copy_(tensor(inputs[f"weight.{prefix}{name}"], dtype))


def running(module: nn.Module) -> dict[str, torch.Tensor]:
    """The running statistics, under "running.NAME"."""
    state = module.state_dict()
    return {f"running.{name}": value.clone() for name, value in state.items() if "running_" in name}


def _module(spec: Mapping, inputs: Arrays, dtype: str) -> tuple:
    module = MODULES[spec["module"]](**spec["arguments"])
    load(module, inputs, dtype)
    module.train(bool(spec.get("training", False)))
    args = {name: tensor(inputs[name], dtype) for name in spec["calls"]}
    return module, args, tensor(inputs["cotangent"], dtype)


@kernels
def module(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """One module: its output, its vector-Jacobian product, and its running statistics after it."""
    made, args, cotangent = _module(spec, inputs, dtype)
    found = vjp(made, made, args, cotangent, spec["differentiable"], dtype)
    return found | arrays(running(made))


def module_scales(spec: Mapping, inputs: Arrays) -> Arrays:
    """The magnitudes of what the gradients of gains and biases are sums of."""
    made, args, cotangent = _module(spec, inputs, "float64")
    return magnitudes(made, made, args, cotangent)


def gradient_loss(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The gradient loss and its gradient."""
    x, y = (tensor(inputs[name], dtype) for name in ("x", "y"))
    loss = lpips.gradient_loss(x, y.requires_grad_())
    return arrays({"loss": loss, "grad.y": torch.autograd.grad(loss, y)[0]})


def latent_statistics(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Mean and deviation of latents, per channel and of all, and the latents normalised."""
    z = tensor(inputs["z"], "float64")  # as both sides keep them, whatever the model computes in
    mean, std = latent.channel_statistics(z)
    kept = {
        "mean": mean.flatten(), "std": std.flatten(), "scalar_mean": z.mean(), "scalar_std": z.std(correction=0),
    }  # fmt: skip
    kept = {name: value.to(DTYPES[dtype]) for name, value in kept.items()}
    normalised = (z.to(DTYPES[dtype]) - mean.to(DTYPES[dtype])) / std.to(DTYPES[dtype])
    return arrays({**kept, "normalised": normalised})


def _perceptual(spec: Mapping, inputs: Arrays, dtype: str) -> Callable | None:
    if spec["perceptual"] == "lpips":
        net = lpips.LPIPS("squeeze")
        load(net, inputs, dtype, "lpips.")
        return net
    return lpips.gradient_loss if spec["perceptual"] == "gradient" else None


@kernels
def train_autoencoder(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Steps of training from given batches: losses, norms, and weights and running statistics at the end."""
    net = autoencoder.AutoEncoder(**spec["arguments"])
    load(net, inputs, dtype)
    net.train()
    perceptual = _perceptual(spec, inputs, dtype)
    step = optim.Adam(list(net.parameters()), **spec["adam"])
    losses, norms = [], []
    for images in inputs["img"]:
        x = tensor(images, dtype)
        loss = autoencoder.autoencoder_loss(x, net(x), perceptual, spec["weight"])
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        gradients, norm = optim.clip_by_global_norm(list(gradients), spec["max_grad_norm"])
        step.step(gradients)
        losses.append(loss.item())
        norms.append(norm.item())
    kind = np.float64 if dtype == "float64" else np.float32
    found = {"loss": np.array(losses, kind), "grad_norm": np.array(norms, kind)}
    return found | arrays({f"weight.{name}": p for name, p in net.named_parameters()}) | arrays(running(net))


@kernels
def autoencoder_loss(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The training loss of one batch and its gradients."""
    net = autoencoder.AutoEncoder(**spec["arguments"])
    load(net, inputs, dtype)
    net.train()
    x = tensor(inputs["img"], dtype)
    loss = autoencoder.autoencoder_loss(x, net(x), _perceptual(spec, inputs, dtype), spec["weight"])
    trained = dict(net.named_parameters())
    gradients = torch.autograd.grad(loss, list(trained.values()))
    return arrays({"loss": loss, **{f"grad.weight.{n}": g for n, g in zip(trained, gradients, strict=True)}})


def loss_scales(spec: Mapping, inputs: Arrays) -> Arrays:
    """The magnitudes of what the gradients of `autoencoder_loss` are sums of."""
    net = autoencoder.AutoEncoder(**spec["arguments"])
    load(net, inputs, "float64")
    net.train()
    x = tensor(inputs["img"], "float64")
    perceptual = _perceptual(spec, inputs, "float64")

    def call(x: torch.Tensor) -> torch.Tensor:
        return autoencoder.autoencoder_loss(x, net(x), perceptual, spec["weight"])

    return magnitudes(call, net, {"x": x}, torch.ones((), dtype=torch.float64))


def _latent_diffusion(spec: Mapping, inputs: Arrays, dtype: str) -> latent.LatentDiffusion:
    net, ae = MODULES["latent_net"](**spec["net"]), MODULES["autoencoder"](**spec["autoencoder"])
    load(net, inputs, dtype, "net.")
    load(ae, inputs, dtype, "autoencoder.")
    mean, std = (tensor(inputs[name], dtype).reshape(1, -1, 1, 1) for name in ("mean", "std"))
    return latent.LatentDiffusion(ScoreModel(net, VESDE(25.0), num_classes=spec["net"]["num_classes"]), ae, mean, std)


@kernels
def latent_loss(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The loss of latent diffusion and the gradients of its network."""
    diffusion = _latent_diffusion(spec, inputs, dtype)
    loss = diffusion(*(tensor(inputs[name], dtype) for name in ("z", "t", "noise", "labels")))
    trained = {name: p for name, p in diffusion.model.net.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(trained.values()))
    return arrays({"loss": loss, **{f"grad.weight.{n}": g for n, g in zip(trained, gradients, strict=True)}})


SAMPLERS = {"euler": euler, "heun": heun}


@torch.no_grad()
@kernels
def latent_chain(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """A chain in latent space from one tape, every state of it decoded: (steps + 1, B, C, H, W)."""
    diffusion = _latent_diffusion(spec, inputs, dtype)
    tape = [tensor(array, dtype) for array in inputs["tape"]]
    z = SAMPLERS[spec["sampler"]](
        diffusion.model, tuple(tape[0].shape), noise=tape, steps=spec["steps"], y=tensor(inputs["labels"], dtype),
        dtype=DTYPES[dtype],
    )  # fmt: skip
    return arrays({"images": diffusion.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])})


KINDS = {
    "module_scales": module_scales, "autoencoder_loss_scales": loss_scales, "gradient_loss": gradient_loss,
    "latent_statistics": latent_statistics,
    **{run.__name__: with_rounded_products(run)
       for run in (module, train_autoencoder, autoencoder_loss, latent_loss, latent_chain)},
}  # fmt: skip
