"""Stable Diffusion's networks in PyTorch, to be read beside Rombach et al., https://arxiv.org/abs/2112.10752.

The autoencoder (section 3.1), the U-Net with transformers that attend to a prompt (section 3.3), and the U-Net of Ho et
al., https://arxiv.org/abs/2006.11239, appendix B, from which both come. Parameters have the names of published files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F


class Timesteps(nn.Module):
    """cos and sin of t f_i, f_i = 10000^(-i / (half - shift)): (B,) -> (B, dim)."""

    def __init__(self, dim: int, cos_first: bool = True, shift: float = 0):
        super().__init__()
        self.half = dim // 2
        self.cos_first = cos_first
        self.shift = shift

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """t in the precision of the network."""
        i = torch.arange(self.half, dtype=torch.float64, device=t.device)
        frequencies = torch.exp(-math.log(10000) * i / (self.half - self.shift)).float()
        phase = t[:, None] * frequencies.to(t.dtype)
        cos, sin = torch.cos(phase), torch.sin(phase)
        return torch.cat((cos, sin) if self.cos_first else (sin, cos), 1)


class TimestepEmbedding(nn.Module):
    """Two dense layers, a SiLU between them."""

    def __init__(self, dim: int, dim_out: int):
        super().__init__()
        self.linear_1 = nn.Linear(dim, dim_out)
        self.linear_2 = nn.Linear(dim_out, dim_out)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """(B, dim) -> (B, dim_out)."""
        return self.linear_2(F.silu(self.linear_1(t)))


class ResnetBlock(nn.Module):
    """Two convolutions, each behind a norm and a SiLU; what the time says is added between them."""

    def __init__(self, dim: int, dim_out: int, time_dim: int | None, groups: int, eps: float):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, dim, eps)
        self.conv1 = nn.Conv2d(dim, dim_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_dim, dim_out) if time_dim else None
        self.norm2 = nn.GroupNorm(groups, dim_out, eps)
        self.conv2 = nn.Conv2d(dim_out, dim_out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(dim, dim_out, 1) if dim != dim_out else None

    def forward(self, x: torch.Tensor, emb: torch.Tensor | None = None) -> torch.Tensor:
        """x (B, dim, H, W), emb (B, time_dim) after its SiLU."""
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None:
            h = h + self.time_emb_proj(emb)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(nn.Module):
    """A convolution of stride 2, padded all around, or (padding 0) below and to the right alone."""

    def __init__(self, dim: int, padding: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, stride=2, padding=padding)
        self.padding = padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, dim, H, W) -> (B, dim, H', W')."""
        return self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest neighbour to twice the size, or to a given one, and a convolution."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: torch.Tensor, size: Sequence[int] | None = None) -> torch.Tensor:
        """(B, dim, H, W) -> (B, dim, *size)."""
        height, width = x.shape[2:]
        x = F.interpolate(x, size=tuple(size or (2 * height, 2 * width)), mode="nearest")
        return self.conv(x)


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v of several heads, of tokens to themselves or to a context."""

    def __init__(self, dim: int, heads: int, context_dim: int | None = None, bias: bool = False):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias)
        self.to_k, self.to_v = (nn.Linear(context_dim or dim, dim, bias) for _ in range(2))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """x (B, T, dim), context (B, S, context_dim) -> (B, T, dim)."""
        context = x if context is None else context
        q, k, v = (
            y.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for y in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), -1)
        return self.to_out[0]((weights @ v).transpose(1, 2).flatten(2))


class ImageAttention(Attention):
    """Of all pixels to each other, on a normalised image and added to it."""

    def __init__(self, dim: int, heads: int, groups: int, eps: float):
        super().__init__(dim, heads, bias=True)
        self.group_norm = nn.GroupNorm(groups, dim, eps)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """(B, dim, H, W) -> the same."""
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        return x + super().forward(tokens).transpose(1, 2).unflatten(2, x.shape[2:])


class GEGLU(nn.Module):
    """value gelu(gate): Shazeer, https://arxiv.org/abs/2002.05202, eq. 6."""

    def __init__(self, dim: int, dim_out: int):
        super().__init__()
        self.proj = nn.Linear(dim, 2 * dim_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., dim) -> (..., dim_out)."""
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """A GEGLU of four times the width, and back."""

    def __init__(self, dim: int):
        super().__init__()
        self.net = nn.ModuleList([GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, dim) -> the same."""
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    """Self-attention, attention to the context, feed-forward."""

    def __init__(self, dim: int, heads: int, context_dim: int):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.attn1 = Attention(dim, heads)
        self.attn2 = Attention(dim, heads, context_dim)
        self.ff = FeedForward(dim)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """x (B, T, dim), context (B, S, context_dim)."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    """Transformer blocks over the pixels of an image, between two projections, added to it."""

    def __init__(self, dim: int, heads: int, context_dim: int, layers: int, groups: int, linear: bool):
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, dim, 1e-6)
        self.proj_in, self.proj_out = (nn.Linear(dim, dim) if linear else nn.Conv2d(dim, dim, 1) for _ in range(2))
        self.transformer_blocks = nn.ModuleList(TransformerBlock(dim, heads, context_dim) for _ in range(layers))

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """x (B, dim, H, W), context (B, S, context_dim)."""
        h = self.norm(x)
        h = h if self.linear else self.proj_in(h)
        tokens = h.flatten(2).transpose(1, 2)
        tokens = self.proj_in(tokens) if self.linear else tokens
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        tokens = self.proj_out(tokens) if self.linear else tokens
        h = tokens.transpose(1, 2).unflatten(2, x.shape[2:])
        return x + (h if self.linear else self.proj_out(h))


MakeLayer = Callable[[int], nn.Module] | None


class Stage(nn.Module):
    """Residual blocks of ``widths`` (in, out), an attention behind each where there is one; then a change of size."""

    def __init__(
        self, widths: Sequence[tuple[int, int]], block: Callable, attention: MakeLayer, name: str, resize: MakeLayer
    ):
        super().__init__()
        self.resnets = nn.ModuleList(block(dim, dim_out) for dim, dim_out in widths)
        self.attentions = nn.ModuleList(attention(dim) for _, dim in widths) if attention else None
        self.name = name if resize else ""
        if resize:
            setattr(self, name, nn.ModuleList([resize(widths[-1][1])]))

    def layer(self, i: int, x: torch.Tensor, emb, context) -> torch.Tensor:
        """Residual block ``i`` and its attention."""
        x = self.resnets[i](x, emb)
        return self.attentions[i](x, context) if self.attentions is not None else x

    def resized(self, x: torch.Tensor, *size) -> torch.Tensor:
        """The image in the size of the next stage."""
        return getattr(self, self.name)[0](x, *size) if self.name else x


class Middle(nn.Module):
    """A residual block, an attention, a residual block."""

    def __init__(self, dim: int, block: Callable, attention: Callable):
        super().__init__()
        self.resnets = nn.ModuleList([block(dim, dim), block(dim, dim)])
        self.attentions = nn.ModuleList([attention(dim)])

    def forward(self, x: torch.Tensor, emb=None, context=None) -> torch.Tensor:
        """(B, dim, H, W) -> the same."""
        return self.resnets[1](self.attentions[0](self.resnets[0](x, emb), context), emb)


def _stacked(dim: int, dim_out: int, layers: int) -> list[tuple[int, int]]:
    return [(dim if i == 0 else dim_out, dim_out) for i in range(layers)]


class Encoder(nn.Module):
    """Image -> mean and logarithm of the variance of its latents."""

    def __init__(self, channels: int, widths: Sequence[int], layers: int, latents: int, groups: int):
        super().__init__()

        def block(dim, dim_out):
            return ResnetBlock(dim, dim_out, None, groups, 1e-6)

        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Stage(
                _stacked(widths[max(i - 1, 0)], width, layers), block, None, "downsamplers",
                (lambda dim: Downsample(dim, 0)) if i < len(widths) - 1 else None,
            )
            for i, width in enumerate(widths)
        )  # fmt: skip
        self.mid_block = Middle(widths[-1], block, lambda dim: ImageAttention(dim, 1, groups, 1e-6))
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], 1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * latents, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) -> (B, 2 latents, h, w)."""
        x = self.conv_in(x)
        for stage in self.down_blocks:
            for i in range(len(stage.resnets)):
                x = stage.layer(i, x, None, None)
            x = stage.resized(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents -> image."""

    def __init__(self, channels: int, widths: Sequence[int], layers: int, latents: int, groups: int):
        super().__init__()
        widths = list(reversed(widths))

        def block(dim, dim_out):
            return ResnetBlock(dim, dim_out, None, groups, 1e-6)

        self.conv_in = nn.Conv2d(latents, widths[0], 3, padding=1)
        self.mid_block = Middle(widths[0], block, lambda dim: ImageAttention(dim, 1, groups, 1e-6))
        self.up_blocks = nn.ModuleList(
            Stage(
                _stacked(widths[max(i - 1, 0)], width, layers + 1), block, None, "upsamplers",
                Upsample if i < len(widths) - 1 else None,
            )
            for i, width in enumerate(widths)
        )  # fmt: skip
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], 1e-6)
        self.conv_out = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """(B, latents, h, w) -> (B, channels, H, W)."""
        z = self.mid_block(self.conv_in(z))
        for stage in self.up_blocks:
            for i in range(len(stage.resnets)):
                z = stage.layer(i, z, None, None)
            z = stage.resized(z)
        return self.conv_out(F.silu(self.conv_norm_out(z)))


class AutoencoderKL(nn.Module):
    """Images to a normal distribution of latents, and back."""

    def __init__(self, widths: Sequence[int], layers: int = 1, groups: int = 32, channels: int = 3, latents: int = 4):
        super().__init__()
        self.encoder = Encoder(channels, widths, layers, latents, groups)
        self.decoder = Decoder(channels, widths, layers, latents, groups)
        self.quant_conv = nn.Conv2d(2 * latents, 2 * latents, 1)
        self.post_quant_conv = nn.Conv2d(latents, latents, 1)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, channels, H, W) -> mean and logarithm of the variance, between -30 and 20, of the latents."""
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, 1)
        return mean, logvar.clamp(-30, 20)

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """There and back by a draw of the latents."""
        mean, logvar = self.encode(x)
        return self.decoder(self.post_quant_conv(mean + torch.exp(logvar / 2) * noise))


