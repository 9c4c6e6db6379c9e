"""The smallest original with a layer that MindSpore computes otherwise by default."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from parity_tests.models.small_port import FirstPort, Port, dies_in_training, in_half, ms

__all__ = ["FirstPort", "Original", "Port", "dies_in_training", "in_half", "inputs", "ms"]


class Original(nn.Module):
    """(B, 8) -> (B, 4)."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.act = nn.GELU()
        self.last = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two layers."""
        return self.last(self.act(self.first(x)))


def inputs() -> dict[str, np.ndarray]:
    """A batch of five."""
    return {"x": np.random.default_rng(0).standard_normal((5, 8), dtype=np.float32)}
