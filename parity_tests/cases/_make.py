"""How a row of a case table becomes a computation: inputs from one seed, a leg per framework, the fitting oracle."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..backends import backend, leg
from ..case import Arrays, Case, Computation, Leg
from ..classes import class_of
from ..tolerances import tolerance

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


def shapes_of(kind: str, arguments: Mapping) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters of a layer or a "unet", as PyTorch has them."""
    return backend("torch").weight_shapes(kind, arguments)


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


def computation(
    key: str,
    kind: str,
    spec: Mapping,
    inputs: Callable[[np.random.Generator], Arrays],
    *,
    truth: Leg | str = "torch",
    mode: str = "graph",
    seed: int = 0,
    rule: str = "ratio",
    precision: str = "float32",
    neighbours: int = 2,
    other_kernels: bool = False,
    scales: Leg | None = None,
    mindspore: Mapping | None = None,
) -> Computation:
    """A computation that both frameworks do.

    Args:
        key: its name.
        kind, spec: which row of the backends' ``KINDS``, and what it builds.
        inputs: makes the inputs from a Generator that is the computation's own.
        truth: "numpy", "torch" (in double) or a leg.
        mode: how MindSpore runs it.
        seed: other inputs of the same computation.
        rule, precision: see `Computation`.
        scales: the leg that gives the magnitudes of the larger operands, from the inputs.
        neighbours: how many perturbed references there are beside the plain one.
        other_kernels: PyTorch without oneDNN is a reference too. Over hundreds of free steps its own two sets of
            convolution kernels part by five times what a perturbation of the inputs does.
        mindspore: more options of the candidate's leg.
    """
    precision = class_of(kind, spec, precision)
    reference = leg("torch", kind, spec, dtype=precision)
    plain = (reference, *((leg("torch", kind, spec, dtype=precision, onednn=False),) if other_kernels else ()))
    if isinstance(truth, str):
        truth = leg("numpy", kind, spec) if truth == "numpy" else leg("torch", kind, spec, dtype="float64")
    name = key.removesuffix("-pynative").removesuffix("-graph")  # both modes get the same inputs
    return Computation(
        key,
        inputs=lambda: inputs(rng_of(name, seed)),
        truth=truth,
        references=(*plain, *(perturbed(run, i, precision) for run in plain for i in range(neighbours))),
        candidates={"mindspore": leg("mindspore", kind, spec, mode=mode, **(mindspore or {})), "torch": reference},
        rule=rule,
        precision=precision,
        scales=(lambda inputs, truth: scales(inputs)) if scales else None,
        spec={"kind": kind, "mode": mode, "seed": seed, "rule": rule, "precision": precision, **spec},
    )


def cases(tier: str, made: Computation, *named: tuple[str, Sequence[str]], mode: str = "graph") -> list[Case]:
    """Cases on one computation: (id, patterns of outputs) each; without any, one of its name on all outputs."""
    rows = named or ((made.key, ("*",)),)
    return [Case(name, tier, made, tuple(patterns), mode) for name, patterns in rows]
