"""The rule itself: what it lets pass, what it finds, and what no comparison may overlook."""

import math

import numpy as np
import pytest

from parity_tests.cases import select
from portparity import Case, Computation, judge, judge_tensor, run, tolerance
from portparity.dtypes import as_bfloat16, dtype_of
from portparity.errors import NothingRan
from portparity.mutants.comparator import TAMPERINGS, outcome_of_tampering, sample
from portparity.report.schema import exit_code
from portparity.rivals import OURS, RIVALS, RULES, passes
from portparity.runner import BROKEN
from portparity.verdict import AGREE, DIFFER, ordered_bits, ulp_distance

U = 2.0**-24
FLOAT32 = tolerance("float32")


def judged(error, own, truth=1.0, size=64, **options):
    """The verdict on a candidate that is ``error`` off everywhere where the reference is ``own`` off."""
    truth = np.full(size, truth)
    candidate, reference = (np.float32(truth + e) for e in (error, own))
    return judge_tensor("x", candidate, [reference], truth, options.pop("tolerance", FLOAT32), **options)


# --- the ratio ---------------------------------------------------------------------------------------------------


def test_an_error_like_the_references_agrees():
    found = judged(1e-4, 1e-4)
    assert found.verdict == AGREE
    assert found.ratio == pytest.approx(1 / FLOAT32.K, rel=1e-2)


@pytest.mark.parametrize(("times", "verdict"), [(0.9, AGREE), (1.1, DIFFER)])
def test_k_times_the_references_error_is_the_bound(times, verdict):
    found = judged(times * FLOAT32.K * 1e-4, 1e-4)
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(times, rel=1e-2)


@pytest.mark.parametrize(("floats", "verdict"), [(2, AGREE), (3, DIFFER)])
def test_f_units_of_the_scale_are_free_where_the_reference_is_exact(floats, verdict):
    found = judged(floats * 4 * U, 0.0, truth=2.0)  # at 2 a unit of the scale is 2u, and floats are 4u apart
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(floats * 2 / FLOAT32.F)


@pytest.mark.parametrize(("scale", "verdict"), [(None, DIFFER), (np.full(64, 100.0), AGREE)])
def test_a_difference_is_judged_on_the_scale_of_its_operands(scale, verdict):
    assert judged(1e-5, 0.0, truth=1.0, scale=scale).verdict == verdict


def test_the_worst_of_several_references_is_the_yardstick():
    truth = np.ones(64)
    references = [np.float32(truth), np.float32(truth + 1e-4)]
    candidate = np.float32(truth + 2e-4)
    assert judge_tensor("x", candidate, references[:1], truth, FLOAT32).verdict == DIFFER
    assert judge_tensor("x", candidate, references, truth, FLOAT32).verdict == AGREE


def test_one_wrong_element_in_many_is_found_and_pointed_at():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((100, 1000))
    candidate = truth.astype(np.float32)
    candidate[3, 7] += 1e-3
    found = judge_tensor("x", candidate, [truth.astype(np.float32)], truth, FLOAT32)
    assert found.verdict == DIFFER
    assert found.index == (3, 7)
    assert found.candidate == pytest.approx(found.truth + 1e-3, rel=1e-3)
    assert found.ulp > 1000


def test_a_bias_below_every_elements_bound_is_found_by_the_rms():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(100_000)
    candidate = (truth * (1 + 6 * U)).astype(np.float32)
    found = judge_tensor("x", candidate, [truth.astype(np.float32)], truth, FLOAT32)
    assert found.verdict == DIFFER
    assert found.max_error < found.max_bound
    assert found.message.startswith("rms error")


def test_zero_is_zero():
    assert judged(0.0, 0.0, truth=0.0).verdict == AGREE
    found = judged(1e-30, 0.0, truth=0.0)
    assert found.verdict == DIFFER
    assert math.isinf(found.ratio)


def test_huge_values_do_not_overflow():
    found = judged(0.0, 0.0, truth=1e38)
    assert math.isfinite(found.rms_bound)
    assert found.verdict == AGREE


def test_a_coarser_precision_class_allows_more():
    assert judged(1e-3, 0.0).verdict == DIFFER
    assert judged(1e-3, 0.0, tolerance=tolerance("float16")).verdict == AGREE


def test_an_unknown_precision_class_is_an_error():
    with pytest.raises(KeyError):
        tolerance("float7")


def test_nan_and_inf_where_they_belong_agree_and_the_rest_is_compared():
    truth = np.array([np.nan, np.inf, -np.inf, 1.0, 2.0])
    same = truth.astype(np.float32)
    with np.errstate(invalid="ignore"):
        assert judge_tensor("x", same, [same], truth, FLOAT32).verdict == AGREE
        other = same.copy()
        other[3] = 1.1
        assert judge_tensor("x", other, [same], truth, FLOAT32).index == (3,)


