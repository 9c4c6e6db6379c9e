"""Linear and full attention over the pixels of an image: ``attention(x, residual)`` is attention(x) + residual."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from mindspore import Parameter, Tensor, nn

from ..config.layouts import LAYOUTS
from ..maths.random import normal
from ..ops import by_operators
from ..ops.by_operators import NUM_MEM_KV
from ..ops.placed import Placed
from .layers import Conv2d
from .norms import ChannelLayerNorm, RMSNorm


class _Attention(Placed):
    """What both attentions share: normalised input, q k v from one convolution, memory keys and values."""

    def __init__(self, dim: int, heads: int, dim_head: int, norm: str, rng: np.random.Generator):
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        hidden = heads * dim_head
        self.layout = LAYOUTS[norm]
        self.norm = self.make_norm(dim)
        self.has_memory = self.layout.memory
        if self.has_memory:
            self.mem_kv = Parameter(Tensor(normal(rng, self.memory_shape())), name="mem_kv")
        self.to_qkv = Conv2d(dim, hidden * 3, 1, bias=False, rng=rng)
        self.to_out = Conv2d(hidden, dim, 1, rng=rng)

    def make_norm(self, dim: int) -> nn.Cell:
        """The normalisation of this layout's attention."""
        return ChannelLayerNorm(dim) if self.layout.centred else RMSNorm(dim)

    def memory_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    def attended(self, x: Tensor) -> Tensor:
        """The heads' results, before they are mixed."""
        return self.attend(self.to_qkv(self.norm(x)), self.mem_kv if self.has_memory else None)


class LinearAttention(_Attention):
    """Attention whose cost is linear in the number of pixels: (B, C, H, W) -> same.

    Shen et al., "Efficient Attention", https://arxiv.org/abs/1812.01243: softmax of q over features, of k over
    positions, then (v k^T) q.
    """

    def __init__(self, dim: int, heads: int = 4, dim_head: int = 32, *, norm: str = "rms", rng: np.random.Generator):
        super().__init__(dim, heads, dim_head, norm, rng)
        self.out_norm = self.make_norm(dim)
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.attend = on.linear_attention(self.heads, self.dim_head, self.has_memory, self.layout.divides_values)

    def memory_shape(self) -> tuple[int, ...]:
        return (2, self.heads, self.dim_head, NUM_MEM_KV)

    def construct(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.out_norm(self.to_out(self.attended(x)), residual)


class Attention(_Attention):
    """Softmax attention between all pairs of pixels: (B, C, H, W) -> same.

    Vaswani et al., https://arxiv.org/abs/1706.03762, eq. 1. With ``chunked`` the (n, n) matrix of weights is
    made block by block, so memory grows with n instead of n^2; the numbers are the same.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 4,
        dim_head: int = 32,
        *,
        norm: str = "rms",
        chunked: bool = False,
        rng: np.random.Generator,
    ):
        super().__init__(dim, heads, dim_head, norm, rng)
        self.chunked = chunked
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.attend = on.full_attention(self.heads, self.dim_head, self.has_memory, self.chunked)

    def memory_shape(self) -> tuple[int, ...]:
        return (2, self.heads, NUM_MEM_KV, self.dim_head)

    def construct(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        out = self.to_out(self.attended(x))
        return out if residual is None else out + residual
