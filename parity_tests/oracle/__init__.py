"""The float64 oracle of the diffusion mathematics, by which both frameworks are judged.

What several systems need stands here, what one needs in its folder: `parity_tests.systems`. In schedules.py
the tables, and DDIM's coefficients; in process.py the forward process; in diffusion.py reverse steps, losses and
chains; in bound.py the terms of the variational bound; in layers.py layers; in training.py optimizer and average.

numpy alone, float64 throughout, written from the papers and not from either implementation: two copies of one mistake
agree. Where algebra leaves a choice the route here is not the usual one (alphas_cumprod is exp of a sum of
logarithms, the posterior a product of two Gaussians, cosine and sigmoid betas a quotient without a difference), so a
slip in one of the usual coefficients shows. Sources, quoted by these names:

    DDPM  Ho, Jain, Abbeel 2020, arXiv 2006.11239           DDIM  Song, Meng, Ermon 2020, arXiv 2010.02502
    IDDPM Nichol, Dhariwal 2021, arXiv 2102.09672           PD    Salimans, Ho 2022, arXiv 2202.00512 (v)
    VDM   Kingma et al. 2021, arXiv 2107.00630 (SNR)        P2    Choi et al. 2022, arXiv 2204.00227
    min-SNR Hang et al. 2023, arXiv 2303.09556              BIT   Chen et al. 2022, arXiv 2208.04202 (self-condition)

Symbols: abar = alphas_cumprod; t counts from 0, so the papers' step is t + 1. Images are (B, C, H, W), t is (B,) int.
"""

from .bound import discretized_gaussian_log_likelihood, normal_kl
from .diffusion import OUTPUTS, Diffusion, ModelPrediction
from .layers import (
    channel_layer_norm,
    conv2d,
    fourier_embedding,
    full_attention,
    full_attention_layer,
    gelu,
    group_norm,
    linear,
    linear_attention,
    linear_attention_layer,
    nearest_upsample,
    pixel_unshuffle,
    rms_norm,
    silu,
    sinusoidal_embedding,
    softmax,
    standardize_weight,
)
from .magnitudes import operands
from .schedules import beta_schedule, ddim_coefficients, ddim_times, loss_weight, tables
from .training import adam_step, clip_by_global_norm, ema_acts, ema_decay, ema_run

__all__ = [
    "OUTPUTS", "Diffusion", "ModelPrediction", "adam_step", "beta_schedule", "channel_layer_norm",
    "clip_by_global_norm", "conv2d", "ddim_coefficients", "ddim_times", "discretized_gaussian_log_likelihood",
    "ema_acts", "ema_decay", "ema_run", "fourier_embedding", "full_attention", "full_attention_layer", "gelu",
    "group_norm", "linear", "linear_attention", "linear_attention_layer", "loss_weight", "nearest_upsample",
    "normal_kl", "operands", "pixel_unshuffle", "rms_norm", "silu", "sinusoidal_embedding", "softmax",
    "standardize_weight", "tables",
]  # fmt: skip
