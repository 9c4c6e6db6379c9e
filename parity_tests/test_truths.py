"""PyTorch in double is the numpy oracle, wherever both can say what is true: see `parity_tests.truths`."""

import pytest

from parity_tests import truths
from parity_tests.mutants import found
from parity_tests.systems import joined
from portparity.backends import leg

from .conftest import RUN_ALL

COMPUTATIONS = truths.computations()


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_in_double_pytorch_is_the_oracle(name):
    pytest.importorskip("torch")
    if not RUN_ALL and found.TRUTHS in found.already("torch"):
        return
    truths.compare(COMPUTATIONS[name])


def test_a_float32_on_the_way_is_not_the_truth(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(truths, "leg", lambda *what, **options: leg(*what, **{key: "float32" for key in options}))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        truths.compare(COMPUTATIONS["layers/rms_norm-scale1"])


def test_all_tiers_have_a_second_truth():
    kinds = {made.spec["kind"] for made in COMPUTATIONS.values()}
    assert {"tables", "method", "ddim_step", "layer", "score_network", "module", "loss", "optimizer"} <= kinds
    assert {"ema", "clip", "chain", "score_step", "score_chain", "scheduler_step", "corruption_chain"} <= kinds
    rows = {made.spec["layer"] for made in COMPUTATIONS.values() if made.spec["kind"] == "layer"}
    assert rows == set(joined("on_numpy", "LAYERS"))
