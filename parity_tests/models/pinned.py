"""Originals that say float32 themselves, and their right ports: with a truth in float32 each of these differs."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import torch
from mindspore import nn as ms_nn
from torch import nn

STEPS = 40


class Chain(nn.Module):
    """DDPM's posterior mean along a chain, as one writes it: the table, the times and every step in float32."""

    def __init__(self):
        super().__init__()
        betas = torch.linspace(1e-4, 2e-2, STEPS, dtype=torch.float32)
        self.register_buffer("betas", betas, persistent=False)
        self.register_buffer("products", torch.cumprod(1 - betas, 0).to(torch.float32), persistent=False)
        self.net = nn.Linear(6, 6)

    def forward(self, x):
        """(B, 6) noise -> images."""
        for t in range(STEPS - 1, -1, -1):
            noise = self.net(x.float()).type(torch.float32)
            x = (x - self.betas[t] / torch.sqrt(1 - self.products[t]) * noise) / torch.sqrt(1 - self.betas[t])
        return x


class ChainPort(ms_nn.Cell):
    """The port, with tables by numpy in double, cast once."""

    def __init__(self):
        super().__init__()
        betas = np.linspace(1e-4, 2e-2, STEPS)
        self.betas = ms.Tensor(betas.astype(np.float32))
        self.roots = ms.Tensor(np.sqrt(1 - np.cumprod(1 - betas)).astype(np.float32))
        self.scales = ms.Tensor(np.sqrt(1 - betas).astype(np.float32))
        self.net = ms_nn.Dense(6, 6)

    def construct(self, x):
        """(B, 6) noise -> images."""
        for t in range(STEPS - 1, -1, -1):
            x = (x - self.betas[t] / self.roots[t] * self.net(x)) / self.scales[t]
        return x


class Frequencies(nn.Module):
    """exp of a float32 product: a correct exp was 66 times off where the truth was float32 too."""

    def forward(self, t):
        """(B,) times -> (B, 16)."""
        steps = torch.arange(16, dtype=torch.float32) * (-math.log(10000) / 15)
        return t.float()[:, None] * torch.exp(steps)


class FrequenciesPort(ms_nn.Cell):
    """The table by numpy in double, cast once."""

    def __init__(self):
        super().__init__()
        self.table = ms.Tensor(np.exp(np.arange(16) * (-math.log(10000) / 15)).astype(np.float32))

    def construct(self, t):
        """(B,) times -> (B, 16)."""
        return t[:, None] * self.table