class DenoisingUnet(nn.Module):
    """Down, through the middle and up again; each stage up is joined to what the way down made.

    ``down``, ``middle`` and ``up`` make the attention of a stage from its width, None where there is none; ``up`` from
    the inside out. ``seen`` channels come in where they are more than the ``channels`` that go out.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        layers: int,
        down: Sequence[MakeLayer],
        middle: MakeLayer,
        up: Sequence[MakeLayer],
        groups: int,
        eps: float = 1e-5,
        padding: int = 1,
        cos_first: bool = True,
        shift: float = 0,
        seen: int | None = None,
    ):
        super().__init__()
        time_dim, last = 4 * widths[0], len(widths) - 1

        def block(dim, dim_out):
            return ResnetBlock(dim, dim_out, time_dim, groups, eps)

        self.time_proj = Timesteps(widths[0], cos_first, shift)
        self.time_embedding = TimestepEmbedding(widths[0], time_dim)
        self.conv_in = nn.Conv2d(seen or channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Stage(
                _stacked(widths[max(i - 1, 0)], width, layers), block, down[i], "downsamplers",
                (lambda dim: Downsample(dim, padding)) if i < last else None,
            )
            for i, width in enumerate(widths)
        )  # fmt: skip
        self.mid_block = Middle(widths[-1], block, middle)
        self.up_blocks = nn.ModuleList()
        x_dim, made = widths[-1], [widths[0]]  # the widths of what is joined, in the order in which it is made
        for i, width in enumerate(widths):
            made += [width] * (layers + (i < last))
        for i, width in enumerate(reversed(widths)):
            dims = []
            for _ in range(layers + 1):
                dims.append((x_dim + made.pop(), width))
                x_dim = width
            self.up_blocks.append(Stage(dims, block, up[i], "upsamplers", Upsample if i < last else None))
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], eps)
        self.conv_out = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """x (B, seen, H, W), t (B,), context (B, S, width) -> the noise in x (B, channels, H, W)."""
        emb = F.silu(self.time_embedding(self.time_proj(t.to(x.dtype))))
        x = self.conv_in(x)
        made = [x]
        for stage in self.down_blocks:
            for i in range(len(stage.resnets)):
                x = stage.layer(i, x, emb, context)
                made.append(x)
            if stage.name:
                x = stage.resized(x)
                made.append(x)
        x = self.mid_block(x, emb, context)
        for stage in self.up_blocks:
            for i in range(len(stage.resnets)):
                x = stage.layer(i, torch.cat((x, made.pop()), 1), emb, context)
            x = stage.resized(x, made[-1].shape[2:]) if stage.name else x
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def conditional_unet(
    widths: Sequence[int],
    heads: Sequence[int],
    context_dim: int,
    attends: Sequence[bool],
    *,
    layers: int = 1,
    groups: int = 32,
    linear: bool = False,
    depth: int = 1,
    seen: int = 4,
) -> DenoisingUnet:
    """Stable Diffusion's U-Net of latents of four channels; ``heads`` and ``attends`` for each width.

    A network that fills in has ``seen`` 9: the latents, the mask, and the latents of what is known.
    """

    def transformer(level: int) -> Callable:
        return lambda dim: Transformer(dim, heads[level], context_dim, depth, groups, linear)

    stages = [transformer(i) if attends[i] else None for i in range(len(widths))]
    return DenoisingUnet(4, widths, layers, stages, transformer(len(widths) - 1), stages[::-1], groups, seen=seen)


def unconditional_unet(
    widths: Sequence[int],
    head_width: int | None,
    attends: Sequence[bool],
    *,
    layers: int = 1,
    groups: int = 32,
    eps: float = 1e-5,
    padding: int = 1,
    cos_first: bool = True,
    shift: float = 0,
) -> DenoisingUnet:
    """The U-Net of images of three channels, whose attention is that of pixels to each other."""

    def attention(dim: int) -> nn.Module:
        return ImageAttention(dim, dim // (head_width or dim), groups, eps)

    stages = [attention if one else None for one in attends]
    return DenoisingUnet(3, widths, layers, stages, attention, stages[::-1], groups, eps, padding, cos_first, shift)
