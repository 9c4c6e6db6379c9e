"""From a configuration to the objects it names."""

from __future__ import annotations

import importlib
from pathlib import Path

from mindspore import nn

from . import checkpoint, data, sizes
from .config import Config, from_mapping
from .diffusion import GaussianDiffusion
from .errors import UserError, quoted
from .nets.unet import Unet
from .ops.assign import set_parameters
from .random import Stream, stream
from .weights import read_weights


def image_shape(config: Config) -> tuple[int, int]:
    """(height, width) of the configuration's images."""
    return sizes.image_sides(config)


def build_diffusion(config: Config) -> GaussianDiffusion:
    """The U-Net and diffusion of ``config``, with the initial weights of its seed.

    Raises UserError for a configuration of another system, and for sizes that do not fit.
    """
    if config.system != "diffusion":
        raise UserError(f"the configuration is of the system {config.system}; this takes the system diffusion alone")
    sizes.check_network(config)
    unet = Unet(
        config.dim,
        init_dim=config.init_dim,
        dim_mults=tuple(config.dim_mults),
        channels=config.channels,
        self_condition=config.self_condition,
        learned_variance=config.learned_variance,
        learned_sinusoidal_cond=config.learned_sinusoidal_cond,
        random_fourier_features=config.random_fourier_features,
        learned_sinusoidal_dim=config.learned_sinusoidal_dim,
        sinusoidal_pos_emb_theta=config.sinusoidal_pos_emb_theta,
        dropout=config.dropout,
        attn_dim_head=config.attn_dim_head,
        attn_heads=config.attn_heads,
        full_attn=config.full_attn,
        flash_attn=config.flash_attn,
        norm=config.norm,
        downsample=config.downsample,
        rng=stream(config.seed, Stream.WEIGHTS),
    )
    return GaussianDiffusion(
        unet,
        image_size=image_shape(config),
        timesteps=config.timesteps,
        sampling_timesteps=config.sampling_timesteps,
        objective=config.objective,
        beta_schedule=config.beta_schedule,
        schedule_fn_kwargs=config.schedule_fn_kwargs,
        loss_type=config.loss_type,
        ddim_sampling_eta=config.ddim_sampling_eta,
        rederive_pred_noise=config.rederive_pred_noise,
        offset_noise_strength=config.offset_noise_strength,
        min_snr_loss_weight=config.min_snr_loss_weight,
        min_snr_gamma=config.min_snr_gamma,
        p2_loss_weight_gamma=config.p2_loss_weight_gamma,
        p2_loss_weight_k=config.p2_loss_weight_k,
        immiscible=config.immiscible,
    )


def config_of(path: Path) -> Config:
    """The configuration inside a checkpoint directory."""
    state = checkpoint.read_state(path)
    if not isinstance(state.get("config"), dict):
        reason = state.get("no_config")
        reason = f": {quoted(reason)}" if isinstance(reason, str) else ""
        raise UserError(
            f"checkpoint {path} holds no configuration to build its model from{reason}; build it in Python, and "
            "ms_ddpm.weights.load_weights(cell, path) gives it these weights"
        )
    return Config(**from_mapping(state["config"], f"checkpoint {path}"))


BUILDERS = {  # of the systems but the first: module and function
    "score": ("score", "build_score"),
    "corruption": ("corruption", "build_corruption"),
    "autoencoder": ("autoencoder", "build_autoencoder"),
    "latent": ("latent", "build_latent"),
}


def build(config: Config) -> nn.Cell:
    """What ``config`` trains, with the initial weights of its seed: a Cell with ``draw`` and ``construct``."""
    if config.system == "diffusion":
        return build_diffusion(config)
    module, function = BUILDERS[config.system]
    return getattr(importlib.import_module(f"{__package__}.{module}"), function)(config)


def open_data(config: Config, cell: nn.Cell) -> data.ImageSource:
    """The images, or what the Cell makes of them, that ``config`` trains on.

    Raises UserError where the data set cannot be read or does not fit.
    """
    if hasattr(cell, "open_data"):
        return cell.open_data(config)
    return data.open_configured(config)


def load(path: Path, weights: str = "ema") -> tuple[nn.Cell, Config]:
    """The Cell of a checkpoint directory of any system, with its ``ema`` (averaged) or ``model`` weights.

    Raises UserError where the checkpoint is damaged or does not fit its own configuration.
    """
    config = config_of(path)
    found = read_weights(path, weights)
    try:
        cell = build(config)
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from None
    set_parameters(cell, found.arrays, f"checkpoint {path}")
    return cell, config
