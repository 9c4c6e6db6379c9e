"""The ports of `small`, in a module that does not need PyTorch."""

from __future__ import annotations

import os

import mindspore as ms
from mindspore import nn


class FirstPort(nn.Cell):
    """GELU by tanh, which is MindSpore's default."""

    approximate = True

    def __init__(self):
        super().__init__()
        self.first = nn.Dense(8, 16)
        self.act = nn.GELU(approximate=self.approximate)
        self.last = nn.Dense(16, 4)

    def construct(self, x):
        """(B, 8) -> (B, 4)."""
        return self.last(self.act(self.first(x)))


class Port(FirstPort):
    """The port that computes the same."""

    approximate = False


class _Dies(Port):
    def construct(self, x):
        if self.training:
            os._exit(7)
        return super().construct(x)


def dies_in_training() -> nn.Cell:
    """A port that takes its process with it when it is trained."""
    return _Dies()


def in_half() -> nn.Cell:
    """The port in float16."""
    cell = Port()
    for parameter in cell.get_parameters():
        parameter.set_dtype(ms.float16)
    return cell
