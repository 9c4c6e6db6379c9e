"""The score networks and their layers: what `nets` makes of a name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from torch_ref.systems.score import transformer
from torch_ref.systems.score import unet as score_unet


def deviation(t: torch.Tensor) -> torch.Tensor:
    """The stand-in for std(t)."""
    return t + 0.25


class TimeStage(nn.Module):
    """SiLU of the group norm of an image and what the time adds to each channel."""

    def __init__(self, groups: int, dim: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, dim)

    def forward(self, x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """x (B, dim, H, W), shift (B, dim)."""
        return F.silu(self.norm(x + shift[:, :, None, None]))


class ConvTranspose2d(nn.ConvTranspose2d):
    """PyTorch's, asked for an output size where one is given."""

    def __init__(self, dim_in: int, dim_out: int, kernel_size: int, output_size=None, **options):
        super().__init__(dim_in, dim_out, kernel_size, **options)
        self.asked = output_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, dim_in, H, W) -> (B, dim_out, H', W')."""
        return super().forward(x, self.asked)


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "conv_transpose2d": ConvTranspose2d,
    "gaussian_fourier": lambda **k: score_unet.GaussianFourierProjection(**k),
    "layer_norm": lambda dim: nn.LayerNorm(dim),
    "linear_of_sequence": lambda dim_in, dim_out, bias: nn.Linear(dim_in, dim_out, bias),
    "embedding": lambda count, dim: nn.Embedding(count, dim),
    "time_stage": TimeStage,
    "cross_attention": lambda **k: transformer.CrossAttention(**k),
    "transformer_block": lambda **k: transformer.TransformerBlock(**k),
    "spatial_transformer": lambda **k: transformer.SpatialTransformer(**k),
}
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "score_unet": lambda **k: score_unet.ScoreUnet(deviation, **k),
    "conditional_score_unet": lambda **k: score_unet.ConditionalScoreUnet(deviation, **k),
    "latent_score_unet": lambda **k: score_unet.LatentScoreUnet(deviation, **k),
}
