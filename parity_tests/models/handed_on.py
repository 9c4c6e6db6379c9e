"""Outputs that are used elsewhere too: an identity beside a branch, and a list of features of which each goes on."""

from __future__ import annotations

import torch
from mindspore import nn as ms_nn
from torch import nn


class Pyramid(nn.Module):
    """(B, 6) -> the features of two layers, the second of the first."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Two features."""
        a = torch.sin(self.first(x))
        return [a, torch.sin(self.second(a))]


class Original(nn.Module):
    """(B, 6) -> (B, 6): a branch beside an identity, then features."""

    def __init__(self):
        super().__init__()
        self.skip = nn.Identity()
        self.conv = nn.Linear(6, 6)
        self.act = nn.ReLU(inplace=True)
        self.pyramid = Pyramid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A sum of all."""
        a, b = self.pyramid(self.act(self.conv(x) + self.skip(x)))
        return a + b


class PyramidPort(ms_nn.Cell):
    """The same."""

    def __init__(self):
        super().__init__()
        self.first = ms_nn.Dense(6, 6)
        self.second = ms_nn.Dense(6, 6)

    def construct(self, x):
        """Two features."""
        a = self.first(x).sin()
        return [a, self.second(a).sin()]


class Port(ms_nn.Cell):
    """The same."""

    def __init__(self):
        super().__init__()
        self.skip = ms_nn.Identity()
        self.conv = ms_nn.Dense(6, 6)
        self.act = ms_nn.ReLU()
        self.pyramid = PyramidPort()

    def construct(self, x):
        """A sum of all."""
        a, b = self.pyramid(self.act(self.conv(x) + self.skip(x)))
        return a + b
