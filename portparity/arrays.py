"""Named arrays: drawn from one seed, weights as a trained network has them, neighbours of both, and parts of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from .case import Arrays, Leg
from .tolerances import tolerance

FLOAT32 = np.float32


def rng_of(name: str, seed: int = 0) -> np.random.Generator:
    """The Generator of the inputs of computation ``name``."""
    return np.random.default_rng([zlib.crc32(name.encode()), seed])


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Standard normal float32."""
    return rng.standard_normal(shape, dtype=FLOAT32)


def weights(shapes: Mapping[str, tuple[int, ...]], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of a trained network's magnitude, under "weight.NAME"; no gain is 1 and no bias 0, so that none hides."""
    found = {}
    for name, shape in shapes.items():
        value = normal(rng, *shape)
        if name.endswith(".g") or name == "g" or (name.endswith("norm.weight") and len(shape) == 1):
            value = 1 + 0.2 * value
        elif name.endswith("bias"):
            value = 0.1 * value
        elif len(shape) > 1 and not name.endswith("mem_kv"):
            value = value / np.sqrt(np.prod(shape[1:]))
        found[f"weight.{name}"] = value.astype(FLOAT32)
    return found


def perturbed(run: Leg, seed: int, precision: str = "float32") -> Leg:
    """The same leg on inputs of which every float has moved by one unit of the precision class, up or down."""
    unit = tolerance(precision).u

    def moved(inputs: Arrays) -> Arrays:
        rng = np.random.default_rng(seed)
        found = {}
        for name, value in inputs.items():
            up = rng.random(value.shape) < 0.5
            if value.dtype.kind == "f" and unit < 1e-6:
                value = np.nextafter(value, np.where(up, np.inf, -np.inf).astype(value.dtype))
            elif value.dtype.kind == "f":
                value = (value * np.where(up, 1 + unit, 1 - unit)).astype(value.dtype)
            found[name] = value
        return run(found)

    return moved


def by_time(outputs: Mapping[str, np.ndarray], t: np.ndarray) -> dict[str, np.ndarray]:
    """One output per row of the batch, named by its time: "mean[t=500]"."""
    return {
        f"{name}[t={int(time)}]": np.ascontiguousarray(value[row])
        for name, value in outputs.items()
        for row, time in enumerate(t)
    }


def given(inputs: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The inputs called PREFIX.NAME, by NAME."""
    return {name[len(prefix) + 1 :]: value for name, value in inputs.items() if name.startswith(prefix + ".")}
