"""Score networks that are told what to draw: of images, and of an autoencoder's latents.

A class is one vector; a transformer block at the coarse resolutions attends to it (Rombach et al.,
https://arxiv.org/abs/2112.10752, section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from mindspore import Tensor

from ..errors import UserError
from ..maths.random import host_rng
from ..nn.layers import Conv2d, ConvTranspose2d, Embedding
from ..nn.norms import GroupNorm
from ..nn.transformer import SpatialTransformer
from ..storage.fingerprint import remembers
from .score_unet import FOURIER_SCALE, Dense, ScoreUnet, TimeScoreNet


def class_embedding(num_classes: int, null_class: bool, dim: int, rng: np.random.Generator) -> Embedding:
    """A vector for every class, and one more for "no class" with ``null_class`` (https://arxiv.org/abs/2207.12598)."""
    if num_classes < 1:
        raise UserError(f"num_classes is {num_classes}, expected at least 1")
    return Embedding(num_classes + null_class, dim, rng=rng)


@remembers(apart=("channels",))
class ConditionalScoreUnet(ScoreUnet):
    """`ScoreUnet` with added skips, and transformers after its third and fourth resolution.

    Called as ``net(x, t, y)``: x (B, C, H, W), t (B,), classes y (B,) int32 from 0 -> score (B, C, H, W).

    Args:
        marginal_prob_std, channels, embed_dim, in_channels, fourier_scale, whole, rng, use_kernels: as of `ScoreUnet`.
        text_dim: width of a class's vector.
        num_classes: how many there are.
        num_heads: of the attentions; 1 is the score article's (docs/systems.md).
        null_class: one more row of the embedding, number ``num_classes``, for classifier-free guidance.

    Raises:
        UserError: for a value that does not exist or does not fit.
    """

    def __init__(
        self,
        marginal_prob_std: Callable,
        channels: Sequence[int] = (32, 64, 128, 256),
        embed_dim: int = 256,
        text_dim: int = 256,
        num_classes: int = 10,
        num_heads: int = 1,
        *,
        in_channels: int = 1,
        null_class: bool = False,
        fourier_scale: float = FOURIER_SCALE,
        whole: bool = False,
        rng: np.random.Generator | int | None = None,
        use_kernels: bool | None = None,
    ):
        rng = host_rng(rng)
        super().__init__(
            marginal_prob_std, channels, embed_dim, in_channels=in_channels, skips="add", fourier_scale=fourier_scale,
            whole=whole, rng=rng,
        )  # fmt: skip
        self.attn3 = SpatialTransformer(channels[2], text_dim, num_heads, rng=rng)
        self.attn4 = SpatialTransformer(channels[3], text_dim, num_heads, rng=rng)
        self.cond_embed = class_embedding(num_classes, null_class, text_dim, rng)
        self.num_classes, self.null_class = num_classes, null_class
        self.choose_kernels(use_kernels)

    def score(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The network itself."""
        embed = self.embed(t)
        context = self.cond_embed(y).expand_dims(1)
        h1 = self.stage(self.conv1(self.image(x)), self.dense1, self.gnorm1, embed)
        h2 = self.stage(self.conv2(h1), self.dense2, self.gnorm2, embed)
        h3 = self.attn3(self.stage(self.conv3(h2), self.dense3, self.gnorm3, embed), context)
        h4 = self.attn4(self.stage(self.conv4(h3), self.dense4, self.gnorm4, embed), context)
        return self.scaled(self.up(h1, h2, h3, h4, embed), t)


@remembers(apart=("channels",))
class LatentScoreUnet(TimeScoreNet):
    """The conditional network for latents of an autoencoder: two halvings, transformers at both.

    Called as ``net(z, t, y)``: z (B, channels[0], H, W), H and W from 9 on.

    Args:
        marginal_prob_std, embed_dim, text_dim, num_classes, num_heads, null_class, fourier_scale, rng, use_kernels: as
            of `ConditionalScoreUnet`.
        channels: of the latents, then the widths of the three resolutions, multiples of 4.
        whole: put zeros around the latents, to 4k + 1, so that every one of them is seen. The article's network,
            False, never looks at the last row and column of 10x10 latents behind its first convolution: its halvings
            8 -> 3 drop them.

    Raises:
        UserError: for a value that does not exist or does not fit.
    """

    smallest = 9

    def __init__(
        self,
        marginal_prob_std: Callable,
        channels: Sequence[int] = (4, 64, 128, 256),
        embed_dim: int = 256,
        text_dim: int = 256,
        num_classes: int = 10,
        num_heads: int = 1,
        *,
        null_class: bool = False,
        fourier_scale: float = FOURIER_SCALE,
        whole: bool = False,
        rng: np.random.Generator | int | None = None,
        use_kernels: bool | None = None,
    ):
        rng = host_rng(rng)
        super().__init__(
            marginal_prob_std, channels, embed_dim, channels[0] if len(channels) else 0, fourier_scale, whole, rng
        )
        c0, c1, c2, c3 = channels

        def transformer(width: int) -> SpatialTransformer:
            return SpatialTransformer(width, text_dim, num_heads, rng=rng)

        self.conv1 = Conv2d(c0, c1, 3, bias=False, rng=rng)
        self.dense1 = Dense(embed_dim, c1, rng)
        self.gnorm1 = GroupNorm(4, c1)
        self.conv2 = Conv2d(c1, c2, 3, stride=2, bias=False, rng=rng)
        self.dense2 = Dense(embed_dim, c2, rng)
        self.gnorm2 = GroupNorm(4, c2)
        self.attn2 = transformer(c2)
        self.conv3 = Conv2d(c2, c3, 3, stride=2, bias=False, rng=rng)
        self.dense3 = Dense(embed_dim, c3, rng)
        self.gnorm3 = GroupNorm(4, c3)
        self.attn3 = transformer(c3)
        self.tconv3 = ConvTranspose2d(c3, c2, 3, stride=2, bias=False, rng=rng)
        self.dense6 = Dense(embed_dim, c2, rng)
        self.tgnorm3 = GroupNorm(4, c2)
        self.attn6 = transformer(c2)
        self.tconv2 = ConvTranspose2d(c2, c1, 3, stride=2, bias=False, output_padding=1, rng=rng)
        self.dense7 = Dense(embed_dim, c1, rng)
        self.tgnorm2 = GroupNorm(4, c1)
        self.tconv1 = ConvTranspose2d(c1, c0, 3, rng=rng)
        self.cond_embed = class_embedding(num_classes, null_class, text_dim, rng)
        self.num_classes, self.null_class = num_classes, null_class
        self.choose_kernels(use_kernels)

    def score(self, z: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The network itself."""
        embed = self.embed(t)
        context = self.cond_embed(y).expand_dims(1)
        h1 = self.stage(self.conv1(self.image(z)), self.dense1, self.gnorm1, embed)
        h2 = self.attn2(self.stage(self.conv2(h1), self.dense2, self.gnorm2, embed), context)
        h3 = self.attn3(self.stage(self.conv3(h2), self.dense3, self.gnorm3, embed), context)
        h = self.stage(self.reach(self.tconv3, h3, h2), self.dense6, self.tgnorm3, embed)
        h = self.attn6(h, context)
        h = self.stage(self.reach(self.tconv2, h + h2, h1), self.dense7, self.tgnorm2, embed, h1)
        return self.scaled(self.tconv1(h), t)
