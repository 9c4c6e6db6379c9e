"""Exponential moving average of a network's weights, on the schedule of ema-pytorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..devices.runtime import compiled
from ..errors import UserError
from ..ops import kernels
from ..ops.assign import set_value
from .optim import FlatView


class EMA:
    """Keeps averaged weights of ``model`` beside it.

    Call `update` after every optimizer step. With n the calls including this one, it acts only if (n - 1) is a multiple
    of ``update_every``; it copies the weights while n <= update_after_step + 1; after that
    average <- decay * average + (1 - decay) * weights with
    decay = clip(1 - (1 + (n - update_after_step - 1) / inv_gamma)^-power, min_value, beta).

    Args:
        model: the Cell whose trainable weights are averaged.
        beta: largest decay.
        update_after_step, update_every, inv_gamma, power, min_value: the schedule above.
    """

    def __init__(
        self,
        model: nn.Cell,
        beta: float = 0.995,
        update_after_step: int = 100,
        update_every: int = 10,
        inv_gamma: float = 1.0,
        power: float = 2 / 3,
        min_value: float = 0.0,
    ):
        if not 0 <= beta <= 1:
            raise UserError(f"EMA beta is {beta}, expected in [0, 1]")
        if update_every < 1:
            raise UserError(f"EMA update_every is {update_every}, expected at least 1")
        named = [(name, p) for name, p in model.parameters_and_names() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.view = FlatView([p for _, p in named], kernels.available())
        self.beta = beta
        self.update_after_step = update_after_step
        self.update_every = update_every
        self.inv_gamma = inv_gamma
        self.power = power
        self.min_value = min_value
        self.calls = 0
        self.swapped_in = False
        weights = self.view.flatten_numpy([p.asnumpy() for p in self.view.parameters])
        self.average = Parameter(Tensor(weights), name="ema_average", requires_grad=False)
        self._blend = compiled(self._blend_graph)
        self._copy = compiled(self._copy_graph)

    def _copy_graph(self) -> Tensor:
        return ops.assign(self.average, self.view.flatten(self.view.parameters))

    def _blend_graph(self, weight: Tensor) -> Tensor:
        """average + weight (weights - average)."""
        weights = self.view.flatten(self.view.parameters)
        return ops.assign(self.average, self.average + weight * (weights - self.average))

    def decay(self, calls: int) -> float:
        """The decay of call number ``calls``, 0 where it copies."""
        n = calls - self.update_after_step - 1
        if n <= 0:
            return 0.0
        return min(max(1 - (1 + n / self.inv_gamma) ** -self.power, self.min_value), self.beta)

    def update(self) -> None:
        """One call after an optimizer step."""
        if self.swapped_in:
            raise RuntimeError("EMA.update() inside swapped(): the model holds the averaged weights")
        self.calls += 1
        if (self.calls - 1) % self.update_every:
            return
        if self.calls <= self.update_after_step + 1:
            self._copy()
        else:
            self._blend(Tensor(1 - self.decay(self.calls), ms.float32))

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside the ``with`` block the model holds the averaged weights; after it, its own again, whatever happens."""
        if self.swapped_in:
            raise RuntimeError("EMA.swapped() inside swapped(): the model holds the averaged weights already")
        own = [p.asnumpy().copy() for p in self.view.parameters]
        self.swapped_in = True
        try:
            self._put(self.view.unflatten_numpy(self.average.asnumpy()))
            yield
        finally:
            self._put(own)
            self.swapped_in = False

    def _put(self, values: list[np.ndarray]) -> None:
        for parameter, value in zip(self.view.parameters, values, strict=True):
            set_value(parameter, value)

    def state(self) -> dict[str, np.ndarray]:
        """The averaged weights by name."""
        return dict(zip(self.names, self.view.unflatten_numpy(self.average.asnumpy()), strict=True))

    def load_state(self, state: dict[str, np.ndarray], calls: int) -> None:
        """Restores what `state` gave, and the number of calls."""
        set_value(self.average, self.view.flatten_numpy([state[name] for name in self.names]))
        self.calls = calls
