"""Precision classes: what a computation is allowed to lose, and which device can compute so.

A class is a row of tolerances.toml's units. "float16" and "bfloat16" are mixed precision; "tf32" and "hf32" are float32
whose products a device rounds where it may (matmul precision "high"): TF32 on GPU, HF32 on Ascend.
"""

from __future__ import annotations

import os

from .errors import HarnessError

CLASSES = {"GPU": "tf32", "Ascend": "hf32"}  # by device, of float32 at matmul precision "high"
HALF = ("float16", "bfloat16")
ROUNDED = tuple(CLASSES.values())
ALL = ("float32", *HALF, *ROUNDED)
DEVICE = "PARITY_DEVICE_TARGET"  # variables, so that every process and pytest alike can be told
MATMUL = "PARITY_MATMUL_PRECISION"


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


def device_of(precision: str) -> str:
    """The device that computes float32 in the class "tf32" or "hf32"."""
    return next(target for target, name in CLASSES.items() if name == precision)


def runs_in(precision: str) -> bool:
    """Whether MindSpore's device computes float32 in that class here and now."""
    return matmul_precision() == "high" and device() == device_of(precision)
