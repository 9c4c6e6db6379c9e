"""Corruption, BasicNet and its sampling in float64, from the formulas and not from either implementation.

x is (B, C, H, W) in [0, 1], amount (B,), z what is random. A step of the sampler is written here from what it means
(the noise that a prediction implies, at the next smaller amount), not as the mixture that both implementations use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from parity_tests.oracle.layers import conv2d, nearest_upsample
from parity_tests.oracle.process import as_float64

Array = np.ndarray
Pair = tuple[Array, Array]


def _each(amount: ArrayLike) -> Array:
    return as_float64(amount).reshape(-1, 1, 1, 1)


def blend(x: Array, a: Array, z: Array) -> Array:
    """The point at share a of the line from x to z."""
    return x + a * (z - x)


def impulses(x: Array, a: Array, z: Array) -> Array:
    """Of z uniform in [0, 1) the first share a damages: its lower half to 0, its upper half to 1."""
    return np.where(z >= a, x, np.where(z >= a / 2, 1.0, 0.0))


def photons(x: Array, a: Array, z: Array) -> Array:
    """z counts where a white pixel has 1 / a^2 of them; for a < 2^-24 what they count."""
    with np.errstate(divide="ignore"):
        white = np.square(1 / a)
    return np.where(a < 2.0**-24, x, z / np.where(np.isinf(white), 1.0, white))


NOISES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "uniform": blend,
    "gaussian": lambda x, a, z: x + a * z,
    "salt_and_pepper": impulses,
    "poisson": photons,
    "multiplicative": lambda x, a, z: x * (1 + a * z),
}
# What the largest operand of each result is made of.
OPERANDS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "uniform": lambda x, a, z: np.maximum(np.abs(x * (1 - a)), np.abs(a * z)),
    "gaussian": lambda x, a, z: np.maximum(np.abs(x), np.abs(a * z)),
    "multiplicative": lambda x, a, z: np.abs(x) * np.maximum(1, np.abs(a * z)),
}


def corrupted(kind: str, x: ArrayLike, amount: ArrayLike, z: ArrayLike) -> Array:
    """x after noise of ``kind``."""
    return NOISES[kind](as_float64(x), _each(amount), as_float64(z))


def operands_of_corrupted(kind: str, x: ArrayLike, amount: ArrayLike, z: ArrayLike) -> Array:
    """The magnitude of the largest operand of `corrupted`."""
    if kind not in OPERANDS:
        return np.abs(corrupted(kind, x, amount, z))
    return OPERANDS[kind](as_float64(x), _each(amount), as_float64(z))


def statistics(kind: str, x: ArrayLike, amount: float) -> Pair:
    """(mean, variance) that a pixel of value x has after noise of ``kind``."""
    x, a = as_float64(x), float(amount)
    if kind == "uniform":  # a constant and a uniform variable of width a
        return x - a * x + a / 2, np.full_like(x, a * a / 12)
    if kind == "salt_and_pepper":  # E[y^2] - E[y]^2 of the values x, 0, 1 with 1 - a, a/2, a/2
        mean = (1 - a) * x + a / 2
        return mean, (1 - a) * x * x + a / 2 - mean * mean
    return x, {"gaussian": np.full_like(x, a * a), "poisson": a * a * x, "multiplicative": np.square(a * x)}[kind]


def halved_by_maximum(x: ArrayLike) -> Array:
    """The largest of every 2x2 square of (B, C, H, W)."""
    x = as_float64(x)
    return np.max([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0)


def basic_net(x: ArrayLike, weights: Mapping[str, ArrayLike]) -> Array:
    """The network, by its parameters' names."""

    def layer(name: str, x: Array) -> Array:
        return np.maximum(conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=2), 0)

    full = layer("down_layers.0", as_float64(x))
    half = layer("down_layers.1", halved_by_maximum(full))
    quarter = layer("up_layers.0", layer("down_layers.2", halved_by_maximum(half)))
    half = layer("up_layers.1", nearest_upsample(quarter) + half)
    return layer("up_layers.2", nearest_upsample(half) + full)


def step(model: Callable[[Array], Array], x: Array, i: int, steps: int) -> Pair:
    """From amount 1 - i/steps to 1 - (i+1)/steps: (the answer with less of the noise that it implies, the answer)."""
    now, later = 1 - i / steps, 1 - (i + 1) / steps
    prediction = model(x)
    noise = prediction + (x - prediction) / now  # x = blend(prediction, now, noise)
    return blend(prediction, later, noise), prediction


def chain(model: Callable[[Array], Array], kind: str, z: ArrayLike, steps: int) -> Pair:
    """From a grey image at amount 1: all states (B, steps + 1, C, H, W), all answers (B, steps, C, H, W)."""
    z = as_float64(z)
    x = corrupted(kind, np.full_like(z, 0.5), np.ones(len(z)), z)
    states, predictions = [x], []
    for i in range(steps):
        x, prediction = step(model, x, i, steps)
        states.append(x)
        predictions.append(prediction)
    return np.stack(states, 1), np.stack(predictions, 1)


def loss(model: Callable[[Array], Array], kind: str, img: ArrayLike, amount: ArrayLike, z: ArrayLike) -> float:
    """The mean square of what the answer to the corrupted images is off."""
    off = model(corrupted(kind, img, amount, z)) - as_float64(img)
    return float(np.mean(np.square(off)))
