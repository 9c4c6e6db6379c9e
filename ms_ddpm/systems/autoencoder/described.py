"""How a configuration says an autoencoder that was built in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindspore import nn

from ...models.autoencoder import AutoEncoder
from ...storage.described import Part, keys_of
from .image_autoencoder import ImageAutoencoder
from .perceptual import GradientLoss


def _no_perceptual_loss(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"perceptual": "none"} if arguments.get("perceptual") is None else {}


PARTS = {
    ImageAutoencoder: Part(means=_no_perceptual_loss),
    AutoEncoder: Part({"channels": "autoencoder_channels", "in_channels": "channels"}),
    GradientLoss: Part(means=lambda arguments: {"perceptual": "gradient"}),
}


def describe(cell: nn.Cell) -> dict[str, Any] | None:
    """See `systems.System.describe`."""
    return keys_of(cell, PARTS) if type(cell) is ImageAutoencoder else None
