"""Sums over channels and over pixels by matrix products."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import constexpr

from ..devices import runtime


@constexpr
def _by_product() -> bool:
    """Whether the device sums faster, and as exactly, by a product with ones; known when a graph is compiled."""
    return runtime.device_target() == "CPU"


def channel_sum(x: Tensor) -> Tensor:
    """Sum of float32 x (B, C, H, W) over its channels: (B, 1, H, W).

    Why: ``ops.ReduceSum`` takes four times as long on CPU as a matrix product with ones (2.10: 16x64x32x32, 6.5 ms
    against 1.4), and its sums are plain loops. Other devices round the factors of a product, so there it stays.
    `tests/ops/test_ops.py` shows whether both agree, ``python scripts/bench.py`` what it brings.
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


def batch_mean(x: Tensor) -> Tensor:
    """Mean of float32 x (B, C, H, W) over batch and pixels: (1, C, 1, 1).

    Why: as for `channel_sum`, two products with ones in a row (2.10: 256x4x26x26 with its gradients, 22 ms of a batch
    normalisation against 9 with `spread_all`).
    """
    b, c, h, w = x.shape
    if not _by_product():
        return x.mean(axis=(0, 2, 3), keep_dims=True)
    rows = ops.MatMul()(x.reshape(b * c, h * w), ops.ones((h * w, 1), ms.float32))
    total = ops.MatMul()(ops.ones((1, b), ms.float32), rows.reshape(b, c))
    return (total / float(b * h * w)).reshape(1, c, 1, 1)


def spread_all(gain: Tensor, x: Tensor) -> Tensor:
    """gain (C,) or (1, C, 1, 1) as a float32 array of x's shape (B, C, H, W). Why: as for `spread`, batch included."""
    b, c, h, w = x.shape
    if not _by_product():
        return gain.reshape(1, c, 1, 1)
    rows = ops.MatMul()(ops.ones((b, 1), ms.float32), gain.reshape(1, c))
    return ops.MatMul()(rows.reshape(b * c, 1), ops.ones((1, h * w), ms.float32)).reshape(b, c, h, w)
