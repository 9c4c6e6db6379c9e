"""Batch normalisation, perceptual losses, the autoencoder and latent diffusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, nn

from ms_ddpm.models import lpips
from ms_ddpm.models.autoencoder import AutoEncoder
from ms_ddpm.models.conditional_unet import LatentScoreUnet
from ms_ddpm.nn import norms
from ms_ddpm.nn.sde import VESDE
from ms_ddpm.ops.assign import set_value
from ms_ddpm.systems.autoencoder.image_autoencoder import ImageAutoencoder
from ms_ddpm.systems.autoencoder.perceptual import GradientLoss, PerceptualLoss
from ms_ddpm.systems.latent.latent_diffusion import LatentDiffusion
from ms_ddpm.systems.latent.latents import Statistics
from ms_ddpm.systems.score.score_model import ScoreModel
from ms_ddpm.training.amp import DynamicLossScale
from ms_ddpm.training.optim import OPTIMIZERS
from ms_ddpm.training.train_step import TrainStep
from parity_tests.backends.shared_mindspore import RNG, product_mode
from portparity.case import Arrays
from portparity.memo import memo
from portparity.on_mindspore import arrays, as_graph, load, tensor, vjp, with_gradients


class UnitLength(nn.Cell):
    """LPIPS's normalisation of features."""

    def construct(self, x):
        return lpips.unit_length(x)


def _rng() -> np.random.Generator:
    return np.random.default_rng(RNG)


MODULES: dict[str, Callable[..., nn.Cell]] = {
    "batch_norm": lambda dim: norms.BatchNorm2d(dim),
    "autoencoder": lambda **k: AutoEncoder(**k, rng=RNG),
    "fire": lambda dim, squeeze, expand: lpips.Fire(dim, squeeze, expand, _rng()),
    "max_pool": lambda kernel, ceil: lpips.MaxPool(kernel, ceil),
    "unit_length": UnitLength,
    "lpips": lambda net: lpips.LPIPS(net, rng=RNG),
    "latent_net": lambda **k: LatentScoreUnet(VESDE(25.0).marginal_prob_std, **k, rng=RNG, use_kernels=False),
}


def named(cell: nn.Cell, prefix: str = "") -> dict[str, str]:
    """Our parameter names -> PyTorch's, which are the same, after ``prefix``."""
    return {name: prefix + name for name, _ in cell.parameters_and_names()}


def running(cell: nn.Cell) -> dict[str, np.ndarray]:
    """The running statistics, under "running.NAME"."""
    return {f"running.{n}": p.asnumpy().copy() for n, p in cell.parameters_and_names() if "running_" in n}


