"""Which computations multiply matrices: where float32 may be rough, they are judged in the device's class of it."""

from __future__ import annotations

from collections.abc import Mapping

from portparity.classes import CLASSES, device, matmul_precision

from .systems import joined, parts


def has_products(kind: str, spec: Mapping) -> bool:
    """Whether a computation multiplies matrices: the others are float32 whatever a device does to products."""
    if kind in ("layer", "module"):
        return spec[kind] not in {name for module in parts("cases") for name in getattr(module, "WITHOUT_PRODUCTS", ())}
    needed = joined("cases", "PRODUCTS").get(kind)
    return needed is not None and (not needed or needed in spec)


def class_of(kind: str, spec: Mapping, precision: str) -> str:
    """The class in which a computation of class ``precision`` is judged on this device.

    With --matmul_precision high, float32 computations with products are judged as TF32 (GPU) or HF32 (Ascend).
    """
    if precision == "float32" and matmul_precision() == "high" and has_products(kind, spec):
        return CLASSES[device()]
    return precision
