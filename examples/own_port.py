"""A PyTorch module, its port to MindSpore, and whether the port computes the same: docs/own_port.md goes on from here.

    python examples/own_port.py      # the port agrees; the same with one planted fault does not, and is told where

Needs PyTorch beside MindSpore: the extra "parity".
"""

import argparse

import mindspore as ms
import numpy as np
import torch
from mindspore import mint

from portparity import check


class Gate(torch.nn.Module):
    """(B, 12) -> (B, 5): the original."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(12)
        self.gate = torch.nn.Linear(12, 8)
        self.value = torch.nn.Linear(12, 8)
        self.out = torch.nn.Linear(8, 5)

    def forward(self, x):
        """A gated layer, as in GLU."""
        h = self.norm(x)
        return self.out(torch.sigmoid(self.gate(h)) * self.value(h))


class Ported(ms.nn.Cell):
    """The port. MindSpore's LayerNorm has another epsilon than PyTorch's by itself: 1e-7."""

    def __init__(self, epsilon=1e-5):
        super().__init__()
        self.norm = ms.nn.LayerNorm((12,), epsilon=epsilon)
        self.gate = ms.nn.Dense(12, 8)
        self.value = ms.nn.Dense(12, 8)
        self.out = ms.nn.Dense(8, 5)

    def construct(self, x):
        """The same, line by line."""
        h = self.norm(x)
        return self.out(mint.sigmoid(self.gate(h)) * self.value(h))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="operator by operator alone, and nothing of training")
args = parser.parse_args()
asked = {"modes": ("pynative",), "training": False} if args.quick else {}

x = np.random.default_rng(0).standard_normal((4, 12), dtype=np.float32)
print(check(Gate, Ported, {"x": x}, title="the port", **asked))
wrong = check(Gate, lambda: Ported(epsilon=1e-7), {"x": x}, title="the port with MindSpore's own epsilon", **asked)
print(wrong)
print(f"first culprit: {wrong.first_culprit}")
