"""Embeddings of the diffusion time."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..errors import UserError
from ..maths.random import host_rng, normal


class SinusoidalPosEmb(nn.Cell):
    """[sin(t f), cos(t f)] with f_i = theta^(-i/(half-1)): (B,) -> (B, dim).

    Vaswani et al., https://arxiv.org/abs/1706.03762, section 3.5, as Ho et al. use it for the time
    (https://arxiv.org/abs/2006.11239, appendix B).
    """

    def __init__(self, dim: int, theta: float = 10000):
        super().__init__()
        half = dim // 2
        frequencies = np.exp(-math.log(theta) / (half - 1) * np.arange(half))
        self.frequencies = Tensor(frequencies.astype(np.float32).reshape(1, half))
        self.dim = dim

    def construct(self, time: Tensor) -> Tensor:
        phase = time.astype(ms.float32).reshape(-1, 1) * self.frequencies
        return ops.concat((ops.sin(phase), ops.cos(phase)), 1)


class FourierPosEmb(nn.Cell):
    """[t, sin(2 pi w t), cos(2 pi w t)] with w ~ N(0, 1), learned or fixed: (B,) -> (B, dim + 1)."""

    def __init__(self, dim: int, *, is_random: bool = False, rng: np.random.Generator | None = None):
        super().__init__()
        self.weights = Parameter(
            Tensor(normal(host_rng(rng), (dim // 2,))), name="weights", requires_grad=not is_random
        )
        self.dim = dim + 1

    def construct(self, time: Tensor) -> Tensor:
        time = time.astype(ms.float32).reshape(-1, 1)
        phase = time * self.weights.reshape(1, -1) * (2 * math.pi)
        return ops.concat((time, ops.sin(phase), ops.cos(phase)), 1)


class GaussianFourierProjection(nn.Cell):
    """[sin(2 pi W t), cos(2 pi W t)], W ~ scale N(0, 1) drawn once and not trained: (B,) -> (B, embed_dim).

    Tancik et al., https://arxiv.org/abs/2006.10739, eq. 5, as Song et al. embed the time of a score network
    (https://arxiv.org/abs/2011.13456).

    Raises:
        UserError: for an odd ``embed_dim``.
    """

    def __init__(self, embed_dim: int, scale: float = 30.0, *, rng: np.random.Generator | None = None):
        super().__init__()
        if embed_dim < 2 or embed_dim % 2:
            raise UserError(f"embed_dim is {embed_dim}, expected an even number from 2 on (sines and cosines share it)")
        frequencies = normal(host_rng(rng), (embed_dim // 2,)) * np.float32(scale)
        self.W = Parameter(Tensor(frequencies), name="W", requires_grad=False)
        self.dim = embed_dim

    def construct(self, time: Tensor) -> Tensor:
        phase = time.astype(ms.float32).reshape(-1, 1) * self.W.reshape(1, -1) * (2 * math.pi)
        return ops.concat((ops.sin(phase), ops.cos(phase)), 1)
