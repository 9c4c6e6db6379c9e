"""The sampler of a `Corruption`: from a grey image with all noise towards what the network answers, a share at a time.

Nothing is drawn on the way: the tape holds what the start is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
from mindspore import Tensor

from ..maths.random import Tape
from .chain import Chain, numbers


class Corruption(Protocol):
    """What is sampled here, see `ms_ddpm.Corruption`."""

    def compiled_step(self) -> Callable:
        """`step` as one graph, made once by `step_of`."""

    def step(self, x: Tensor, mix: Tensor) -> tuple[Tensor, Tensor]:
        """(x moved by the share ``mix`` towards the prediction, the prediction)."""

    def start(self, z: np.ndarray) -> Tensor:
        """Where a chain starts, of what the tape holds."""


def step_of(corruption: Corruption) -> Callable:
    """(x, mix) -> (the next x, prediction), to be compiled; a plain function, as those of `discrete` are."""

    def step(x, mix):
        return corruption.step(x, mix)

    return step


def mixes(steps: int) -> np.ndarray:
    """(steps, 1) float64: the share 1 / (n - i) of the way that is left which step i of n goes."""
    return 1 / np.arange(steps, 0.0, -1.0).reshape(-1, 1)


def towards(
    corruption: Corruption, noise: Iterable, shape: tuple[int, ...], steps: int, *, keep: bool, progress: bool
) -> tuple[Chain, list[Tensor]]:
    """The chain of ``steps`` steps from the one array of ``noise``, and, with ``keep``, every step's prediction."""
    chain = Chain(Tape(noise, shape, "z of the start alone"), keep, progress)
    step, predictions = corruption.compiled_step(), []

    def advance(x, row):
        x, prediction = step(x, numbers(row[0]))
        if keep:
            predictions.append(prediction)
        return x

    chain.run(corruption.start(next(chain.tape)), mixes(steps), advance, "corruption", noises=0)
    return chain, predictions
