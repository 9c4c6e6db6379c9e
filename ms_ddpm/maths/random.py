"""Host-side randomness: every random number of the project comes from a numpy Generator made here.

Frameworks' random streams never agree with each other and are hidden state that a resumed run would
have to restore. A stream here is named by integers (seed, purpose, step, ...) and can be made again at
any time, so one seed gives one run, and a resumed run needs nothing but its step number.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np

from ..errors import UserError


class Stream(IntEnum):
    """What a stream of random numbers is for. Numbers are fixed: changing one changes every run."""

    WEIGHTS = 1
    ORDER = 2
    FLIP = 3
    DRAW = 4
    VALIDATION = 5
    SPLIT = 6


def host_rng(rng: np.random.Generator | int | None) -> np.random.Generator:
    """``rng`` itself, a Generator seeded by it, or (None) one seeded by the operating system."""
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)


class Blank(np.random.Generator):
    """Draws zeros: for the first weights of a network that is about to get others.

    Drawing a billion of them takes longer than reading them from a file.
    """

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, size=None, dtype=np.float32, out=None) -> np.ndarray:
        """Zeros of shape ``size``."""
        return np.zeros(size, dtype)

    def normal(self, loc=0.0, scale=1.0, size=None) -> np.ndarray:
        """Zeros of shape ``size``."""
        return np.zeros(size, np.float32)

    def uniform(self, low=0.0, high=1.0, size=None) -> np.ndarray:
        """Zeros of shape ``size``."""
        return np.zeros(size, np.float32)


def stream(seed: int, *names: int) -> np.random.Generator:
    """The Generator of stream ``names`` of ``seed``; equal arguments give equal numbers."""
    return np.random.default_rng(np.random.SeedSequence([seed, *map(int, names)]))


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 array."""
    return rng.standard_normal(shape, dtype=np.float32)


def noise_tape(seed: int | None, shape: tuple[int, ...], first_image: int = 0) -> Iterator[np.ndarray]:
    """Endless standard normal arrays of ``shape`` (B, C, H, W), float32.

    Image i of the batch draws from ``SeedSequence([seed, first_image + i])``, so image 7 of seed 0 is
    the same picture whatever the batch size. ``seed=None`` takes one from the operating system.
    """
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    rngs = [stream(seed, first_image + i) for i in range(shape[0])]
    while True:
        yield np.stack([normal(rng, shape[1:]) for rng in rngs])


class Tape:
    """Reads a noise tape one array at a time and says what is wrong with it.

    Args:
        arrays: anything that yields arrays (numpy or MindSpore) of ``shape``.
        shape: the whole-batch shape that every array must have.
        holds: what it has to hold, to be said where it ends too early.
    """

    def __init__(self, arrays, shape: tuple[int, ...], holds: str = "x_T and one array per reverse step but the last"):
        self.arrays = iter(arrays)
        self.shape = tuple(shape)
        self.holds = holds
        self.count = 0

    def __next__(self) -> np.ndarray:
        try:
            array = next(self.arrays)
        except StopIteration:
            raise UserError(
                f"the noise tape ran dry after {self.count} arrays; a sampling tape holds {self.holds}"
            ) from None
        array = array.asnumpy() if hasattr(array, "asnumpy") else np.asarray(array)
        if array.shape != self.shape:
            raise UserError(f"noise tape array {self.count} has shape {array.shape}, expected {self.shape}")
        self.count += 1
        return np.ascontiguousarray(array, dtype=np.float32)

    def __iter__(self):
        return self


def immiscible_assignment(x_start: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The permutation of ``noise`` that brings it nearest to ``x_start`` in total distance, both (B, ...)."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    return linear_sum_assignment(cdist(x_start.reshape(len(x_start), -1), noise.reshape(len(noise), -1)))[1]
