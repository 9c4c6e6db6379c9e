"""Tiers 0 and 1 (`maths`), 2 and 3 (`nets`), 4 (`training`), 5 to 7 (`sampling`)."""

from .maths import tier0, tier1
from .nets import tier2, tier3
from .sampling import tier5, tier6, tier7
from .training import tier4

__all__ = [
    "LONG_SET",
    "PRODUCTS",
    "SMALL_SET",
    "WITHOUT_PRODUCTS",
    "tier0",
    "tier1",
    "tier2",
    "tier3",
    "tier4",
    "tier5",
    "tier6",
    "tier7",
]

SMALL_SET = (  # some of every tier
    "maths/cosine-T1000", "maths/sigmoid-T1000", "maths/q_sample-cosine-pynative", "maths/q_posterior-cosine-pynative",
    "step/p_mean_variance-pred_v-learned-selfcond-clip",
    "step/p_sample-pred_noise-fixed-plain-pynative",
    "step/ddim-pred_v-plain-eta1", "layers/weight_standardized_conv-scale1-pynative",
    "layers/resnet_block_rms-scale1-pynative", "layers/resnet_block_group-scale1-pynative",
    "layers/linear_attention-scale1-pynative", "layers/attention-scale30-pynative", "layers/time_mlp-scale1-pynative",
    "network/tiny_2_3-pynative", "network/tiny_2022-pynative", "training/loss-pred_v-l2-learned-plain-pynative",
    "training/adam-pynative", "training/ema", "sampling/ddim_eta1-pred_v-fixed-selfcond",
    "layers/block_dropout-scale1-graph",
)  # fmt: skip
PRODUCTS = {"network": "", "train": "unet", "chain": "unet", "loss": "unet"}
WITHOUT_PRODUCTS = (
    "rms_norm", "group_norm", "channel_layer_norm", "activation", "sinusoidal_embedding", "fourier_embedding",
)  # fmt: skip
LONG_SET = ("training/digits_200_steps-graph", "sampling/unet_ddpm_1000")