# --- ulp, exact, envelope ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_neighbouring_floats_are_one_ulp_apart(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([1.0, -1.0, 1e-3, 0.0, -tiny, 65504 / 2], dtype)
    assert (ulp_distance(x, np.nextafter(x, dtype(np.inf))) == [1] * len(x)).all()
    assert ulp_distance(np.array([-tiny]), np.array([tiny])) == [2]
    assert ulp_distance(np.array([0.0], dtype), np.array([-0.0], dtype)) == [0]
    ordered = np.sort(np.random.default_rng(0).standard_normal(1000)).astype(dtype)
    assert (np.diff(ordered_bits(ordered)) >= 0).all()


@pytest.mark.parametrize(("floats", "verdict"), [(0, AGREE), (1, AGREE), (2, DIFFER)])
def test_a_table_may_be_one_float_off(floats, verdict):
    truth = np.linspace(0.1, 0.9, 50)
    candidate = truth.astype(np.float32)
    for _ in range(floats):
        candidate[7] = np.nextafter(candidate[7], np.float32(1))
    found = judge_tensor("x", candidate, [candidate], truth, FLOAT32, rule="ulp")
    assert found.verdict == verdict
    assert found.ulp == floats


def test_exact_means_every_bit():
    truth = np.array([1.0, np.nan, 3.0], np.float32)
    assert judge_tensor("x", truth.copy(), [truth], truth, FLOAT32, rule="exact").verdict == AGREE
    other = truth.copy()
    other[2] = np.nextafter(other[2], np.float32(9))
    found = judge_tensor("x", other, [truth], truth, FLOAT32, rule="exact")
    assert found.verdict == DIFFER
    assert found.index == (2,)


def test_integers_are_compared_exactly_under_any_rule():
    truth = np.arange(5)
    assert judge_tensor("x", truth.copy(), [truth], truth, FLOAT32).verdict == AGREE
    assert judge_tensor("x", truth + 1, [truth], truth, FLOAT32).verdict == DIFFER


def trajectories(leave=None):
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((20, 8))
    growth = 1e-7 * 1.5 ** np.arange(20)[:, None]
    references = [np.float32(truth + growth * rng.standard_normal(truth.shape)) for _ in range(3)]
    candidate = truth + growth * rng.standard_normal(truth.shape)
    if leave is not None:
        candidate[leave:] += 100 * growth[leave:]
    return candidate.astype(np.float32), references, truth


def test_a_run_inside_its_envelope_agrees_though_its_errors_grow():
    candidate, references, truth = trajectories()
    found = judge_tensor("x", candidate, references, truth, FLOAT32, rule="envelope")
    assert found.verdict == AGREE
    assert found.trajectory["first_outside"] is None
    assert len(found.trajectory["error"]) == 20


def test_a_run_that_leaves_its_envelope_names_the_step():
    candidate, references, truth = trajectories(leave=11)
    found = judge_tensor("x", candidate, references, truth, FLOAT32, rule="envelope")
    assert found.verdict == DIFFER
    assert found.index == (11,)
    assert "step 11 of 20" in found.message


# --- names and structure -----------------------------------------------------------------------------------------


def test_names_are_compared_before_numbers():
    one = {"a": np.float32([1.0]), "b": np.float32([2.0])}
    truth = {name: value.astype(np.float64) for name, value in one.items()}
    verdicts = {v.name: v.message for v in judge({"b": one["b"], "c": one["a"]}, [one], truth, FLOAT32)}
    assert verdicts == {
        "a": "missing in the candidate",
        "b": "",
        "c": "not in the reference: an extra output",
    }
    assert judge(one, [one], {"a": truth["a"]}, FLOAT32)[1].message == "missing in the float64 oracle"


def test_the_correct_leg_agrees():
    assert outcome_of_tampering(lambda outputs: outputs).verdict == AGREE


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampering_is_found(name):
    outcome = outcome_of_tampering(TAMPERINGS[name])
    assert outcome.verdict == DIFFER, name
    assert outcome.message
    assert outcome.ratio > 1
    assert exit_code([outcome]) == 1


def test_some_tamperings_pass_the_rivals():
    """Each of their rules overlooks some of it, which is why they are not ours."""
    computation = sample().computation
    whole = computation.candidates["torch"](computation.inputs())
    correct = {name: value for name, value in whole.items() if name != "holes"}  # none of them passes a NaN
    for rule in RIVALS:
        overlooked = [name for name, tamper in TAMPERINGS.items() if passes(rule, tamper(dict(whole)), correct)]
        assert overlooked, rule


# --- nothing is never green --------------------------------------------------------------------------------------


def test_a_case_that_selects_no_output_is_broken():
    made = sample().computation
    (outcome,) = run([Case("empty", "0", made, outputs=("no such output",))], "torch")
    assert outcome.verdict == BROKEN
    assert exit_code([outcome]) == 2


