"""An exponential moving average of weights, warmed up as the library ema-pytorch does it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class EMA:
    """average <- decay * average + (1 - decay) * weights, once in ``update_every`` calls of ``update``."""

    def __init__(
        self,
        model: nn.Module,
        beta: float = 0.995,
        update_after_step: int = 100,
        update_every: int = 10,
        inv_gamma: float = 1.0,
        power: float = 2 / 3,
        min_value: float = 0.0,
    ) -> None:
        self.model = model
        self.beta = beta
        self.update_after_step = update_after_step
        self.update_every = update_every
        self.inv_gamma = inv_gamma
        self.power = power
        self.min_value = min_value
        self.calls = 0
        self.is_swapped = False
        self.average = {name: p.detach().clone() for name, p in model.named_parameters()}

    def decay(self, calls: int) -> float:
        """The decay of call ``calls`` (from 1): 0, a copy, up to 101; then 1 - (1 + n/inv_gamma)^-power, clamped."""
        n = calls - self.update_after_step - 1
        if n <= 0:
            return 0.0
        return min(max(1 - (1 + n / self.inv_gamma) ** -self.power, self.min_value), self.beta)

    @torch.no_grad()
    def update(self) -> None:
        """Count a call; act at 1, 11, 21, ..."""
        if self.is_swapped:
            raise RuntimeError("update() inside swapped() would average the average")
        self.calls += 1
        if (self.calls - 1) % self.update_every:
            return
        decay = self.decay(self.calls)
        for name, weights in self.model.named_parameters():
            self.average[name] = decay * self.average[name] + (1 - decay) * weights

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the model holds the averaged weights; afterwards its own again, also after an error."""
        if self.is_swapped:
            raise RuntimeError("swapped() is already in force")
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        self.is_swapped = not self.is_swapped
        for name, parameter in self.model.named_parameters():
            parameter.data, self.average[name] = self.average[name], parameter.data
