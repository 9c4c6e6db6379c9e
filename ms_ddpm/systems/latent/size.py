"""How many parameters a latent diffusion has. Plain arithmetic."""

from __future__ import annotations

from ..autoencoder import size as autoencoder
from ..score.size import class_rows, stage, time_embedding, transformer
from ..sizes import conv
from .config import LatentConfig


def parameter_count(config: LatentConfig) -> int:
    """Of `models.conditional_unet.LatentScoreUnet`, the autoencoder, and the latents' mean and deviation.

    0 for other than four widths, which the network refuses.
    """
    if len(config.channel_widths) != 4:
        return 0
    embed, text = config.embed_dim, config.text_dim
    c0, c1, c2, c3 = config.channel_widths
    total = time_embedding(embed) + sum(stage(embed, width) for width in (c1, c2, c3, c2, c1))
    total += sum(conv(a, b, 3, bias=False) for a, b in ((c0, c1), (c1, c2), (c2, c3), (c3, c2), (c2, c1)))
    total += conv(c1, c0, 3) + sum(transformer(width, text) for width in (c2, c3, c2)) + class_rows(config) * text
    return total + autoencoder.parameter_count(config.channels, config.autoencoder_channels) + 2 * c0
