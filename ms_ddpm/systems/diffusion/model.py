"""From the configuration of the system diffusion to its Cell."""

from __future__ import annotations

from ...config import image_sides
from ...maths.random import Stream, stream
from ...models.unet import Unet
from ..sizes import check_network
from .config import DiffusionConfig
from .gaussian_diffusion import GaussianDiffusion


def build(config: DiffusionConfig) -> GaussianDiffusion:
    """The U-Net and diffusion of ``config``, with the initial weights of its seed.

    Raises UserError for sizes that do not fit.
    """
    check_network(config)
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
        image_size=image_sides(config),
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
