"""The chain that all samplers share: from noise, step by step, to images; and many images in batches of one size.

``noise`` of a sampler is a tape: anything that yields whole-batch arrays of the sample's shape, the one that the chain
starts from first. Without it every image draws from a stream of its own, named by ``seed`` and its index, so image 7 of
seed 0 is the same picture whatever the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from mindspore import Tensor, ops

from ..bars import bar
from ..errors import UserError
from ..maths.random import Tape


def numbers(row: np.ndarray) -> Tensor:
    """float64 numbers of a table, rounded once, for a step."""
    return Tensor(row.astype(np.float32))


@dataclass
class Chain:
    """One call of a sampler.

    Args:
        tape: its noise, whole-batch arrays.
        keep: all states, or the last alone.
        progress: whether to show a bar.
    """

    tape: Tape
    keep: bool
    progress: bool
    states: list[Tensor] = field(default_factory=list)

    def run(
        self, x: Tensor, table: np.ndarray, step: Callable[..., Tensor], description: str, *, noises: int = 1
    ) -> None:
        """Takes ``x`` through ``step(x, row, *noise)`` for each row of ``table`` (S, k) float64.

        A step is given ``noises`` arrays of the tape, but the last step ends without: its last one is zeros.
        """
        self.note(x)
        last = len(table) - 1
        for i, row in enumerate(self.bar(table, f"{description} {len(table)}")):
            noise = [self.silence if (i, k) == (last, noises - 1) else Tensor(next(self.tape)) for k in range(noises)]
            x = self.note(step(x, row, *noise))

    def note(self, x: Tensor) -> Tensor:
        """``x``, noted as the next state."""
        if not self.keep:
            self.states.clear()
        self.states.append(x)
        return x

    def result(self) -> Tensor:
        """The last state, (B, ...), or all of them, (B, states, ...), the start first."""
        return ops.stack(self.states, axis=1) if self.keep else self.states[-1]

    def at(self, time: float, dtype: type = np.float32) -> Tensor:
        """``time`` for every image, (B,)."""
        return Tensor(np.full(self.tape.shape[0], time, dtype))

    @cached_property
    def silence(self) -> Tensor:
        """Zeros, where a step takes no noise."""
        return Tensor(np.zeros(self.tape.shape, np.float32))

    def bar(self, items: Iterable | None, description: str) -> Any:
        """``items``, counted by a progress bar."""
        return bar(items, description, show=self.progress, leave=False)


def in_batches(make: Callable[[int, int], Tensor], num: int, batch_size: int, *, progress: bool = False) -> np.ndarray:
    """``num`` images of ``make(batch_size, first_image)``, which always makes a whole batch: (num, ...).

    What the last batch has too many is cut off, so that one compiled graph serves all.

    Raises:
        UserError: for no images, or none at a time.
    """
    if num < 1:
        raise UserError(f"the number of images is {num}, expected at least 1")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, expected at least 1")
    batch_size = min(batch_size, num)
    firsts = range(0, num, batch_size)
    shown = bar(firsts, "sampling", show=progress and len(firsts) > 1, unit="batch")
    return np.concatenate([make(batch_size, first).asnumpy() for first in shown])[:num]
