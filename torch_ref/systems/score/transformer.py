"""Transformer blocks over the pixels of an image (Rombach et al. 2022, https://arxiv.org/abs/2112.10752, sec. 3.3)."""

import torch
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, eq. 1), without W^O.

    Each of h heads has its share of q, k and v: d = embed_dim / h. Without a context tokens attend to themselves.
    """

    def __init__(self, embed_dim: int, hidden_dim: int, context_dim: int | None = None, num_heads: int = 1) -> None:
        super().__init__()
        self.heads = num_heads
        source = hidden_dim if context_dim is None else context_dim
        self.query = nn.Linear(hidden_dim, embed_dim, bias=False)
        self.key = nn.Linear(source, embed_dim, bias=False)
        self.value = nn.Linear(source, hidden_dim, bias=False)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """tokens (B, T, hidden_dim), context (B, S, context_dim) -> (B, T, hidden_dim)."""
        source = tokens if context is None else context
        q, k, v = (
            x.unflatten(2, (self.heads, -1)) for x in (self.query(tokens), self.key(source), self.value(source))
        )  # (B, length, h, d)
        weight = (torch.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5).softmax(dim=-1)
        return torch.einsum("bhts,bshd->bthd", weight, v).flatten(2)


class TransformerBlock(nn.Module):
    """x + attention(norm x), x + cross-attention(norm x), x + MLP(norm x), one after the other."""

    def __init__(self, hidden_dim: int, context_dim: int, num_heads: int = 1) -> None:
        super().__init__()
        self.attn_self = CrossAttention(hidden_dim, hidden_dim, None, num_heads)
        self.attn_cross = CrossAttention(hidden_dim, hidden_dim, context_dim, num_heads)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(hidden_dim) for _ in range(3))
        self.ffn = nn.Sequential(
            nn.Linear(hidden_dim, 3 * hidden_dim), nn.GELU(), nn.Linear(3 * hidden_dim, hidden_dim)
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, T, hidden_dim), context (B, S, context_dim) -> as x."""
        x = x + self.attn_self(self.norm1(x))
        x = x + self.attn_cross(self.norm2(x), context)
        return x + self.ffn(self.norm3(x))


class SpatialTransformer(nn.Module):
    """x + TransformerBlock(x's pixels)."""

    def __init__(self, hidden_dim: int, context_dim: int, num_heads: int = 1) -> None:
        super().__init__()
        self.transformer = TransformerBlock(hidden_dim, context_dim, num_heads)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, C, H, W), context (B, S, context_dim) -> as x."""
        pixels = x.flatten(2).transpose(1, 2)
        return x + self.transformer(pixels, context).transpose(1, 2).unflatten(2, x.shape[2:])
