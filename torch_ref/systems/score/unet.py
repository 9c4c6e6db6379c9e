"""U-Nets that estimate a score, s(x, t) = f(x, t) / std(t) (Song et al. 2021, https://arxiv.org/abs/2011.13456).

``state_dict()`` has the keys and shapes of three classes of the score article (docs/systems.md): UNet,
UNet_Tranformer and Latent_UNet_Tranformer.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .transformer import SpatialTransformer


class GaussianFourierProjection(nn.Module):
    """[sin(2 pi W t), cos(2 pi W t)], W ~ scale N(0, 1), fixed (Tancik et al. 2020, https://arxiv.org/abs/2006.10739)."""

    def __init__(self, embed_dim: int, scale: float = 30.0) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(embed_dim // 2) * scale, requires_grad=False)

    def forward(self, t: Tensor) -> Tensor:
        """(B,) -> (B, embed_dim)."""
        angle = 2 * math.pi * t[:, None] * self.W
        return torch.cat((angle.sin(), angle.cos()), dim=1)


class Dense(nn.Module):
    """A vector (B, dim) -> (B, dim_out, 1, 1), the same for every pixel."""

    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim) -> (B, dim_out, 1, 1)."""
        return self.dense(x)[:, :, None, None]


def with_margins(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``net`` of x with zeros around it up to 4k + 1 pixels, cut to x's size again.

    A 3x3 convolution of stride 2 without padding drops the last row and column of an even side. Two have none then.
    """
    height, width = x.shape[2:]
    more_h, more_w = (1 - height) % 4, (1 - width) % 4
    top, left = more_h // 2, more_w // 2
    y = net(F.pad(x, (left, more_w - left, top, more_h - top)))
    return y[:, :, top : top + height, left : left + width]


class ScoreUnet(nn.Module):
    """x (B, C, H, W), t (B,) -> (B, C, H, W). ``skips``: "concat" or "add". ``rng``: as of `torch_ref.Unet`.

    ``whole``: the last row and column are seen, see `with_margins`.
    """

    def __init__(
        self,
        marginal_prob_std: Callable[[Tensor], Tensor],
        channels: Sequence[int] = (32, 64, 128, 256),
        embed_dim: int = 256,
        in_channels: int = 1,
        skips: str = "concat",
        whole: bool = False,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if skips not in ("concat", "add"):
            raise ValueError(f"skips is {skips!r}, expected one of: concat, add")
        self.marginal_prob_std = marginal_prob_std
        self.skips = skips
        self.whole = whole
        c1, c2, c3, c4 = channels
        wider = 2 if skips == "concat" else 1
        self.time_embed = nn.Sequential(GaussianFourierProjection(embed_dim), nn.Linear(embed_dim, embed_dim))

        self.conv1 = nn.Conv2d(in_channels, c1, 3, bias=False)
        self.dense1 = Dense(embed_dim, c1)
        self.gnorm1 = nn.GroupNorm(4, c1)
        self.conv2 = nn.Conv2d(c1, c2, 3, stride=2, bias=False)
        self.dense2 = Dense(embed_dim, c2)
        self.gnorm2 = nn.GroupNorm(32, c2)
        self.conv3 = nn.Conv2d(c2, c3, 3, stride=2, bias=False)
        self.dense3 = Dense(embed_dim, c3)
        self.gnorm3 = nn.GroupNorm(32, c3)
        self.conv4 = nn.Conv2d(c3, c4, 3, stride=2, bias=False)
        self.dense4 = Dense(embed_dim, c4)
        self.gnorm4 = nn.GroupNorm(32, c4)

        self.tconv4 = nn.ConvTranspose2d(c4, c3, 3, stride=2, bias=False)
        self.dense5 = Dense(embed_dim, c3)
        self.tgnorm4 = nn.GroupNorm(32, c3)
        self.tconv3 = nn.ConvTranspose2d(wider * c3, c2, 3, stride=2, bias=False)
        self.dense6 = Dense(embed_dim, c2)
        self.tgnorm3 = nn.GroupNorm(32, c2)
        self.tconv2 = nn.ConvTranspose2d(wider * c2, c1, 3, stride=2, bias=False)
        self.dense7 = Dense(embed_dim, c1)
        self.tgnorm2 = nn.GroupNorm(32, c1)
        self.tconv1 = nn.ConvTranspose2d(wider * c1, in_channels, 3)
        if rng is not None:
            initialise(self, np.random.default_rng(rng))

    def join(self, h: Tensor, skip: Tensor) -> Tensor:
        """The skip connection."""
        return h + skip if self.skips == "add" else torch.cat((h, skip), dim=1)

    def attend3(self, h: Tensor, y: Tensor | None) -> Tensor:
        """Nothing here; the conditional network attends to the class."""
        return h

    attend4 = attend3

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The score."""
        return with_margins(lambda x: self.score(x, t, y), x) if self.whole else self.score(x, t, y)

    def score(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        """The network. ``output_size`` of a transposed convolution is its skip's, which fixes its output_padding."""
        embed = F.silu(self.time_embed(t))
        h1 = F.silu(self.gnorm1(self.conv1(x) + self.dense1(embed)))
        h2 = F.silu(self.gnorm2(self.conv2(h1) + self.dense2(embed)))
        h3 = self.attend3(F.silu(self.gnorm3(self.conv3(h2) + self.dense3(embed))), y)
        h4 = self.attend4(F.silu(self.gnorm4(self.conv4(h3) + self.dense4(embed))), y)
        h = F.silu(self.tgnorm4(self.tconv4(h4, h3.shape[2:]) + self.dense5(embed)))
        h = F.silu(self.tgnorm3(self.tconv3(self.join(h, h3), h2.shape[2:]) + self.dense6(embed)))
        h = F.silu(self.tgnorm2(self.tconv2(self.join(h, h2), h1.shape[2:]) + self.dense7(embed)))
        return self.tconv1(self.join(h, h1)) / self.marginal_prob_std(t)[:, None, None, None]


class ConditionalScoreUnet(ScoreUnet):
    """x, t and classes y (B,) -> the score of p(x | y): added skips, transformers at the two coarse resolutions.

    ``null_class`` adds the row ``num_classes`` to the embedding: no class (https://arxiv.org/abs/2207.12598).
    """

    def __init__(
        self,
        marginal_prob_std: Callable[[Tensor], Tensor],
        channels: Sequence[int] = (32, 64, 128, 256),
        embed_dim: int = 256,
        text_dim: int = 256,
        num_classes: int = 10,
        num_heads: int = 1,
        in_channels: int = 1,
        null_class: bool = False,
        whole: bool = False,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(marginal_prob_std, channels, embed_dim, in_channels, "add", whole)
        self.attn3 = SpatialTransformer(channels[2], text_dim, num_heads)
        self.attn4 = SpatialTransformer(channels[3], text_dim, num_heads)
        self.cond_embed = nn.Embedding(num_classes + null_class, text_dim)
        if rng is not None:
            initialise(self, np.random.default_rng(rng))

    def attend3(self, h: Tensor, y: Tensor) -> Tensor:
        """The class is a context of one vector."""
        return self.attn3(h, self.cond_embed(y)[:, None])

    def attend4(self, h: Tensor, y: Tensor) -> Tensor:
        """As `attend3`."""
        return self.attn4(h, self.cond_embed(y)[:, None])


class LatentScoreUnet(nn.Module):
    """Latents z (B, channels[0], H, W), t and classes y (B,) -> the score of p(z | y): two halvings."""

    def __init__(
        self,
        marginal_prob_std: Callable[[Tensor], Tensor],
        channels: Sequence[int] = (4, 64, 128, 256),
        embed_dim: int = 256,
        text_dim: int = 256,
        num_classes: int = 10,
        num_heads: int = 1,
        null_class: bool = False,
        whole: bool = False,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self.marginal_prob_std, self.whole = marginal_prob_std, whole
        c0, c1, c2, c3 = channels
        self.time_embed = nn.Sequential(GaussianFourierProjection(embed_dim), nn.Linear(embed_dim, embed_dim))
        self.conv1 = nn.Conv2d(c0, c1, 3, bias=False)
        self.dense1 = Dense(embed_dim, c1)
        self.gnorm1 = nn.GroupNorm(4, c1)
        self.conv2 = nn.Conv2d(c1, c2, 3, stride=2, bias=False)
        self.dense2 = Dense(embed_dim, c2)
        self.gnorm2 = nn.GroupNorm(4, c2)
        self.attn2 = SpatialTransformer(c2, text_dim, num_heads)
        self.conv3 = nn.Conv2d(c2, c3, 3, stride=2, bias=False)
        self.dense3 = Dense(embed_dim, c3)
        self.gnorm3 = nn.GroupNorm(4, c3)
        self.attn3 = SpatialTransformer(c3, text_dim, num_heads)
        self.tconv3 = nn.ConvTranspose2d(c3, c2, 3, stride=2, bias=False)
        self.dense6 = Dense(embed_dim, c2)
        self.tgnorm3 = nn.GroupNorm(4, c2)
        self.attn6 = SpatialTransformer(c2, text_dim, num_heads)
        self.tconv2 = nn.ConvTranspose2d(c2, c1, 3, stride=2, bias=False)
        self.dense7 = Dense(embed_dim, c1)
        self.tgnorm2 = nn.GroupNorm(4, c1)
        self.tconv1 = nn.ConvTranspose2d(c1, c0, 3)
        self.cond_embed = nn.Embedding(num_classes + null_class, text_dim)
        if rng is not None:
            initialise(self, np.random.default_rng(rng))

    def forward(self, z: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The score."""
        return with_margins(lambda z: self.score(z, t, y), z) if self.whole else self.score(z, t, y)

    def score(self, z: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The network."""
        embed, context = F.silu(self.time_embed(t)), self.cond_embed(y)[:, None]
        h1 = F.silu(self.gnorm1(self.conv1(z) + self.dense1(embed)))
        h2 = self.attn2(F.silu(self.gnorm2(self.conv2(h1) + self.dense2(embed))), context)
        h3 = self.attn3(F.silu(self.gnorm3(self.conv3(h2) + self.dense3(embed))), context)
        h = F.silu(self.tgnorm3(self.tconv3(h3, h2.shape[2:]) + self.dense6(embed)))
        h = self.attn6(h, context)
        h = F.silu(self.tgnorm2(self.tconv2(h + h2, h1.shape[2:]) + self.dense7(embed)))
        return self.tconv1(h + h1) / self.marginal_prob_std(t)[:, None, None, None]


def initialise(module: nn.Module, rng: np.random.Generator) -> None:
    """PyTorch's initial distributions, from ``rng``: U(+-1/sqrt(fan_in)) for layers, N(0, 1) for embeddings, 30 times
    that for frequencies. The fan-in of a transposed convolution counts what one input pixel reaches: dim_out k^2.
    """
    for child in module.modules():
        for name, parameter in child.named_parameters(recurse=False):
            if isinstance(child, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                bound = child.weight[0].numel() ** -0.5
                value = rng.uniform(-bound, bound, parameter.shape)
            elif isinstance(child, nn.Embedding):
                value = rng.standard_normal(parameter.shape)
            elif name == "W":
                value = 30 * rng.standard_normal(parameter.shape)
            else:
                continue
            parameter.data = torch.tensor(value, dtype=parameter.dtype, device=parameter.device)
