"""exp and its kin to float32 precision."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import constexpr

from ..devices import runtime


@constexpr
def _wide() -> ms.Type:
    """The dtype in which the device's own kernels are exact enough; known when a graph is compiled."""
    return ms.float64 if runtime.device_target() == "CPU" else ms.float32


def exp(x: Tensor) -> Tensor:
    """e^x, correctly rounded almost everywhere.

    Why: MindSpore's float32 ``ops.exp`` on CPU is up to 138 units in the last place off (2.10; PyTorch's 1), which is a
    relative 8e-6 in a variance that is stored as its logarithm. In double precision it is exact; the arrays are small
    (one reverse step, one loss). Other devices keep float32. `tests/ops/test_ops.py` shows whether it is still needed.
    """
    return ops.cast(ops.exp(ops.cast(x, _wide())), x.dtype)


def wide(x: Tensor) -> Tensor:
    """x in the precision in which the device's exp, log and tanh are exact enough; for more than one of them in a row.

    Why: as for `exp`; float32 ``ops.tanh`` is up to 22 units of 1 off, and a likelihood is a difference of two values
    close to 1.
    """
    return ops.cast(x, _wide())


def wide_constant(value: float) -> Tensor:
    """``value`` as a constant that `wide` tensors are combined with: a Python number in a graph is a float32."""
    return Tensor(np.asarray(value, np.float64 if runtime.device_target() == "CPU" else np.float32))


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x).

    Why: as for `exp`; float32 ``ops.sigmoid`` is up to 13 units of 1 off, where an image should be right to one.
    """
    return ops.cast(ops.sigmoid(wide(x)), x.dtype)
