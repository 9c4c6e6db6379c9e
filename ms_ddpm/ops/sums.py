"""Sums over channels and over pixels by matrix products."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import constexpr

from .. import runtime


@constexpr
def _by_product() -> bool:
    """Whether the device sums faster, and as exactly, by a product with ones; known when a graph is compiled."""
    return runtime.device_target() == "CPU"


def channel_sum(x: Tensor) -> Tensor:
    """Sum of float32 x (B, C, H, W) over its channels: (B, 1, H, W).

    Why: ``ops.ReduceSum`` takes four times as long on CPU as a matrix product with ones (2.10: 16x64x32x32, 6.5 ms
    against 1.4), and its sums are plain loops. Other devices round the factors of a product, so there it stays.
    `tests/test_ops.py` shows whether both agree, ``python scripts/bench.py`` what it brings.
    """
    if not _by_product():
        return x.sum(axis=1, keepdims=True)
    b, c, h, w = x.shape
    ones = ops.ones((b, 1, c), ms.float32)
    return ops.BatchMatMul()(ones, x.reshape(b, c, h * w)).reshape(b, 1, h, w)


def spread(gain: Tensor, x: Tensor) -> Tensor:
    """gain (1 or B, C, 1, 1) as a float32 array of x's shape, whose gradient is a product with ones.

    Why: as for `channel_sum`; a broadcast's gradient is ``ops.ReduceSum``.
    """
    if not _by_product():
        return gain
    _, c, h, w = x.shape
    row = ops.ones((1, h * w), ms.float32)
    return ops.MatMul()(ops.cast(gain, ms.float32).reshape(-1, 1), row).reshape(gain.shape[0], c, h, w)
