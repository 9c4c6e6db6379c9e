"""One training step as compiled graphs, and what goes into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from .. import data
from ..devices.distributed import ALONE, Group
from ..devices.runtime import compiled
from ..maths.random import Stream, stream
from ..trainable import fields_of
from .amp import DynamicLossScale
from .optim import Adam, clip_by_global_norm, clip_factor


def to_inputs(values: tuple) -> tuple:
    """Arrays as tensors; everything else (flags, None) stays a constant of the compiled graph."""
    return tuple(Tensor(v) if isinstance(v, (np.ndarray, np.generic)) else v for v in values)


class StepResult(NamedTuple):
    """What one update came to: mean loss, norm of the gradient, whether it was applied, the loss scale it had.

    ``stop``: some worker asked to stop.
    """

    loss: float
    norm: float
    applied: bool
    scale: float
    stop: bool = False


class TrainStep:
    """Loss, gradients, clipping and the optimizer's update as compiled graphs.

    With ``accumulate`` = 1 one graph does it all. Otherwise one graph adds the gradient of a batch to a buffer, and
    another applies the mean. In a ``group`` of workers loss and gradients are averaged over them first, in one vector
    and so in one operation, and every worker makes the same update.
    """

    def __init__(
        self,
        cell: nn.Cell,
        optimizer: Adam,
        scaler: DynamicLossScale,
        *,
        max_grad_norm: float,
        accumulate: int,
        group: Group = ALONE,
    ):
        self.accumulate = accumulate
        self.group = group
        view = optimizer.view
        total = Parameter(
            Tensor(np.zeros(view.size if accumulate > 1 else 1, np.float32)), name="accumulated", requires_grad=False
        )
        loss_sum = Parameter(Tensor(0.0, ms.float32), name="accumulated_loss", requires_grad=False)

        def scaled_loss(*inputs):
            return cell(*inputs) * scaler.scale

        gradients = ms.value_and_grad(scaled_loss, None, optimizer.trained)

        alone, all_reduce = group.world == 1, ops.AllReduce() if group.world > 1 else None

        def outcome(loss, norm, acts, stop):
            scale = scaler.scale * 1.0  # of this step, before it adapts
            scaler.update(acts)
            return ops.stack((loss, norm, ops.cast(acts, ms.float32), scale, stop))

        def mean_of_workers(loss, flat, stop):
            if alone:
                return loss, flat, stop
            joined = ops.concat((flat, ops.stack((loss, stop))))
            mean = all_reduce(joined) / group.world
            flat, ends = ops.split(mean, (view.size, 2))
            loss, stop = ops.split(ends, 1)
            return loss.reshape(()), flat, stop.reshape(())

        def apply(loss, flat, lr, stop):
            loss, flat, stop = mean_of_workers(loss, flat, stop)
            flat, norm = clip_by_global_norm(flat, max_grad_norm)
            acts = ops.logical_and(ops.isfinite(norm), ops.isfinite(loss))
            optimizer.apply(flat, lr, acts)
            return outcome(loss, norm, acts, stop)

        def apply_fused(loss, grads, lr, stop):
            norm = optimizer.norm(*grads).reshape(()) / scaler.scale
            acts = ops.logical_and(ops.isfinite(norm), ops.isfinite(loss))
            optimizer.apply_fused(grads, lr, acts, clip_factor(norm, max_grad_norm) / scaler.scale)
            return outcome(loss, norm, acts, stop)

        def whole(lr, stop, *inputs):
            loss, grads = gradients(*inputs)
            if optimizer.fused and alone:
                return apply_fused(loss / scaler.scale, grads, lr, stop)
            return apply(loss / scaler.scale, view.flatten(grads) / scaler.scale, lr, stop)

        def add(*inputs):
            loss, grads = gradients(*inputs)
            ops.assign(total, total + view.flatten(grads))
            return ops.assign(loss_sum, loss_sum + loss)

        def finish(lr, stop):
            factor = scaler.scale * accumulate
            loss, flat = loss_sum / factor, total / factor
            ops.assign(total, ops.zeros_like(total))
            ops.assign(loss_sum, ops.zeros_like(loss_sum))  # a product with 0 would keep a NaN for good
            return apply(loss, flat, lr, stop)

        self._whole = compiled(whole)
        self._add = compiled(add)
        self._finish = compiled(finish)

    def __call__(self, lr: float, batches: list[tuple], stop: bool = False) -> StepResult:
        """One update from ``accumulate`` batches; ``stop`` asks every worker to stop after it."""
        host = Tensor(lr, ms.float32), Tensor(float(stop), ms.float32)
        with self.group.step():
            if self.accumulate == 1:
                result = self._whole(*host, *to_inputs(batches[0]))
            else:
                for inputs in batches:
                    self._add(*to_inputs(inputs))
                result = self._finish(*host)
            loss, norm, applied, scale, stop = result.asnumpy().tolist()
        return StepResult(loss, norm, bool(applied), scale, stop > 0)


def as_function(cell: nn.Cell) -> Callable:
    """``cell`` as a plain function (MindSpore's graph parser takes no lambda within a call)."""

    def loss(*inputs):
        return cell(*inputs)

    return loss


def step_inputs(
    cell: nn.Cell, source: data.ImageSource, batch_size: int, accumulate: int, *, seed: int, flip: bool, start: int,
    steps: int, workers: int, group: Group,
) -> Iterator[list[tuple]]:  # fmt: skip
    """The inputs of ``steps`` steps: a list of one tuple per accumulated batch, from batch ``start`` of the run on."""
    batches = data.Batches(
        source, batch_size, seed=seed, start=start, count=steps * accumulate, flip=flip, rank=group.rank,
        world=group.world, fields=fields_of(cell),
    )  # fmt: skip
    inputs = []
    for item, batch in enumerate(data.iterate(batches, workers, batches.fields)):
        number = batches.number(item)
        inputs.append((*batch, *cell.draw(stream(seed, Stream.DRAW, number), batch)))
        if len(inputs) == accumulate:
            yield inputs
            inputs = []


def mean_loss(loss: Callable, cell: nn.Cell, source: data.ImageSource, batch_size: int, seed: int) -> float:
    """Mean of the compiled ``loss`` over ``source`` with fixed draws, with the weights the cell has now.

    In whole batches: what is left over after the last one does not count.
    """
    size = min(batch_size, len(source))
    losses = []
    cell.set_train(False)  # no dropout
    for i in range(len(source) // size):
        indices = range(i * size, (i + 1) * size)
        batch = tuple(source.column(name, indices) for name in fields_of(cell))
        draws = cell.draw(stream(seed, Stream.VALIDATION, i), batch)
        losses.append(float(loss(*to_inputs((*batch, *draws))).asnumpy()))
    cell.set_train(True)
    return sum(losses) / len(losses)
