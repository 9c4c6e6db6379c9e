"""No tolerance is wider than the evidence for it allows."""

import numpy as np
import pytest

from portparity import tolerances
from portparity.calibrate import class_and_rule, leave_one_out, summarise
from portparity.case import Computation
from portparity.runner import Record

NUMBERS = tolerances.read()
START = 4.0  # K = F = 4 to begin with: docs/design/verdict.md
HEADROOM = 1.5  # how far above the largest clean pair a bound may stand


def wide(numbers):
    """(table, number) of every K and F that is above the start."""
    for table, values in numbers.items():
        if table in ("ratio", "layers", "few", "envelope"):
            yield from ((table, name) for name in ("K", "F") if values.get(name, 0) > START)
    for precision, values in numbers.get("class", {}).items():
        yield from ((precision, name) for name in ("K", "F") if values.get(name, 0) > START)


def unsupported(numbers):
    """The widened numbers for which the evidence does not speak."""
    for table, name in wide(numbers):
        value = (numbers.get(table) or numbers["class"][table])[name]
        evidence = numbers.get("evidence", {}).get(table, {})
        if not evidence or evidence["pairs"] < 20 or value > max(START, HEADROOM * evidence["peak"]):
            yield f"{table}.{name} = {value}, evidence: {evidence or 'none'}"


def test_every_widened_number_has_its_evidence():
    assert list(unsupported(NUMBERS)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda n: n["ratio"].update(K=9.0),
        lambda n: n["layers"].update(K=9.0),
        lambda n: n["few"].update(K=9.0),
        lambda n: n["ratio"].update(F=40.0),
        lambda n: n["envelope"].update(K=100.0),
        lambda n: n.update({"class": {"float16": {"K": 64.0}}}),
    ],
    ids=["K", "layers", "few", "F", "envelope", "class"],
)
def test_widening_without_evidence_is_found(change):
    import copy

    numbers = copy.deepcopy(NUMBERS)
    change(numbers)
    assert list(unsupported(numbers))


def test_the_evidence_is_within_the_bounds():
    for group, row in NUMBERS["evidence"].items():
        limit = tolerances.tolerance(*class_and_rule(group)).K
        assert row["peak"] < limit, f"{group}: a clean pair at {row['peak']}, and K is {limit}"
        assert row["pairs"] >= 20


def test_units_and_the_ulp_limit_are_what_the_formats_say():
    assert NUMBERS["ulp"]["limit"] == 1
    for name, bits in (("float64", 53), ("float32", 24), ("tf32", 11), ("hf32", 12), ("float16", 11), ("bfloat16", 8)):
        assert tolerances.tolerance(name).u == 2.0**-bits


def test_calibration_sees_how_far_references_are_apart():
    truth = {"loss": np.zeros(3)}
    runs = [{"loss": np.array([size, size, size])} for size in (1e-3, 1e-3, 7e-3)]
    made = Computation("k", dict, lambda i: truth, [], {}, rule="envelope")
    pairs = list(leave_one_out(made, Record({}, truth, runs, None), ("loss",)))
    found = summarise(pairs, 1)["envelope"]
    assert found["peak"] == pytest.approx(7)
    assert found["pairs"] == 3
