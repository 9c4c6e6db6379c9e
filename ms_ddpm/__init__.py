"""ms_ddpm: diffusion models in MindSpore that compute what PyTorch computes.

``import ms_ddpm`` is cheap: a public name is loaded, and MindSpore with it, when it is first used. The rooms:

    systems/      what can be trained by name; one folder each, and the contract that they keep
    training/     samplers/   schedulers/
    models/       whole networks            nn/     their layers
    ops/          what MindSpore lacks, and kernels for the CPU
    maths/        formulas in float64 numpy
    data/  storage/  devices/  metrics/  pictures/  config/
    cli/          the commands

An arrow of imports points down this list; tests/test_imports.py holds it.
"""

from __future__ import annotations

import importlib

from . import _moved
from .ops import compile_cache

__version__ = "0.1.0"

_HOME = {
    "Unet": "models.unet",
    "GaussianDiffusion": "systems.diffusion.gaussian_diffusion",
    "AutoencoderKL": "models.autoencoder_kl",
    "BasicNet": "models.basic",
    "CLIPTextModel": "models.clip_text",
    "CLIPTokenizer": "data.tokenizer",
    "Corruption": "systems.corruption.corruption",
    "LatentDiffusion": "systems.latent.latent_diffusion",
    "ScoreModel": "systems.score.score_model",
    "SubVPSDE": "nn.sde",
    "VESDE": "nn.sde",
    "VPSDE": "nn.sde",
    "EMA": "training.ema",
    "FirstDDPM": "systems.diffusion.first_ddpm",
    "Trainer": "training.trainer",
    "Adam": "training.optim",
    "AdamW": "training.optim",
    "DDPMScheduler": "schedulers",
    "DDIMScheduler": "schedulers",
    "DPMSolverMultistepScheduler": "schedulers",
    "EulerAncestralDiscreteScheduler": "schedulers",
    "EulerDiscreteScheduler": "schedulers",
    "PNDMScheduler": "schedulers",
    "UniPCMultistepScheduler": "schedulers",
    "DDIMPipeline": "pipelines",
    "DDPMPipeline": "pipelines",
    "StableDiffusionPipeline": "pipelines",
    "UNet2DConditionModel": "models.unet_2d_condition",
    "UNet2DModel": "models.unet_2d",
    "UserError": "errors",
    "export": "models.mindir",
}
# Modules that are names of the package too, `ms_ddpm.schedules`, and where they are.
_WITHOUT_MINDSPORE = {
    "checkpoint": "storage.checkpoint", "cli": "cli", "colours": "config.colours", "config": "config",
    "config_systems": "config.limits", "data": "data", "errors": "errors", "evaluation": "metrics.evaluation",
    "files": "storage.files", "given": "data.given", "images": "pictures.images", "labels": "data.labels",
    "lr_schedules": "training.lr_schedules", "origin": "storage.origin", "random": "maths.random",
    "runs": "training.runs", "runtime": "devices.runtime", "schedules": "maths.schedules", "sources": "data.sources",
}  # fmt: skip
_MODULES = _WITHOUT_MINDSPORE | {
    "amp": "training.amp", "autoencoder": "systems.autoencoder.image_autoencoder", "convert": "storage.convert",
    "corruption": "systems.corruption.corruption", "diffusion": "systems.diffusion.gaussian_diffusion",
    "ema": "training.ema", "first_ddpm": "systems.diffusion.first_ddpm", "latent": "systems.latent.latent_diffusion",
    "latents": "systems.latent.latents", "likelihood": "nn.likelihood", "mindir": "models.mindir",
    "nets": "models", "nn": "nn", "models": "models", "ops": "ops", "optim": "training.optim",
    "perceptual": "systems.autoencoder.perceptual", "recipes": "systems.recipes", "samplers": "samplers",
    "sampling": "samplers.drawing", "schedulers": "schedulers", "score": "systems.score.score_model",
    "score_likelihood": "samplers.likelihood", "score_samplers": "samplers.score", "sde": "nn.sde",
    "train_step": "training.train_step", "trainer": "training.trainer", "weights": "storage.weights",
}  # fmt: skip
__all__ = [*_HOME, *sorted(_MODULES)]


_moved.install()
compile_cache.switch_off()  # whatever is imported next, and whoever compiles it


def __getattr__(name: str):
    home = _HOME.get(name) or _MODULES.get(name)
    if home is None:
        raise AttributeError(f"module 'ms_ddpm' has no attribute {name!r}")
    if name not in _WITHOUT_MINDSPORE and name != "UserError":
        _prepare()
    module = importlib.import_module(f".{home}", __name__)
    return getattr(module, name) if name in _HOME else module


def _prepare() -> None:
    """The CPU repairs of `runtime`, for those who use the library without calling `runtime.setup`."""
    from .devices import runtime

    runtime.prepare_library()


def __dir__():
    return sorted({*globals(), *__all__})
