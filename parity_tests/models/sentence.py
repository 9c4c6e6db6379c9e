"""A model of most kinds of things that ports are made of, its port, and that port with one fault each.

Embeddings, convolution over one axis, batch norm, dropout, masked attention, a table in float32, keyword arguments, two
outputs by name, and joints between the layers.
"""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import torch
from mindspore import nn as ms_nn
from mindspore import ops
from torch import nn


class Sentence(nn.Module):
    """tokens (B, L), t (B,), mask (B, L) -> logits (B, L, 8) and pooled (B, 16): the original."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.conv = nn.Conv1d(16, 16, 3, padding=1)
        self.bn = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.3)
        self.q = nn.Linear(16, 16, bias=False)
        self.k = nn.Linear(16, 16, bias=False)
        self.v = nn.Linear(16, 16, bias=False)
        self.norm = nn.LayerNorm(16)
        self.act = nn.SiLU()
        self.out = nn.Linear(16, 8)
        table = torch.exp(-torch.arange(8, dtype=torch.float32) * math.log(10000) / 7)
        self.register_buffer("frequencies", table, persistent=False)

    def forward(self, tokens, t, mask=None, *, scale=1.0):
        """Logits and the mean over the sentence."""
        angles = t[:, None].float() * self.frequencies
        h = self.embed(tokens) + torch.cat([angles.sin(), angles.cos()], -1)[:, None]
        h = self.drop(self.bn(self.conv(h.transpose(1, 2)))).transpose(1, 2)
        n = self.norm(h)
        weights = self.q(n) @ self.k(n).transpose(1, 2) / 4
        if mask is not None:
            weights = weights.masked_fill(~mask[:, None], float("-inf"))
        h = h + torch.softmax(weights, -1) @ self.v(n) * scale
        return {"logits": self.out(self.act(h)), "pooled": h.mean(1)}


class Norm(ms_nn.Cell):
    """LayerNorm of operators: the gradient of MindSpore's (2.10) is refused in a process that has had others ("the
    index 7 is out of range of input num 7"), and the tests share one."""

    def __init__(self, size: int, epsilon: float):
        super().__init__()
        self.gamma = ms.Parameter(ops.ones((size,)), name="gamma")
        self.beta = ms.Parameter(ops.zeros((size,)), name="beta")
        self.epsilon = epsilon

    def construct(self, x):
        """(..., size), normalised over the last axis."""
        apart = x - x.mean(-1, keep_dims=True)
        return apart / ops.sqrt((apart * apart).mean(-1, keep_dims=True) + self.epsilon) * self.gamma + self.beta


class Port(ms_nn.Cell):
    """The port that computes the same."""

    dropout, momentum, epsilon, residual = 0.3, 0.9, 1e-5, 1.0
    stopped, frozen, narrow = False, False, False

    def __init__(self):
        super().__init__()
        self.embed = ms_nn.Embedding(11, 16)
        self.conv = ms_nn.Conv1d(16, 16, 3, pad_mode="pad", padding=1, has_bias=True)
        self.bn = ms_nn.BatchNorm1d(16, momentum=self.momentum)
        self.drop = ms_nn.Dropout(p=self.dropout)
        self.k = ms_nn.Dense(16, 16, has_bias=False)
        self.q = ms_nn.Dense(16, 16, has_bias=False)
        self.v = ms_nn.Dense(16, 16, has_bias=False)
        self.norm = Norm(16, self.epsilon)
        self.act = ms_nn.SiLU()
        self.out = ms_nn.Dense(16, 8)
        self.frequencies = ms.Tensor(np.exp(-np.arange(8) * math.log(10000) / 7).astype(np.float32))
        self.out.bias.requires_grad = not self.frozen

    def construct(self, tokens, t, mask=None, scale=1.0):
        """Logits and the mean over the sentence."""
        angles = t[:, None] * self.frequencies
        h = self.embed(tokens) + ops.cat([angles.sin(), angles.cos()], -1)[:, None]
        h = self.drop(self.bn(self.conv(h.swapaxes(1, 2)))).swapaxes(1, 2)
        n = self.norm(h)
        weights = ops.matmul(self.q(n), self.k(n).swapaxes(1, 2)) / 4
        if mask is not None:
            weights = weights.masked_fill(ops.logical_not(mask[:, None]), float("-inf"))
        attended = ops.matmul(ops.softmax(weights, -1), self.v(n)) * scale
        if self.stopped:
            attended = ops.stop_gradient(attended)
        h = h + attended * self.residual
        logits = self.out(self.act(h))
        return {"logits": logits.astype(ms.float16) if self.narrow else logits, "pooled": h.mean(1)}


def with_fault(**changed) -> type[Port]:
    """The port with other numbers."""
    return type("Faulty", (Port,), changed)


def inputs() -> dict:
    """A batch of four sentences, of which some words are masked."""
    rng = np.random.default_rng(0)
    mask = rng.random((4, 7)) < 0.7
    mask[:, 0] = True
    t = rng.random(4).astype(np.float32) * 50
    return {"tokens": rng.integers(0, 11, (4, 7)), "t": t, "mask": mask, "scale": 0.5}
