"""Linear and full attention over the pixels of an image: ``attention(x, residual)`` is attention(x) + residual.

Layout inside, where the C++ kernels are not used: heads are folded into the batch and pixels run last,
(B * heads, d, n), which is what a 1x1 convolution delivers. Softmax always runs over the last axis: MindSpore's CPU
kernel needs three to five times as long over any other (measured on 2.10, forward and backward).
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..layouts import LAYOUTS
from ..ops import kernels
from ..random import normal
from .layers import Conv2d
from .norms import ChannelLayerNorm, RMSNorm

NUM_MEM_KV = 4
QUERY_CHUNK = 256  # queries per block when the whole (n, n) matrix is not to exist at once


def softmax(x: Tensor) -> Tensor:
    """Softmax over the last axis, in float32."""
    return ops.cast(ops.softmax(ops.cast(x, ms.float32), -1), x.dtype)


class _Attention(nn.Cell):
    """What both attentions share: normalised input, q k v from one convolution, memory keys and values."""

    def __init__(self, dim: int, heads: int, dim_head: int, norm: str, rng: np.random.Generator):
        super().__init__()
        self.heads, self.dim_head, self.scale = heads, dim_head, dim_head**-0.5
        hidden = heads * dim_head
        self.layout = LAYOUTS[norm]
        self.norm = self.make_norm(dim)
        self.has_memory = self.layout.memory
        if self.has_memory:
            self.mem_kv = Parameter(Tensor(normal(rng, self.memory_shape())), name="mem_kv")
        self.to_qkv = Conv2d(dim, hidden * 3, 1, bias=False, rng=rng)
        self.to_out = Conv2d(hidden, dim, 1, rng=rng)
        self.thirds = ops.Split(axis=1, output_num=3)
        self.memory_halves = ops.Split(axis=0, output_num=2)
        self.matmul = ops.BatchMatMul()
        self.matmul_at = ops.BatchMatMul(transpose_a=True)
        self.matmul_bt = ops.BatchMatMul(transpose_b=True)

        self.channels_last = False
        self.is_linear = False
        self.head_count = Tensor(np.zeros(heads, np.float32))  # tells the kernel without memory how many there are

    def make_norm(self, dim: int) -> nn.Cell:
        """The normalisation of this layout's attention."""
        return ChannelLayerNorm(dim) if self.layout.centred else RMSNorm(dim)

    def prepare_channels_last(self) -> None:
        """Called by `layers.use_channels_last`."""
        self.kernel = kernels.attention(self.is_linear, self.has_memory)

    def attended(self, x: Tensor) -> Tensor:
        """The heads' result (B, H, W, heads * d) of an image (B, H, W, C), by the C++ kernel."""
        return self.kernel(self.to_qkv(self.norm(x)), self.mem_kv if self.has_memory else self.head_count)

    def memory_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    def with_memory(self, memory: Tensor, x: Tensor, batch: int) -> Tensor:
        """The learned columns (heads, d, 4) before those of the image: (B * heads, d, 4 + n)."""
        memory = ops.tile(ops.cast(memory, x.dtype).reshape(1, self.heads, self.dim_head, NUM_MEM_KV), (batch, 1, 1, 1))
        return ops.concat((memory.reshape(-1, self.dim_head, NUM_MEM_KV), x), 2)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, _, h, w = x.shape
        q, k, v = self.thirds(self.to_qkv(self.norm(x)))
        shape = (b * self.heads, self.dim_head, h * w)
        return q.reshape(shape), k.reshape(shape), v.reshape(shape)


class LinearAttention(_Attention):
    """Attention whose cost is linear in the number of pixels: (B, C, H, W) -> same.

    Shen et al., "Efficient Attention", https://arxiv.org/abs/1812.01243: softmax of q over features, of k over
    positions, then (v k^T) q.
    """

    def __init__(self, dim: int, heads: int = 4, dim_head: int = 32, *, norm: str = "rms", rng: np.random.Generator):
        super().__init__(dim, heads, dim_head, norm, rng)
        self.out_norm = self.make_norm(dim)
        self.is_linear = True
        self.divides_values = self.layout.divides_values
        # The kernel without memory always divides the values; its result is linear in them.
        self.undo_division = not (self.has_memory or self.divides_values)

    def memory_shape(self) -> tuple[int, ...]:
        return (2, self.heads, self.dim_head, NUM_MEM_KV)

    def construct(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if self.channels_last:
            out = self.attended(x)
            if self.undo_division:
                out = out * (x.shape[1] * x.shape[2])
            return self.out_norm.fused(self.to_out(out), residual)
        b, _, h, w = x.shape
        q, k, v = self.qkv(x)
        if self.has_memory:
            mem_k, mem_v = self.memory_halves(self.mem_kv)
            k, v = self.with_memory(mem_k, k, b), self.with_memory(mem_v, v, b)
        if self.divides_values:
            v = v / (h * w)
        q = softmax(q.transpose(0, 2, 1)) * self.scale  # (B heads, n, d)
        context = self.matmul_bt(v, softmax(k))  # (B heads, e, d)
        out = self.matmul_bt(context, q)  # (B heads, e, n)
        out = self.out_norm(self.to_out(out.reshape(b, -1, h, w)))
        return out if residual is None else out + residual


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

    def memory_shape(self) -> tuple[int, ...]:
        return (2, self.heads, NUM_MEM_KV, self.dim_head)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B heads, d, i), k and v (B heads, d, j) -> (B heads, d, i)."""
        weights = softmax(self.matmul_at(q, k))  # (B heads, i, j)
        return self.matmul_bt(v, weights)  # (B heads, d, i)

    def construct(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if self.channels_last:
            out = self.to_out(self.attended(x))
            return out if residual is None else out + residual
        b, _, h, w = x.shape
        q, k, v = self.qkv(x)
        if self.has_memory:
            mem_k, mem_v = self.memory_halves(self.mem_kv)
            k = self.with_memory(mem_k.transpose(0, 1, 3, 2), k, b)
            v = self.with_memory(mem_v.transpose(0, 1, 3, 2), v, b)
        q = q * self.scale
        if self.chunked and h * w > QUERY_CHUNK:
            out = ()
            for block in ops.split(q, QUERY_CHUNK, 2):
                out = out + (self.attend(block, k, v),)
            out = ops.concat(out, 2)
        else:
            out = self.attend(q, k, v)
        out = self.to_out(out.reshape(b, -1, h, w))
        return out if residual is None else out + residual
