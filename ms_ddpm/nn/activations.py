"""What stands between the layers, each elementwise and a Cell, so that a sequence of layers can hold it."""

from __future__ import annotations

from mindspore import Tensor, nn, ops

from ..ops.elementary import sigmoid
from ..ops.relu import ReLU

__all__ = ["GELU", "QuickGELU", "ReLU", "SiLU", "Sigmoid"]


class SiLU(nn.Cell):
    """x / (1 + exp(-x)). Elfwing et al., https://arxiv.org/abs/1702.03118."""

    def construct(self, x: Tensor) -> Tensor:
        return ops.silu(x)


class Sigmoid(nn.Cell):
    """1 / (1 + exp(-x)), exactly: see `ops.elementary.sigmoid`."""

    def construct(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class GELU(nn.Cell):
    """x Phi(x), exactly: ``nn.GELU`` is the tanh approximation. Hendrycks & Gimpel, https://arxiv.org/abs/1606.08415."""

    def construct(self, x: Tensor) -> Tensor:
        return ops.gelu(x, approximate="none")


class QuickGELU(nn.Cell):
    """x / (1 + exp(-1.702 x)), CLIP's: Hendrycks & Gimpel, https://arxiv.org/abs/1606.08415, section 2."""

    def construct(self, x: Tensor) -> Tensor:
        return x * sigmoid(1.702 * x)
