"""The numbers on which a port is tried: weights (no gain is 1, no bias 0), cotangents, and the neighbours of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..arrays import FLOAT32, normal, rng_of
from ..case import Arrays
from ..sides.side import Given, Weight


def rounded(values: np.ndarray, precision: str) -> np.ndarray:
    """float32 numbers of which a tensor of that precision holds every one; other dtypes as they are."""
    if values.dtype.kind != "f":
        return values
    values = np.asarray(values, FLOAT32)
    if precision == "float16":
        return values.astype(np.float16).astype(FLOAT32)
    if precision == "bfloat16":  # to nearest, ties to even: the upper half of the bits
        bits = values.view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(FLOAT32)
    return values


def weights(kept: Mapping[str, Weight], precision: str, seed: int) -> dict[str, np.ndarray]:
    """A model's weights, moved off the constants with which they begin: behind a gain of 1 or bias of 0 a fault hides.

    What was drawn at random or trained stays as it is, so do tables; running statistics get a mean and a variance.
    """
    found = {}
    for name, weight in kept.items():
        value, rng = weight.value, rng_of(name, seed)
        if value.dtype.kind != "f":
            continue
        noise = normal(rng, *value.shape).astype(value.dtype)
        if weight.is_buffer:
            if name.endswith("running_mean"):
                value = value + 0.3 * noise
            elif name.endswith("running_var"):
                value = value * (0.5 + np.abs(noise))
        elif value.size > 1 and np.ptp(np.asarray(value, np.float64)) == 0:
            constant = float(value.flat[0])
            if constant:
                value = value * (1 + 0.2 * noise)
            else:
                value = 0.1 * noise if value.ndim < 2 else noise / np.sqrt(np.prod(value.shape[1:]))
        found[name] = rounded(value, precision)
    return found


def cotangents(outputs: Arrays, seed: int) -> dict[str, np.ndarray]:
    """Random numbers shaped like every float output; a gradient is of their inner product with the outputs."""
    return {
        name: normal(rng_of(f"cotangent {name}", seed), *value.shape)
        for name, value in outputs.items()
        if value.dtype.kind == "f" and not name.startswith("grad.")
    }


def moved(values: np.ndarray, rng: np.random.Generator, precision: str) -> np.ndarray:
    """Every float moved to a neighbour of its precision, up or down."""
    if values.dtype.kind != "f":
        return values
    up = rng.random(values.shape) < 0.5
    if precision == "float32":
        return np.nextafter(values, np.where(up, np.inf, -np.inf).astype(FLOAT32), dtype=FLOAT32)
    unit = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[precision]
    return rounded(values * np.where(up, 1 + unit, 1 - unit).astype(FLOAT32), precision)


def neighbours(
    given: Given, kept: Arrays, precision: str, count: int, seed: int
) -> Iterator[tuple[Given, dict[str, np.ndarray]]]:
    """The arguments and weights themselves, and then ``count - 1`` times with every float moved by one unit.

    What the reference makes of them shows how much its own rounding can matter; one run may be lucky.
    """
    yield given, dict(kept)
    for i in range(1, count):
        rng = np.random.default_rng([seed, i])
        yield (
            Given(given.shape, [moved(value, rng, precision) for value in given.arrays], given.names),
            {name: moved(value, rng, precision) for name, value in kept.items()},
        )
