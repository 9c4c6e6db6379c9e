"""Precision classes: what a computation is allowed to lose, and which device can compute so.

A class is a row of tolerances.toml's units. "float16" and "bfloat16" are mixed precision; "tf32" and "hf32" are float32
whose products a device rounds (`ms_ddpm.precision`, "high"): TF32 on GPU, HF32 on Ascend.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ms_ddpm.precision import CLASSES

from .errors import HarnessError

HALF = ("float16", "bfloat16")
ROUNDED = tuple(CLASSES.values())
ALL = ("float32", *HALF, *ROUNDED)
DEVICE = "PARITY_DEVICE_TARGET"  # variables, so that every process and pytest alike can be told
MATMUL = "PARITY_MATMUL_PRECISION"

WITHOUT_PRODUCTS = (  # layers that multiply no matrices
    "rms_norm", "group_norm", "channel_layer_norm", "activation", "sinusoidal_embedding", "fourier_embedding",
    "gaussian_fourier", "layer_norm", "time_stage", "embedding",
    "batch_norm", "max_pool", "unit_length",
)  # fmt: skip


def device() -> str:
    """Where MindSpore runs."""
    return os.environ.get(DEVICE, "CPU")


def matmul_precision() -> str:
    """How exactly MindSpore's device multiplies float32: "highest" or "high"."""
    return os.environ.get(MATMUL, "highest")


def choose(device_target: str, level: str) -> None:
    """Says where MindSpore is going to run, and how exactly. Raises HarnessError for "high" without a meaning."""
    if level == "high" and device_target not in CLASSES:
        raise HarnessError(
            f"--matmul_precision high changes nothing on {device_target}, which has neither TF32 nor HF32; "
            "choose --device_target GPU or Ascend, or leave it out"
        )
    os.environ[DEVICE], os.environ[MATMUL] = device_target, level


def has_products(kind: str, spec: Mapping) -> bool:
    """Whether a computation multiplies matrices: the others are float32 whatever a device does to products."""
    if kind == "layer":
        return spec["layer"] not in WITHOUT_PRODUCTS
    if kind == "module":  # of the autoencoder
        return spec["module"] not in WITHOUT_PRODUCTS
    if kind in ("autoencoder_loss", "train_autoencoder", "latent_loss", "latent_chain"):
        return True
    if kind in ("score_loss", "score_train"):
        return "net" in spec
    return kind in ("network", "score_network") or (kind in ("train", "chain", "loss") and "unet" in spec)


def class_of(kind: str, spec: Mapping, precision: str) -> str:
    """The class in which a computation of class ``precision`` is judged on this device.

    With --matmul_precision high, float32 computations with products are judged as TF32 (GPU) or HF32 (Ascend).
    """
    if precision == "float32" and matmul_precision() == "high" and has_products(kind, spec):
        return CLASSES[device()]
    return precision


def device_of(precision: str) -> str:
    """The device that computes float32 in the class "tf32" or "hf32"."""
    return next(target for target, name in CLASSES.items() if name == precision)


def runs_in(precision: str) -> bool:
    """Whether MindSpore's device computes float32 in that class here and now."""
    return matmul_precision() == "high" and device() == device_of(precision)
