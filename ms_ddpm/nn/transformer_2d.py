"""Attention as Stable Diffusion has it: of an image to itself, and in transformers to the words of a prompt.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", https://arxiv.org/abs/2112.10752,
section 3.3 and appendix E.2.1. Weights have the names of diffusers' files. Sequences are (B, length, width).
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
from mindspore import Tensor, nn

from ..errors import UserError
from ..maths.random import host_rng
from ..ops import by_operators
from ..ops.placed import Placed
from .layers import Conv2d, Linear
from .norms import GroupNorm, LayerNorm

TRANSFORMER_EPS = 1e-6  # of its group normalisation, whatever that of the network's other ones is


def head_width(dim: int, heads: int) -> int:
    """The width of one of ``heads`` heads that share ``dim`` channels. UserError where they cannot."""
    if heads < 1 or dim % heads:
        raise UserError(f"{dim} channels cannot be shared by {heads} attention heads; expected a divisor of {dim}")
    return dim // heads


class TokenAttention(Placed):
    """softmax(q k^T / sqrt(d)) v of every head, then a dense layer: tokens (B, T, dim)[, context (B, S, context_dim)].

    Vaswani et al., https://arxiv.org/abs/1706.03762, section 3.2. Without a context the tokens attend to themselves.
    ``bias`` is that of q, k and v; the output's dense layer always has one.

    Raises:
        UserError: where ``heads`` does not divide ``dim``.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        context_dim: int | None = None,
        *,
        bias: bool = False,
        rng: np.random.Generator | None = None,
    ):
        super().__init__()
        rng = host_rng(rng)
        source = dim if context_dim is None else context_dim
        self.heads, self.scale = heads, head_width(dim, heads) ** -0.5
        self.to_q = Linear(dim, dim, bias, rng=rng)
        self.to_k = Linear(source, dim, bias, rng=rng)
        self.to_v = Linear(source, dim, bias, rng=rng)
        self.to_out = nn.CellList([Linear(dim, dim, rng=rng)])
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.attend = on.attend(self.heads, self.scale)

    def construct(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        source = tokens if context is None else context
        return self.to_out[0](self.attend(self.to_q(tokens), self.to_k(source), self.to_v(source)))


class ImageAttention(TokenAttention):
    """x + attention of the pixels of norm(x) to each other: (B, dim, H, W) -> the same.

    Ho et al., https://arxiv.org/abs/2006.11239, appendix B. ``context`` is not looked at: a `Transformer2DModel` may
    stand in the same place.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        *,
        groups: int = 32,
        eps: float = 1e-6,
        rng: np.random.Generator | None = None,
    ):
        super().__init__(dim, heads, bias=True, rng=rng)
        self.group_norm = GroupNorm(groups, dim, eps)

    def place(self, on: ModuleType) -> None:
        self.attend = on.attend(self.heads, self.scale)
        self.tokens = on.tokens
        self.of_tokens = on.of_tokens
        self.plus = on.plus()

    def construct(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        tokens = self.tokens(self.group_norm(x))
        tokens = self.attend(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens))
        return self.plus(self.of_tokens(self.to_out[0](tokens), x), x)


class GEGLU(Placed):
    """value gelu(gate), (value, gate) = proj(x): (B, T, dim) -> (B, T, dim_out). The exact GELU.

    Shazeer, "GLU Variants Improve Transformer", https://arxiv.org/abs/2002.05202, eq. 6.
    """

    def __init__(self, dim: int, dim_out: int, *, rng: np.random.Generator | None = None):
        super().__init__()
        self.proj = Linear(dim, 2 * dim_out, rng=rng)
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.gated = on.geglu()

    def construct(self, x: Tensor) -> Tensor:
        return self.gated(self.proj(x))


class FeedForward(nn.Cell):
    """A GEGLU of 4 dim units and a dense layer: (B, T, dim) -> the same."""

    def __init__(self, dim: int, *, rng: np.random.Generator | None = None):
        super().__init__()
        rng = host_rng(rng)
        # Number 1 is a dropout in diffusers, and the dense layer's weights are therefore called net.2.
        self.net = nn.CellList([GEGLU(dim, 4 * dim, rng=rng), nn.Identity(), Linear(4 * dim, dim, rng=rng)])

    def construct(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class BasicTransformerBlock(Placed):
    """Self-attention, attention to the context and a `FeedForward`, each of a normalised input and added to it.

    x (B, T, dim), context (B, S, context_dim) -> (B, T, dim).
    """

    def __init__(self, dim: int, heads: int, context_dim: int, *, rng: np.random.Generator | None = None):
        super().__init__()
        rng = host_rng(rng)
        self.norm1 = LayerNorm(dim)
        self.norm2 = LayerNorm(dim)
        self.norm3 = LayerNorm(dim)
        self.attn1 = TokenAttention(dim, heads, rng=rng)
        self.attn2 = TokenAttention(dim, heads, context_dim, rng=rng)
        self.ff = FeedForward(dim, rng=rng)
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.plus = on.plus()

    def construct(self, x: Tensor, context: Tensor) -> Tensor:
        x = self.plus(self.attn1(self.norm1(x)), x)
        x = self.plus(self.attn2(self.norm2(x), context), x)
        return self.plus(self.ff(self.norm3(x)), x)


class Transformer2DModel(Placed):
    """x + proj_out(transformer blocks(proj_in(norm(x)), context)).

    x (B, dim, H, W), context (B, S, context_dim) -> (B, dim, H, W).

    ``linear`` makes the two projections dense layers on the sequence of pixels (Stable Diffusion 2), where they are
    1x1 convolutions otherwise (1): the same product, and weights of another shape in the file.

    Raises:
        UserError: for a width that ``heads`` or ``groups`` does not divide.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        context_dim: int,
        layers: int = 1,
        *,
        groups: int = 32,
        linear: bool = False,
        rng: np.random.Generator | None = None,
    ):
        super().__init__()
        rng = host_rng(rng)
        self.linear = linear
        self.norm = GroupNorm(groups, dim, TRANSFORMER_EPS)
        self.proj_in = Linear(dim, dim, rng=rng) if linear else Conv2d(dim, dim, 1, rng=rng)
        self.transformer_blocks = nn.CellList(
            [BasicTransformerBlock(dim, heads, context_dim, rng=rng) for _ in range(layers)]
        )
        self.proj_out = Linear(dim, dim, rng=rng) if linear else Conv2d(dim, dim, 1, rng=rng)
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.tokens = on.tokens
        self.of_tokens = on.of_tokens
        self.plus = on.plus()

    def construct(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.norm(x)
        tokens = self.proj_in(self.tokens(h)) if self.linear else self.tokens(self.proj_in(h))
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        if self.linear:
            return self.plus(self.of_tokens(self.proj_out(tokens), x), x)
        return self.plus(self.proj_out(self.of_tokens(tokens, x)), x)
