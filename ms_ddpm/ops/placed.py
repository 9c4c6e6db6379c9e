"""What runs by MindSpore's operators or by the C++ kernels says so by its base class."""

from __future__ import annotations

from types import ModuleType

from mindspore import nn


class Placed(nn.Cell):
    """A layer or network whose operations come from `ops.by_operators` or `ops.by_kernels`.

    The constructor places it on the first; `nn.layers.use_kernels` on the other, and back.
    """

    by_kernels = False

    def place(self, on: ModuleType) -> None:
        """Fetches from ``on``, one of the two modules, what ``construct`` calls."""
        raise NotImplementedError
