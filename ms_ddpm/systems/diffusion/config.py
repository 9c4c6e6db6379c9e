"""The keys of the system diffusion. Free of MindSpore, for ``--help``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...config import Config
from ...config.keys import MAX_STEPS, key
from ...config.layouts import NORMS


@dataclass
class DiffusionConfig(Config):
    """A `Unet` and a `GaussianDiffusion` around it."""

    system: str = key("diffusion", "name", "what is trained; see docs/systems.md")
    dim: int = key(64, "int", "width of the first stage", low=4)
    init_dim: Any = key(None, "int?", "channels after the first convolution (default: dim)", low=1)
    dim_mults: list = key([1, 2, 4, 8], "ints", "width of each stage in units of dim; resolution halves between", low=1)
    self_condition: bool = key(False, "bool", "feed the previous estimate of x_0 back in")
    learned_variance: bool = key(False, "bool", "learn the variance of the reverse process")
    learned_sinusoidal_cond: bool = key(False, "bool", "learned Fourier features of the time")
    random_fourier_features: bool = key(False, "bool", "fixed random Fourier features of the time")
    learned_sinusoidal_dim: int = key(16, "int", "how many of these features", low=2)
    sinusoidal_pos_emb_theta: float = key(10000.0, "float", "longest period of the sinusoids", low=1)
    dropout: float = key(0.0, "float", "dropout in the residual blocks", low=0)
    attn_dim_head: Any = key(32, "int_or_ints", "width of a head, or one per stage", low=1)
    attn_heads: Any = key(4, "int_or_ints", "attention heads, or one per stage", low=1)
    full_attn: Any = key(None, "bools?", "softmax attention per stage (default: innermost only)")
    flash_attn: bool = key(False, "bool", "softmax attention block by block: less memory, same numbers")
    norm: str = key(
        "rms",
        "str",
        "'rms': today's PyTorch layout; 'group': the 2022 one; others: of the releases between",
        choices=NORMS,
    )
    downsample: str = key("unshuffle", "str", "'unshuffle': today's; 'conv': 2022's", choices=("unshuffle", "conv"))
    timesteps: int = key(1000, "int", "T, the number of noising steps", low=1, high=1_000_000)
    sampling_timesteps: Any = key(
        None, "int?", "steps of sampling; fewer than T: DDIM (default: T)", low=1, high=MAX_STEPS, free=True
    )
    objective: str = key(
        "pred_v",
        "str",
        "what the network predicts: the velocity v, the noise or the image x_0",
        choices=("pred_v", "pred_noise", "pred_x0"),
    )
    beta_schedule: str = key(
        "sigmoid",
        "str",
        "schedule of the noise's variances beta_t",
        choices=("linear", "cosine", "sigmoid", "scaled_linear"),
    )
    schedule_fn_kwargs: dict = key({}, "mapping", "arguments of the schedule, as name=value")
    loss_type: str = key("l2", "str", "squared or absolute error", choices=("l2", "l1"))
    ddim_sampling_eta: float = key(0.0, "float", "0 deterministic ... 1 as noisy as DDPM", low=0, high=1, free=True)
    rederive_pred_noise: bool = key(
        True,
        "bool",
        "DDIM: noise of a clipped x_0 is computed again from it; no: it stays as predicted, as in 2022",
        free=True,
    )
    offset_noise_strength: float = key(
        0.0, "float", "noise that is the same in all of a channel, added to the noise; 0: none", low=0
    )
    min_snr_loss_weight: bool = key(False, "bool", "clip the signal-to-noise ratio in the loss weight (min-SNR)")
    min_snr_gamma: float = key(5.0, "float", "where it is clipped, with min_snr_loss_weight", low=0)
    p2_loss_weight_gamma: float = key(0.0, "float", "P2 loss weight (k + snr)^-gamma; 0: off", low=0)
    p2_loss_weight_k: float = key(1.0, "float", "k of the P2 loss weight", low=0)
    immiscible: bool = key(False, "bool", "assign each image the nearest noise of the batch")
