"""The keys of the system autoencoder. Free of MindSpore, for ``--help``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...config import Config
from ...config.keys import key


@dataclass
class AutoencoderConfig(Config):
    """An `AutoEncoder` and what its reconstructions are judged by."""

    system: str = key("autoencoder", "name", "what is trained; see docs/systems.md")
    autoencoder_channels: list = key(
        [4, 4, 4], "ints", "channels of its three convolutions; the last: of latents", low=1
    )
    perceptual: str = key(
        "gradient", "str", "what is added to the squared error", choices=("lpips", "gradient", "none")
    )
    lpips_weights: Any = key(None, "name?", "lpips: its weights, made by scripts/convert.py lpips")
    perceptual_weight: float = key(1.0, "float", "weight of the perceptual distance in the loss", low=0)
