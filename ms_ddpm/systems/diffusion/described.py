"""How a configuration says a diffusion that was built in Python."""

from __future__ import annotations

from typing import Any

from mindspore import nn

from ...models.unet import Unet
from ...storage.described import Part, keys_of
from .gaussian_diffusion import GaussianDiffusion

PARTS = {GaussianDiffusion: Part(), Unet: Part()}


def describe(cell: nn.Cell) -> dict[str, Any] | None:
    """See `systems.System.describe`."""
    return keys_of(cell, PARTS) if type(cell) is GaussianDiffusion else None
