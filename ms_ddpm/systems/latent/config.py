"""The keys of the system latent. Free of MindSpore, for ``--help``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...config.keys import key
from ..score.config import ScoreKeys


@dataclass
class LatentConfig(ScoreKeys):
    """A score model over the latents of a trained autoencoder."""

    system: str = key("latent", "name", "what is trained; see docs/systems.md")
    autoencoder: Any = key(None, "name?", "latent: output directory of the autoencoder's run")
    autoencoder_channels: list = key(
        [4, 4, 4], "ints", "channels of its three convolutions; the last: of latents", low=1
    )