def test_a_computation_without_outputs_is_broken():
    def leg(inputs):
        return {}

    made = Computation("nothing", dict, leg, (leg,), {"torch": leg})
    (outcome,) = run([Case("nothing", "0", made)], "torch")
    assert outcome.verdict == BROKEN


def test_a_leg_that_raises_is_broken_and_says_why():
    def raising(outputs):
        raise ValueError("the kernel is not there")

    outcome = outcome_of_tampering(raising)
    assert outcome.verdict == BROKEN
    assert "the kernel is not there" in outcome.message


def test_no_cases_are_nothing():
    assert run([], "torch") == []
    assert exit_code([]) == 3
    with pytest.raises(NothingRan):
        select([])


# --- the rivals --------------------------------------------------------------------------------------------------


def test_ours_comes_first():
    assert list(RULES) == [OURS, *RIVALS]


@pytest.mark.parametrize("rule", RIVALS)
def test_a_rival_passes_what_is_equal_and_not_what_has_another_shape(rule):
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    assert passes(rule, {"x": x.copy()}, {"x": x})
    assert passes(rule, {"x": np.zeros_like(x)}, {"x": np.zeros_like(x)})
    assert not passes(rule, {"x": x[:1]}, {"x": x})
    assert not passes(rule, {}, {"x": x})
    assert not passes(rule, {"x": -x}, {"x": x})


@pytest.mark.parametrize(
    ("rule", "relative", "verdict"),
    [
        ("cosine > .99 (msprobe)", 0.05, True),
        ("relative Frobenius < 5e-3 (mindone)", 0.004, True),
        ("relative Frobenius < 5e-3 (mindone)", 0.006, False),
        ("allclose 1e-4 (TroubleShooter)", 1e-4, True),
        ("allclose 1e-4 (TroubleShooter)", 1e-2, False),
        ("assert_close float32", 1e-6, True),
        ("assert_close float32", 1e-4, False),
        ("mean, atol 1e-4 (PaDiff README)", 1e-5, True),
        ("mean, rtol 1e-7 (PaDiff default)", 1e-5, False),
    ],
)
def test_a_rivals_threshold_is_the_published_one(rule, relative, verdict):
    x = 1 + np.random.default_rng(0).random(1000, dtype=np.float32)
    assert passes(rule, {"x": x * np.float32(1 + relative)}, {"x": x}) is verdict


def test_a_mean_does_not_see_a_permutation():
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert passes("mean, rtol 1e-7 (PaDiff default)", {"x": x[::-1]}, {"x": x})


@pytest.mark.parametrize("narrow", [np.float16, "bfloat16", np.float64])
def test_a_result_of_another_dtype_differs_though_its_numbers_are_right(narrow):
    """float16 for float32 agreed as long as arrays were cast before they were judged."""
    value = np.array([0.5, 1, 2], np.float32)
    other = as_bfloat16(value) if narrow == "bfloat16" else value.astype(narrow)
    pair = Computation(
        "own/dtype", lambda: {"x": value}, truth=lambda i: {"y": i["x"].astype(np.float64)},
        references=[lambda i: {"y": i["x"]}], candidates={"other": lambda i: {"y": other}},
    )  # fmt: skip
    (outcome,) = run([Case("own/dtype", "2", pair)], candidate="other")
    assert outcome.verdict == "differ"
    assert outcome.message == f"y: dtype {dtype_of(other)}, expected float32"


@pytest.mark.parametrize(
    ("error", "verdict", "table", "asked"),
    [
        (3e-4, AGREE, "layers", 0),  # within four times what the first run loses
        (8e-4, AGREE, "layers", 2),  # it was lucky: on a neighbour of its input it loses 3e-4
        (2e-3, DIFFER, "layers", 2),
        (6e-4, AGREE, "few", None),  # no more of them can be run, so there is more room
        (2e-3, DIFFER, "few", None),
    ],
)
def test_a_layer_is_judged_by_more_runs_of_the_reference_before_it_is_said_to_differ(error, verdict, table, asked):
    x, runs = np.array([1.0, 2.0], np.float32), []

    def reference(inputs):
        runs.append(inputs)
        lost = 1e-4 if np.array_equal(inputs["x"], x) else 3e-4
        return {"y": x + np.float32(lost)}

    made = Computation(
        "layer", lambda: {"x": x}, truth=lambda i: {"y": i["x"].astype(np.float64)}, references=[reference],
        candidates={"other": lambda i: {"y": i["x"] + np.float32(error)}}, rule="layers",
        further=(0, 1) if asked is not None else (),
    )  # fmt: skip
    outcomes = run([Case("a", "2", made), Case("b", "2", made)], candidate="other")
    assert [(outcome.verdict, outcome.rule) for outcome in outcomes] == [(verdict, table)] * 2
    assert len(runs) == 1 + (asked or 0)  # once for both cases
