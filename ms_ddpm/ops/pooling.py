"""Max pooling and nearest upsampling by two."""

from __future__ import annotations

from types import ModuleType

from mindspore import Tensor, nn, ops

from . import by_operators
from .placed import Placed


class Larger(nn.Cell):
    """max(a, b) elementwise; where both are equal the gradient is all a's, as in PyTorch's max pooling.

    Why: the gradient of ``ops.maximum`` is shared between equals, and on CPU it takes 20 ms where a comparison, a
    product and a difference take 3 (2.10, two of 128x14x14x64). `tests/models/test_basic.py` shows whether the first
    still holds. A NaN of a alone is lost, as in MindSpore's own pooling.
    """

    def construct(self, a: Tensor, b: Tensor) -> Tensor:
        return ops.maximum(a, b)

    def bprop(self, a: Tensor, b: Tensor, out: Tensor, dout: Tensor):
        of_b = dout * ops.cast(b > a, dout.dtype)
        return dout - of_b, of_b


class MaxPool2(Placed):
    """The largest of every 2x2 square: (B, C, H, W) -> (B, C, H/2, W/2), both sides even.

    Of equal values the first, row by row, gets the gradient.
    """

    def __init__(self):
        super().__init__()
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.pool = on.max_pool()

    def construct(self, x: Tensor) -> Tensor:
        return self.pool(x)


class Upsample2(Placed):
    """Every pixel doubled in both directions: (B, C, H, W) -> (B, C, 2H, 2W)."""

    def __init__(self):
        super().__init__()
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.upsample = on.upsample()

    def construct(self, x: Tensor) -> Tensor:
        return self.upsample(x)
