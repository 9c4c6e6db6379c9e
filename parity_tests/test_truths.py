"""Two truths: where PyTorch in double and the numpy oracle can both say what is true, they say the same.

A case whose truth is PyTorch in double would take a mistake of torch_ref for what is true, and one whose truth is numpy
would only get a wider bound from it.
"""

import numpy as np
import pytest

from parity_tests.cases import all_cases
from parity_tests.systems import joined
from portparity.backends import leg, why_not


def by_torch(truth):
    """Whether a truth is a leg of PyTorch's and nothing else."""
    return getattr(truth, "args", ("",))[0] == "torch"


def computations():
    """One of each that has a second truth: not in both modes, nor again by the C++ kernels or in half precision."""
    found = {}
    for made in (case.computation for case in all_cases(("0", "1", "2", "3", "4", "5", "7"))):
        once = made.precision == "float32" and not made.spec.get("kernels")
        if once and not (by_torch(made.truth) and why_not("numpy", made.spec)):
            found.setdefault(made.key.removesuffix("-graph").removesuffix("-pynative"), made)
    return found


COMPUTATIONS = computations()


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_in_double_pytorch_is_the_oracle(name):
    """Within 1e-10 of the largest value: the worst of all is 2e-11, and a float32 on the way makes 2e-8 and more."""
    pytest.importorskip("torch")
    made = COMPUTATIONS[name]
    inputs, kind, spec = made.inputs(), made.spec["kind"], made.spec
    with np.errstate(all="ignore"):
        truth = made.truth(inputs) if why_not("numpy", spec) else leg("numpy", kind, spec)(inputs)
        found = leg("torch", kind, spec, dtype="float64")(inputs)
    assert truth
    for output, value in truth.items():
        finite = np.abs(value[np.isfinite(value)])
        np.testing.assert_allclose(found[output], value, rtol=0, atol=1e-10 * finite.max(initial=0), err_msg=output)


def test_all_tiers_have_a_second_truth():
    kinds = {made.spec["kind"] for made in COMPUTATIONS.values()}
    assert {"tables", "method", "ddim_step", "layer", "score_network", "module", "loss", "optimizer"} <= kinds
    assert {"ema", "clip", "chain", "score_step", "score_chain", "scheduler_step", "corruption_chain"} <= kinds
    rows = {made.spec["layer"] for made in COMPUTATIONS.values() if made.spec["kind"] == "layer"}
    assert rows == set(joined("on_numpy", "LAYERS"))
