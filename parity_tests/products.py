"""Which computations multiply matrices: where float32 may be rough, they are judged in the device's class of it."""

from __future__ import annotations

from collections.abc import Mapping

from portparity.classes import CLASSES, device, matmul_precision

WITHOUT_PRODUCTS = (  # layers that multiply no matrices
    "rms_norm", "group_norm", "channel_layer_norm", "activation", "sinusoidal_embedding", "fourier_embedding",
    "gaussian_fourier", "layer_norm", "time_stage", "embedding",
    "batch_norm", "max_pool", "unit_length",
)  # fmt: skip


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
