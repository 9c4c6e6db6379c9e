"""One training step as compiled graphs."""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from .amp import DynamicLossScale
from .optim import Adam, clip_by_global_norm, clip_factor
from .runtime import compiled


def to_inputs(values: tuple) -> tuple:
    """Arrays as tensors; everything else (flags, None) stays a constant of the compiled graph."""
    return tuple(Tensor(v) if isinstance(v, (np.ndarray, np.generic)) else v for v in values)


class TrainStep:
    """Loss, gradients, clipping and the optimizer's update as compiled graphs.

    With ``accumulate`` = 1 one graph does it all. Otherwise one graph adds the gradient of a batch to a buffer, and
    another applies the mean.
    """

    def __init__(
        self, cell: nn.Cell, optimizer: Adam, scaler: DynamicLossScale, *, max_grad_norm: float, accumulate: int
    ):
        self.accumulate = accumulate
        view = optimizer.view
        total = Parameter(
            Tensor(np.zeros(view.size if accumulate > 1 else 1, np.float32)), name="accumulated", requires_grad=False
        )
        loss_sum = Parameter(Tensor(0.0, ms.float32), name="accumulated_loss", requires_grad=False)

        def scaled_loss(*inputs):
            return cell(*inputs) * scaler.scale

        gradients = ms.value_and_grad(scaled_loss, None, optimizer.trained)

        def outcome(loss, norm, acts):
            scale = scaler.scale * 1.0  # of this step, before it adapts
            scaler.update(acts)
            return ops.stack((loss, norm, ops.cast(acts, ms.float32), scale))

        def apply(loss, flat, lr):
            flat, norm = clip_by_global_norm(flat, max_grad_norm)
            acts = ops.logical_and(ops.isfinite(norm), ops.isfinite(loss))
            optimizer.apply(flat, lr, acts)
            return outcome(loss, norm, acts)

        def apply_fused(loss, grads, lr):
            norm = optimizer.norm(*grads).reshape(()) / scaler.scale
            acts = ops.logical_and(ops.isfinite(norm), ops.isfinite(loss))
            optimizer.apply_fused(grads, lr, acts, clip_factor(norm, max_grad_norm) / scaler.scale)
            return outcome(loss, norm, acts)

        def whole(lr, *inputs):
            loss, grads = gradients(*inputs)
            if optimizer.fused:
                return apply_fused(loss / scaler.scale, grads, lr)
            return apply(loss / scaler.scale, view.flatten(grads) / scaler.scale, lr)

        def add(*inputs):
            loss, grads = gradients(*inputs)
            ops.assign(total, total + view.flatten(grads))
            return ops.assign(loss_sum, loss_sum + loss)

        def finish(lr):
            factor = scaler.scale * accumulate
            loss, flat = loss_sum / factor, total / factor
            ops.assign(total, ops.zeros_like(total))
            ops.assign(loss_sum, loss_sum * 0)
            return apply(loss, flat, lr)

        self._whole, self._add, self._finish = compiled(whole), compiled(add), compiled(finish)

    def __call__(self, lr: float, batches: list[tuple]) -> tuple[float, float, bool, float]:
        """One update from ``accumulate`` batches: (loss, gradient norm, whether it was applied, loss scale)."""
        rate = Tensor(lr, ms.float32)
        if self.accumulate == 1:
            result = self._whole(rate, *to_inputs(batches[0]))
        else:
            for inputs in batches:
                self._add(*to_inputs(inputs))
            result = self._finish(rate)
        loss, norm, applied, scale = result.asnumpy().tolist()
        return loss, norm, bool(applied), scale


def as_function(cell: nn.Cell) -> Callable:
    """``cell`` as a plain function (MindSpore's graph parser takes no lambda within a call)."""

    def loss(*inputs):
        return cell(*inputs)

    return loss
