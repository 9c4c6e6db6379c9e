"""How a configuration says a score model that was built in Python."""

from __future__ import annotations

from typing import Any

from mindspore import nn

from ...models.conditional_unet import ConditionalScoreUnet
from ...models.score_unet import ScoreUnet
from ...nn.preconditioning import PreconditionedScore
from ...nn.sde import SDES
from ...storage.described import Part, keys_of
from .score_model import ScoreModel

_BETAS = {"beta_min": "sde_beta_min", "beta_max": "sde_beta_max"}
COMMON = {  # with the latent system
    ScoreModel: Part({"sampler": "score_sampler", "denoise": "sampling_denoise"}),
    PreconditionedScore: Part(),
    SDES["ve"]: Part(means=lambda arguments: {"sde": "ve"}),
    SDES["vp"]: Part(_BETAS, lambda arguments: {"sde": "vp"}),
    SDES["subvp"]: Part(_BETAS, lambda arguments: {"sde": "subvp"}),
}
PARTS = COMMON | {
    ScoreUnet: Part(
        {"channels": "channel_widths", "in_channels": "channels", "skips": "score_net", "whole": "whole_images"}
    ),
    ConditionalScoreUnet: Part(
        {"channels": "channel_widths", "in_channels": "channels", "null_class": None, "whole": "whole_images"},
        lambda arguments: {"score_net": "transformer"},
    ),
}


def describe(cell: nn.Cell) -> dict[str, Any] | None:
    """See `systems.System.describe`."""
    return keys_of(cell, PARTS) if type(cell) is ScoreModel else None
