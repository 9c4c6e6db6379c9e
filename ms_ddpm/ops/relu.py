"""A ReLU that does not hide what is not a number."""

from __future__ import annotations

from mindspore import Tensor, nn, ops
from mindspore.ops import constexpr
from mindspore.ops.auto_generate import ReluGrad

from ..devices import runtime


@constexpr
def _hides_nan() -> bool:
    """Whether the device's own ReLU turns NaN into 0; known when a graph is compiled."""
    return runtime.device_target() == "CPU"


class ReLU(nn.Cell):
    """max(0, x), elementwise; of NaN it is NaN, as in PyTorch.

    Why: ``ops.relu`` of NaN is 0 on CPU (2.10), and so is its gradient. A network that ends in it and has diverged
    gives black images, a finite loss and zero gradients, and the training loop that watches for NaN sees nothing.
    ``ops.maximum`` there keeps a NaN of its second argument (and loses one of the first). As fast as ``ops.relu``, with
    the same gradient. `tests/models/test_basic.py` shows whether it is still needed.
    """

    def __init__(self):
        super().__init__()
        self.gradient = ReluGrad()
        self.zeros = ops.ZerosLike()  # ops.zeros_like here breaks the gradient of a split elsewhere in the graph (2.10)

    def construct(self, x: Tensor) -> Tensor:
        return ops.maximum(self.zeros(x), x) if _hides_nan() else ops.relu(x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        return (self.gradient(dout, out),)
