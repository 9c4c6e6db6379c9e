"""Which configuration keys and samplers belong to which system. Free of MindSpore, for --help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import UserError, quoted

SYSTEMS = ("diffusion", "score", "corruption", "autoencoder", "latent")
SCORE_SAMPLERS = ("euler", "pc", "ode", "heun")  # functions of `ms_ddpm.samplers.score`
SAMPLERS = {"diffusion": ("ddpm", "ddim"), "score": SCORE_SAMPLERS, "latent": SCORE_SAMPLERS}
SMALLEST_EPS = 1e-5  # time down to which a score network is trained: at 0 the score is infinite
MAX_STEPS = 1_000_000  # of sampling, and epochs

_DIFFUSION = (
    "dim", "init_dim", "dim_mults", "self_condition", "learned_variance", "learned_sinusoidal_cond",
    "random_fourier_features", "learned_sinusoidal_dim", "sinusoidal_pos_emb_theta", "dropout", "attn_dim_head",
    "attn_heads", "full_attn", "flash_attn", "norm", "downsample", "timesteps", "objective", "beta_schedule",
    "schedule_fn_kwargs", "loss_type", "ddim_sampling_eta", "rederive_pred_noise", "offset_noise_strength",
    "min_snr_loss_weight", "min_snr_gamma", "p2_loss_weight_gamma", "p2_loss_weight_k", "immiscible",
)  # fmt: skip
_SCORE_AND_LATENT = (
    "num_classes", "labels_from", "class_dropout", "guidance_scale", "sde", "sigma", "sde_beta_min", "sde_beta_max",
    "channel_widths", "embed_dim", "fourier_scale", "text_dim", "num_heads", "sigma_data", "data_mean", "time_power",
    "score_sampler", "sampling_eps", "sampling_denoise", "corrector_snr",
)  # fmt: skip
SYSTEMS_OF = {  # key -> the systems that read it; the other keys are everybody's
    **dict.fromkeys(_DIFFUSION, ("diffusion",)),
    **dict.fromkeys(_SCORE_AND_LATENT, ("score", "latent")),
    **dict.fromkeys(("perceptual", "lpips_weights", "perceptual_weight"), ("autoencoder",)),
    "sampling_timesteps": ("diffusion", "score", "latent", "corruption"),
    **dict.fromkeys(("score_net", "whole_images"), ("score",)),
    "autoencoder": ("latent",),
    "autoencoder_channels": ("autoencoder", "latent"),
    "noise_kind": ("corruption",),
}


def check_system(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raises UserError for a key of a whole configuration that only other systems read and that was changed."""
    system = values["system"]
    for name, systems in SYSTEMS_OF.items():
        if system not in systems and values[name] != defaults[name]:
            word = "system" if len(systems) == 1 else "systems"
            raise UserError(
                f"configuration key {name} is {quoted(values[name])}, but it belongs to the {word} "
                f"{', '.join(systems)}, and system is {system}; leave it out, or set system: {systems[0]}"
            )
    if system in ("score", "latent") and values["score_sampler"] == "ode" and values["sampling_timesteps"] is not None:
        raise UserError(
            f"configuration key sampling_timesteps is {quoted(values['sampling_timesteps'])}, but the ode sampler "
            "chooses its own steps; set it to null, or score_sampler: heun"
        )
