"""Transformer blocks over the pixels of an image, conditioned by a sequence of context vectors.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", https://arxiv.org/abs/2112.10752,
section 3.3, in the small form of the score article (docs/systems.md): no projection in or out, one residual around the
whole. Sequences are (B, length, width).
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
from mindspore import Tensor, nn

from ..errors import UserError
from ..maths.random import host_rng
from ..ops import by_operators
from ..ops.placed import Placed
from .activations import GELU
from .layers import Linear
from .norms import LayerNorm


class CrossAttention(Placed):
    """softmax(q k^T / sqrt(d)) v: tokens (B, T, hidden_dim)[, context (B, S, context_dim)] -> (B, T, hidden_dim).

    Vaswani et al., https://arxiv.org/abs/1706.03762, eq. 1. Without ``context_dim`` tokens attend to themselves.
    Several heads (section 3.2.2) each see a part of q, k and v, d = embed_dim / num_heads, and their results stand one
    behind the other; there is no output projection W^O, so that weights have the same shapes for any number of heads
    and one head is the article's.

    Over a context of one vector the softmax is 1 whatever the query: the result is ``value(context)`` for every token,
    and ``query`` and ``key`` get no gradient.

    Raises:
        UserError: where ``num_heads`` does not divide both widths.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int,
        context_dim: int | None = None,
        num_heads: int = 1,
        *,
        rng: np.random.Generator | None = None,
    ):
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads or hidden_dim % num_heads:
            raise UserError(
                f"num_heads is {num_heads}, expected a divisor of the attention's widths ({embed_dim} and {hidden_dim})"
            )
        rng = host_rng(rng)
        self.self_attn = context_dim is None
        source = hidden_dim if context_dim is None else context_dim
        self.heads, self.scale = num_heads, (embed_dim // num_heads) ** -0.5
        self.query = Linear(hidden_dim, embed_dim, bias=False, rng=rng)
        self.key = Linear(source, embed_dim, bias=False, rng=rng)
        self.value = Linear(source, hidden_dim, bias=False, rng=rng)
        self.of_one_width = embed_dim == hidden_dim
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        make = on.self_attention if self.self_attn and self.of_one_width else on.cross_attention
        self.attend = make(self.heads, self.scale)

    def construct(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        return self.attend(tokens, tokens if self.self_attn else context, self.query, self.key, self.value)


class TransformerBlock(nn.Cell):
    """Self-attention, cross-attention and a two-layer network of 3 hidden_dim units, each on a normalised input and
    added to it: x (B, T, hidden_dim), context (B, S, context_dim) -> (B, T, hidden_dim).

    Pre-norm after Xiong et al., https://arxiv.org/abs/2002.04745.
    """

    def __init__(
        self, hidden_dim: int, context_dim: int, num_heads: int = 1, *, rng: np.random.Generator | None = None
    ):
        super().__init__()
        rng = host_rng(rng)
        self.attn_self = CrossAttention(hidden_dim, hidden_dim, None, num_heads, rng=rng)
        self.attn_cross = CrossAttention(hidden_dim, hidden_dim, context_dim, num_heads, rng=rng)
        self.norm1 = LayerNorm(hidden_dim)
        self.norm2 = LayerNorm(hidden_dim)
        self.norm3 = LayerNorm(hidden_dim)
        self.ffn = nn.SequentialCell(
            Linear(hidden_dim, 3 * hidden_dim, rng=rng), GELU(), Linear(3 * hidden_dim, hidden_dim, rng=rng)
        )

    def construct(self, x: Tensor, context: Tensor) -> Tensor:
        x = self.attn_self(self.norm1(x)) + x
        x = self.attn_cross(self.norm2(x), context) + x
        return self.ffn(self.norm3(x)) + x


class SpatialTransformer(Placed):
    """A `TransformerBlock` over the pixels, added to the image: x (B, C, H, W), context (B, S, context_dim) -> as x."""

    def __init__(
        self, hidden_dim: int, context_dim: int, num_heads: int = 1, *, rng: np.random.Generator | None = None
    ):
        super().__init__()
        self.transformer = TransformerBlock(hidden_dim, context_dim, num_heads, rng=rng)
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.tokens, self.of_tokens = on.tokens, on.of_tokens

    def construct(self, x: Tensor, context: Tensor) -> Tensor:
        return self.of_tokens(self.transformer(self.tokens(x), context), x) + x
