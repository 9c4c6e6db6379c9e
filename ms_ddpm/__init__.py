"""ms_ddpm: diffusion models in MindSpore that compute what PyTorch computes.

``import ms_ddpm`` is cheap: a public name is loaded, and MindSpore with it, when it is first used.
"""

from __future__ import annotations

import importlib

from .ops import compile_cache

__version__ = "0.1.0"

_HOME = {
    "Unet": "nets.unet",
    "GaussianDiffusion": "diffusion",
    "BasicNet": "nets.basic",
    "Corruption": "corruption",
    "LatentDiffusion": "latent",
    "ScoreModel": "score",
    "SubVPSDE": "sde",
    "VESDE": "sde",
    "VPSDE": "sde",
    "EMA": "ema",
    "FirstDDPM": "first_ddpm",
    "Trainer": "trainer",
    "Adam": "optim",
    "AdamW": "optim",
    "DDPMScheduler": "schedulers",
    "DDIMScheduler": "schedulers",
    "UserError": "errors",
    "export": "mindir",
}
_WITHOUT_MINDSPORE = {
    "checkpoint", "cli", "colours", "config", "config_systems", "data", "errors", "evaluation", "files", "given",
    "images", "labels", "lr_schedules", "origin", "random", "runs", "runtime", "schedules", "sources",
}  # fmt: skip
_MODULES = _WITHOUT_MINDSPORE | {
    "amp", "autoencoder", "convert", "corruption", "diffusion", "ema", "first_ddpm", "latent", "latents",
    "likelihood", "mindir", "nets", "ops", "optim", "perceptual", "recipes", "samplers", "sampling", "schedulers",
    "score", "score_likelihood", "score_samplers", "sde", "train_step", "trainer", "weights",
}  # fmt: skip
_WITHIN = {"score_likelihood": "samplers.likelihood", "score_samplers": "samplers.score"}  # modules by another path
__all__ = [*_HOME, *sorted(_MODULES)]


compile_cache.switch_off()  # whatever is imported next, and whoever compiles it


def __getattr__(name: str):
    home = _HOME.get(name, _WITHIN.get(name, name) if name in _MODULES else None)
    if home is None:
        raise AttributeError(f"module 'ms_ddpm' has no attribute {name!r}")
    if home not in _WITHOUT_MINDSPORE:
        _prepare()
    module = importlib.import_module(f".{home}", __name__)
    return getattr(module, name) if name in _HOME else module


def _prepare() -> None:
    """The CPU repairs of `runtime`, for those who use the library without calling `runtime.setup`."""
    from . import runtime

    runtime.prepare_library()


def __dir__():
    return sorted({*globals(), *__all__})
