"""Two truths: where PyTorch in double and the numpy oracle can both say what is true, they must say the same.

A case whose truth is PyTorch in double would take a mistake of torch_ref for what is true, and one whose truth is numpy
would only get a wider bound from it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from portparity.backends import leg, why_not
from portparity.case import Computation, Leg

from .cases import all_cases


def by_torch(truth: Leg) -> bool:
    """Whether a truth is a leg of PyTorch's and nothing else."""
    return getattr(truth, "args", ("",))[0] == "torch"


def computations() -> Mapping[str, Computation]:
    """One of each that has a second truth: not in both modes, nor again by the C++ kernels or in half precision."""
    found: dict[str, Computation] = {}
    for made in (case.computation for case in all_cases(("0", "1", "2", "3", "4", "5", "7"))):
        once = made.precision == "float32" and not made.spec.get("kernels")
        if once and not (by_torch(made.truth) and why_not("numpy", made.spec)):
            found.setdefault(made.key.removesuffix("-graph").removesuffix("-pynative"), made)
    return found


def compare(made: Computation) -> None:
    """Within 1e-10 of the largest value: the worst of all is 2e-11, and a float32 on the way makes 2e-8 and more.

    Raises AssertionError where they differ.
    """
    inputs, kind, spec = made.inputs(), made.spec["kind"], made.spec
    with np.errstate(all="ignore"):
        truth = made.truth(inputs) if why_not("numpy", spec) else leg("numpy", kind, spec)(inputs)
        found = leg("torch", kind, spec, dtype="float64")(inputs)
    assert truth
    for output, value in truth.items():
        finite = np.abs(value[np.isfinite(value)])
        np.testing.assert_allclose(found[output], value, rtol=0, atol=1e-10 * finite.max(initial=0), err_msg=output)
