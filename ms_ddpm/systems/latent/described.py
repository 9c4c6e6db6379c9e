"""How a configuration says a latent diffusion that was built in Python: a score model, and an autoencoder beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindspore import nn

from ...errors import UserError
from ...models.conditional_unet import LatentScoreUnet
from ...storage.described import Part, keys_of
from ...storage.fingerprint import arguments_of
from ..autoencoder.described import PARTS as OF_AUTOENCODER
from ..score.described import COMMON
from .latent_diffusion import LatentDiffusion, OneClass


def _whole(arguments: Mapping[str, Any]) -> dict[str, Any]:
    if not arguments["whole"]:
        raise UserError("a configuration cannot say LatentScoreUnet(whole=False)")
    return {}


OF_LATENTS = COMMON | {
    OneClass: Part(),
    LatentScoreUnet: Part(
        {"channels": "channel_widths", "null_class": None, "whole": None, "num_classes": None}, _whole
    ),
}


def describe(cell: nn.Cell) -> dict[str, Any] | None:
    """See `systems.System.describe`."""
    if type(cell) is not LatentDiffusion:
        return None
    inner = arguments_of(cell)
    latents, images = keys_of(inner["model"], OF_LATENTS), keys_of(inner["autoencoder"], OF_AUTOENCODER)
    # Size and channels are those of the images; a loss is of the training of the autoencoder, which is over.
    of_model = {key: value for key, value in latents.items() if key not in ("image_size", "channels")}
    return of_model | {key: value for key, value in images.items() if not key.startswith("perceptual")}
