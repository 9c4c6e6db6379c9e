"""How many parameters the score networks have. Plain arithmetic."""

from __future__ import annotations

from ..sizes import conv
from .config import ScoreConfig, ScoreKeys


def time_embedding(width: int) -> int:
    """Of the frequencies, which are not trained, and the layer behind them."""
    return width // 2 + conv(width, width)


def stage(embed_dim: int, width: int) -> int:
    """Of what follows a convolution: the time's layer and a GroupNorm."""
    return conv(embed_dim, width) + 2 * width


def transformer(width: int, context: int) -> int:
    """Of a `nn.transformer.SpatialTransformer`: attention to itself and to the class, three norms, two layers."""
    attentions = 3 * conv(width, width, bias=False) + conv(width, width, bias=False) + 2 * width * context
    return attentions + 3 * 2 * width + conv(width, 3 * width) + conv(3 * width, width)


def class_rows(config: ScoreKeys) -> int:
    """Rows of the embedding of classes: with dropout one more, of no class. A model without classes has one row."""
    return config.num_classes + (config.class_dropout > 0) if config.num_classes else 1


def parameter_count(config: ScoreConfig) -> int:
    """Of the U-Net of ``config``, `models.score_unet.ScoreUnet` or `models.conditional_unet.ConditionalScoreUnet`.

    0 for other than four widths, which the network refuses.
    """
    if len(config.channel_widths) != 4:
        return 0
    image, embed = config.channels, config.embed_dim
    c1, c2, c3, c4 = config.channel_widths
    wider = 2 if config.score_net == "concat" else 1
    total = time_embedding(embed) + sum(stage(embed, width) for width in (c1, c2, c3, c4, c3, c2, c1))
    down, up = [(image, c1), (c1, c2), (c2, c3), (c3, c4)], [(c4, c3), (c3 * wider, c2), (c2 * wider, c1)]
    total += sum(conv(a, b, 3, bias=False) for a, b in (*down, *up)) + conv(c1 * wider, image, 3)
    if config.score_net == "transformer":
        total += transformer(c3, config.text_dim) + transformer(c4, config.text_dim)
        total += class_rows(config) * config.text_dim
    return total