def module(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """One module: its output, its vector-Jacobian product, and its running statistics after it."""
    positions, training = tuple(spec["differentiable"]), bool(spec.get("training", False))

    def build():
        cell = MODULES[spec["module"]](**spec["arguments"])

        def call(*args):
            return cell(*args)

        return cell, with_gradients(call, cell, positions, mode)

    cell, call = memo(build, "mindspore module", spec["module"], spec["arguments"], positions, training, mode)
    cell.set_train(training)
    load(cell, inputs, named(cell))
    args = [(name, tensor(inputs[name])) for name in spec["calls"]]
    return vjp(call, cell, args, tensor(inputs["cotangent"]), named(cell), positions) | running(cell)


def gradient_loss(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The gradient loss and its gradient."""
    call = memo(lambda: as_graph(ms.value_and_grad(GradientLoss(), 1), mode), "mindspore gradient loss", mode)
    value, gradient = call(tensor(inputs["x"]), tensor(inputs["y"]))
    return arrays({"loss": value, "grad.y": gradient})


def latent_statistics(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """Mean and deviation of latents, per channel and of all, and the latents normalised."""
    found = Statistics.of(inputs["z"])
    diffusion = latent_diffusion(spec, {"mean": found.mean, "std": found.std})
    call = memo(lambda: as_graph(_normalised_of(diffusion), mode), "mindspore normalised", mode, spec)
    kept = {name: np.asarray(getattr(found, name), np.float32) for name in ("mean", "std", "scalar_mean", "scalar_std")}
    return {**kept, **arrays({"normalised": call(tensor(inputs["z"]))})}


def _normalised_of(diffusion: LatentDiffusion) -> Callable:
    def normalised(z):
        return diffusion.normalised(z)

    return normalised


def image_autoencoder(spec: Mapping, inputs: Arrays, mode: str) -> ImageAutoencoder:
    """The training Cell of ``spec``, its weights the given ones."""

    def build():
        kind = spec["perceptual"]
        perceptual = PerceptualLoss(lpips.LPIPS("squeeze", rng=RNG)) if kind == "lpips" else None
        net = AutoEncoder(**spec["arguments"], rng=RNG)
        return ImageAutoencoder(
            net, image_size=spec["side"], perceptual=GradientLoss() if kind == "gradient" else perceptual,
            perceptual_weight=spec["weight"],
        )  # fmt: skip

    cell = memo(build, "mindspore autoencoder", spec, mode).set_train(True)
    load(cell.net, inputs, named(cell.net))
    if spec["perceptual"] == "lpips":
        load(cell.perceptual.lpips, inputs, named(cell.perceptual.lpips, "lpips."))
    return cell


def autoencoder_loss(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The training loss of one batch and its gradients."""
    cell = image_autoencoder(spec, inputs, mode)
    trained = ParameterTuple(cell.trainable_params())

    def build():
        def value(images):
            return cell(images)

        return as_graph(ms.value_and_grad(value, None, trained), mode)

    value, gradients = memo(build, "mindspore autoencoder loss", spec, mode)(tensor(inputs["img"]))
    ours = {id(p): name for name, p in cell.net.parameters_and_names()}
    found = {f"grad.weight.{ours[id(p)]}": g for p, g in zip(trained, gradients, strict=True)}
    return arrays({"loss": value, **found})


def train_autoencoder(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """Steps of training by `TrainStep`: losses, norms, and weights and running statistics at the end."""
    cell = image_autoencoder(spec, inputs, mode)
    with product_mode(mode):
        optimizer = OPTIMIZERS["adam"](cell.trainable_params(), **spec["adam"])
        scaler = DynamicLossScale(enabled=False)
        update = TrainStep(cell, optimizer, scaler, max_grad_norm=spec["max_grad_norm"], accumulate=1)
        log = [tuple(update(spec["adam"]["lr"], [(images,)]))[:2] for images in inputs["img"]]
    losses, norms = np.array(log, np.float32).T
    weights = {f"weight.{n}": p.asnumpy().copy() for n, p in cell.net.parameters_and_names() if "running_" not in n}
    return {"loss": losses.copy(), "grad_norm": norms.copy(), **weights, **running(cell.net)}


def latent_diffusion(spec: Mapping, inputs: Arrays, mode: str = "graph") -> LatentDiffusion:
    """The latent diffusion of ``spec``, with the statistics and what weights are given."""

    def build():
        classes, side = spec["net"]["num_classes"], spec["side"]
        ae = ImageAutoencoder(MODULES["autoencoder"](**spec["autoencoder"]), image_size=side)
        channels, *image_size = ae.latent_shape
        net = MODULES["latent_net"](**spec["net"])
        model = ScoreModel(net, VESDE(25.0), image_size=tuple(image_size), channels=channels, num_classes=classes)
        return LatentDiffusion(model, ae)

    diffusion = memo(build, "mindspore latent diffusion", spec, mode)
    if any(name.startswith("weight.") for name in inputs):
        net, ae = diffusion.model.net, diffusion.autoencoder.net
        load(net, inputs, named(net, "net."))
        load(ae, inputs, named(ae, "autoencoder."))
    for parameter, name in ((diffusion.latent_mean, "mean"), (diffusion.latent_std, "std")):
        set_value(parameter, np.asarray(inputs[name], np.float32))
    return diffusion


def latent_loss(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The loss of latent diffusion and the gradients of its network."""
    diffusion = latent_diffusion(spec, inputs, mode).set_train(True)
    trained = ParameterTuple(diffusion.trainable_params())

    def build():
        def value(*batch):
            return diffusion(*batch)

        return as_graph(ms.value_and_grad(value, None, trained), mode)

    call = memo(build, "mindspore latent loss", spec, mode)
    value, gradients = call(*(tensor(inputs[name]) for name in ("z", "labels", "t", "noise")))
    ours = {id(p): name for name, p in diffusion.model.net.parameters_and_names()}
    found = {f"grad.weight.{ours[id(p)]}": g for p, g in zip(trained, gradients, strict=True)}
    return arrays({"loss": value, **found})


def latent_chain(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """A chain in latent space from one tape, every state of it decoded: (steps + 1, B, C, H, W)."""
    with product_mode(mode):
        diffusion = latent_diffusion(spec, inputs, mode)
        images: Tensor = diffusion.sample(
            inputs["tape"].shape[1], sampler=spec["sampler"], steps=spec["steps"], labels=inputs["labels"],
            noise=list(inputs["tape"]), return_all_timesteps=True,
        )  # fmt: skip
    return {"images": np.swapaxes(images.asnumpy(), 0, 1).copy()}


KINDS = {
    run.__name__: run
    for run in (
        module, gradient_loss, latent_statistics, autoencoder_loss, train_autoencoder, latent_loss, latent_chain
    )
}  # fmt: skip
