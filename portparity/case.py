"""What is compared: computations, run by several legs on the same inputs, and the named checks on what they give.

A leg is a function from named numpy arrays to named numpy arrays; it hides one framework in one precision. The
harness knows nothing else of a framework, so any pair of them can be put under it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

TITLES = {  # of the tiers, with which the names of their cases begin
    "0": "maths", "1": "step", "2": "layers", "3": "network", "4": "training", "5": "sampling", "6": "state",
    "7": "modes", "peers": "peers",
}  # fmt: skip
Arrays = Mapping[str, np.ndarray]
Leg = Callable[[Arrays], Arrays]


@dataclass(frozen=True, eq=False)
class Computation:
    """One computation as several frameworks do it.

    Args:
        key: its name, unique; what bundles are called.
        inputs: makes the inputs; the same at every call.
        truth: the float64 leg.
        references: legs of the trusted framework in the candidate's precision. The first is the reference; more than
            one draw the envelope of a free run.
        further: seeds of more runs of the first reference on inputs moved by one unit, which are made only where a
            verdict by ``references`` is that the candidate differs: a few of them may have been lucky.
        candidates: the legs that can be judged, by framework.
        rule: a key of `verdict.RULES`.
        precision: a class of tolerances.toml. "float16" and "bfloat16" are mixed precision, in which each framework
            decides which results are halves; in the others an output of another dtype differs.
        scales: (inputs, truth) -> magnitudes of the larger operand by output name, where results are differences.
        spec: what defines the computation, as JSON; a bundle recorded from another spec is stale.
        sources: files and folders of the code that computes the inputs, the truth and the references; a bundle
            recorded by other code is stale.
    """

    key: str
    inputs: Callable[[], Arrays]
    truth: Leg
    references: Sequence[Leg]
    candidates: Mapping[str, Leg]
    rule: str = "ratio"
    precision: str = "float32"
    scales: Callable[[Arrays, Arrays], Arrays] | None = None
    spec: Mapping = field(default_factory=dict)
    sources: Sequence[Path] = ()
    further: Sequence[int] = ()


@dataclass(frozen=True, eq=False)
class Case:
    """One named check: a selection of a computation's outputs.

    Args:
        id: "tier/name", unique.
        tier: "0" to "7" or "peers".
        computation: what is computed; cases share it, and it runs once.
        outputs: patterns (fnmatch) of the names of the outputs that this case judges.
        mode: "graph" or "pynative" (how MindSpore runs it).
    """

    id: str
    tier: str
    computation: Computation
    outputs: tuple[str, ...] = ("*",)
    mode: str = "graph"

    def select(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """The outputs that this case judges."""
        return {
            name: value
            for name, value in arrays.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.outputs)
        }
