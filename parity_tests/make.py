"""How a row of a case table becomes a computation: inputs from one seed, a leg per framework, the fitting oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from portparity.arrays import perturbed, rng_of
from portparity.backends import backend, leg
from portparity.case import Arrays, Case, Computation, Leg
from portparity.classes import HALF
from portparity.tolerances import REFERENCES

from .products import class_of
from .trusted import SOURCES


def shapes_of(kind: str, arguments: Mapping) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters of a layer or a "unet", as PyTorch has them."""
    return backend("torch").weight_shapes(kind, arguments)


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
    more = range(neighbours, neighbours + REFERENCES - len(plain) * (1 + neighbours))
    further = rule == "layers" and precision == "float32" and neighbours > 0
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
        sources=SOURCES,
        further=tuple(more) if further else (),
        spec={"kind": kind, "mode": mode, "seed": seed, "rule": rule, "precision": precision, **spec},
    )


def cases(tier: str, made: Computation, *named: tuple[str, Sequence[str]], mode: str = "graph") -> list[Case]:
    """Cases on one computation: (id, patterns of outputs) each; without any, one of its name on all outputs."""
    rows = named or ((made.key, ("*",)),)
    return [Case(name, tier, made, tuple(patterns), mode) for name, patterns in rows]


def label_of(precision: str, level: str) -> str:
    """What a class adds to the name of a computation."""
    if precision == "float32":
        return ""
    return f"-{precision}_{level}" if precision in HALF else f"-{precision}"


def amp_of(precision: str, level: str) -> dict[str, str]:
    """The options of MindSpore's leg that make it compute in class ``precision``."""
    return {"level": level, **({"dtype": precision} if precision in HALF else {})}


def by(kernels: bool) -> dict[str, bool]:
    """What a spec says of the C++ kernels: nothing without them, so that it is what was recorded."""
    return {"kernels": True} if kernels else {}


def only_mindspore(made: Computation) -> Computation:
    """Without PyTorch as a candidate: it has been judged on the same computation."""
    return replace(made, candidates={"mindspore": made.candidates["mindspore"]})
