"""Attention over the positions of an image: full, and linear in their number. Heads h, width d, N = H * W positions.

"rms" is today's layout: the input is normalised inside, and four learned keys and values stand before the image's own.
"group" is 2022's: neither; the input's norm and the residual stand outside, in ``Residual(PreNorm(dim, attention))``.
`layers.LAYOUTS` has those between.
"""

import torch
from torch import Tensor, nn

from .layers import LAYOUTS, LayerNorm, RMSNorm

MEMORY = 4


def norm_of(layout: str, dim: int) -> nn.Module:
    """The normalisation beside the attention of a layout."""
    return LayerNorm(dim) if LAYOUTS[layout].mean else RMSNorm(dim)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, h d, H, W) -> (B, h, d, N)."""
    return x.flatten(2).unflatten(1, (heads, -1))


def merge_heads(x: Tensor, height: int, width: int) -> Tensor:
    """(B, h, d, N) -> (B, h d, H, W)."""
    return x.flatten(1, 2).unflatten(2, (height, width))


def with_memory(memory: Tensor | None, x: Tensor, dim: int) -> Tensor:
    """``memory`` before ``x`` along ``dim``, the same one for each image."""
    return x if memory is None else torch.cat((memory.expand(len(x), *memory.shape), x), dim)


class LinearAttention(nn.Module):
    """softmax(q) (softmax(k)^T v) (Shen et al. 2018, https://arxiv.org/abs/1812.01243, section 3.2): O(N), not O(N^2).

    q is softmaxed over features and scaled by d^-1/2, k over positions. Up to "group-1.7.2", v is divided by N.
    """

    def __init__(self, dim: int, heads: int = 4, dim_head: int = 32, norm: str = "rms") -> None:
        super().__init__()
        self.heads = heads
        self.scale = dim_head**-0.5
        self.layout = LAYOUTS[norm]
        hidden = heads * dim_head
        self.norm = nn.Identity() if self.layout.wrapped else norm_of(norm, dim)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, dim_head, MEMORY)) if self.layout.memory else None
        self.to_qkv = nn.Conv2d(dim, 3 * hidden, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(hidden, dim, 1), norm_of(norm, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, without the residual."""
        height, width = x.shape[2:]
        q, k, v = (split_heads(part, self.heads) for part in self.to_qkv(self.norm(x)).chunk(3, dim=1))
        if self.layout.divide:
            v = v / (height * width)
        memory_k, memory_v = (None, None) if self.mem_kv is None else self.mem_kv
        k, v = with_memory(memory_k, k, -1), with_memory(memory_v, v, -1)
        q = q.softmax(dim=-2) * self.scale
        context = torch.einsum("bhdn,bhen->bhde", k.softmax(dim=-1), v)
        return self.to_out(merge_heads(torch.einsum("bhde,bhdn->bhen", context, q), height, width))


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, eq. 1)."""

    def __init__(self, dim: int, heads: int = 4, dim_head: int = 32, norm: str = "rms") -> None:
        super().__init__()
        self.heads = heads
        self.scale = dim_head**-0.5
        hidden, layout = heads * dim_head, LAYOUTS[norm]
        self.norm = nn.Identity() if layout.wrapped else norm_of(norm, dim)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, MEMORY, dim_head)) if layout.memory else None
        self.to_qkv = nn.Conv2d(dim, 3 * hidden, 1, bias=False)
        self.to_out = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, without the residual."""
        height, width = x.shape[2:]
        qkv = self.to_qkv(self.norm(x)).chunk(3, dim=1)
        q, k, v = (split_heads(part, self.heads).transpose(2, 3) for part in qkv)  # (B, h, N, d)
        memory_k, memory_v = (None, None) if self.mem_kv is None else self.mem_kv
        k, v = with_memory(memory_k, k, -2), with_memory(memory_v, v, -2)
        weight = torch.einsum("bhid,bhjd->bhij", q * self.scale, k).softmax(dim=-1)
        out = torch.einsum("bhij,bhjd->bhid", weight, v)
        return self.to_out(merge_heads(out.transpose(2, 3), height, width))


class PreNorm(nn.Module):
    """fn(norm(x)), the norm that of the layout."""

    def __init__(self, dim: int, fn: nn.Module, norm: str = "group") -> None:
        super().__init__()
        self.norm = norm_of(norm, dim)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return self.fn(self.norm(x))


class Residual(nn.Module):
    """fn(x) + x."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return self.fn(x) + x
