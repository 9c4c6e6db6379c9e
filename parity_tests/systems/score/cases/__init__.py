"""Tiers 0, 1, 4 and 5 (`models`), 2 and 3 (`nets`)."""

from .models import tier0, tier1, tier4, tier5
from .nets import tier2, tier3

__all__ = ["PRODUCTS", "SMALL_SET", "WITHOUT_PRODUCTS", "tier0", "tier1", "tier2", "tier3", "tier4", "tier5"]

PRODUCTS = {"score_network": "", "score_loss": "net", "score_train": "net"}
WITHOUT_PRODUCTS = ("gaussian_fourier", "layer_norm", "time_stage", "embedding")
SMALL_SET = (
    "maths/sde_vp-pynative", "step/score_vp-euler-plain-pynative", "step/score_ve-euler-guided2.5-pynative",
    "step/score_vp-pc_image-plain-pynative", "training/score_loss-ve-classes-pynative", "sampling/score_euler-ve-plain",
    "sampling/score_heun-vp-plain", "layers/spatial_transformer-scale1-pynative",
)  # fmt: skip
