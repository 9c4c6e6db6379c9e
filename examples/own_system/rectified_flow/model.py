"""The network, its loss and its sampler."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ms_ddpm.maths.random import Stream, normal, stream
from ms_ddpm.nn.activations import SiLU
from ms_ddpm.nn.layers import Linear
from ms_ddpm.trainable import Trainable


class RectifiedFlow(Trainable):
    """``flow(point, t, z)`` is the loss of points (B, 2); t (B,) and z (B, 2) are what `draw` makes.

    Args:
        width: neurons of the two hidden layers.
        steps: of sampling.
        seed: of the first weights.
    """

    batch_fields = ("point",)

    def __init__(self, width: int, steps: int, *, seed: int = 0):
        super().__init__()
        self.steps = steps
        rng = stream(seed, Stream.WEIGHTS)
        self.first = Linear(3, width, rng=rng)
        self.second = Linear(width, width, rng=rng)
        self.last = Linear(width, 2, rng=rng)
        self.silu = SiLU()

    def draw(self, rng: np.random.Generator, batch: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Times, uniform in [0, 1), and noise."""
        return rng.random(len(batch[0]), dtype=np.float32), normal(rng, batch[0].shape)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """The network's v(x, t): (B, 2)."""
        h = self.silu(self.first(ops.concat((x, t.reshape(-1, 1)), 1)))
        return self.last(self.silu(self.second(h)))

    def construct(self, point: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Mean of |x - z - v(x_t, t)|^2 (Liu et al., eq. 1): scalar."""
        share = t.reshape(-1, 1)
        error = point - z - self.velocity((1 - share) * z + share * point, t)
        return (error * error).mean()

    def sample(self, num: int = 16, *, seed: int = 0, steps: int | None = None) -> Tensor:
        """Points (num, 2), from noise by Euler's method. Point i of a seed is the same whatever ``num`` is."""
        steps = self.steps if steps is None else steps
        x = Tensor(np.stack([normal(stream(seed, i), (2,)) for i in range(num)]))
        for i in range(steps):
            x = x + self.velocity(x, ops.full((num,), i / steps, dtype=ms.float32)) / steps
        return x
