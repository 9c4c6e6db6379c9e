"""Precision classes: each tells its own from the others', and nothing passes in a class that the device lacks."""

import json

import numpy as np
import pytest

from parity_tests import emulate
from parity_tests.cases import all_cases, select
from parity_tests.systems.core.cases.nets import layer_computation, network_computation
from portparity import classes
from portparity.backends import backend, installed, leg, why_not
from portparity.errors import HarnessError
from portparity.mutants.editing import edit
from portparity.runner import possible, run
from portparity.verdict import AGREE, DIFFER

from .test_cli import main  # noqa: F401  a fixture


@pytest.fixture
def on(monkeypatch):
    """As if MindSpore's device were another; it has started, where it is installed, on the one there is."""
    if installed("mindspore"):
        backend("mindspore")

    def pretend(device, level="highest"):
        monkeypatch.setenv(classes.DEVICE, device)
        monkeypatch.setenv(classes.MATMUL, level)

    return pretend


def cases_of(patterns, tier):
    return select(all_cases([tier]), patterns)


# --- the reference of TF32 and HF32 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "bits"), [("tf32", 10), ("hf32", 11)])
def test_operands_are_rounded_to_nearest_and_ties_to_even(precision, bits):
    torch = pytest.importorskip("torch")
    from portparity import rounded_products as products

    one = 1 + 2.0**-bits
    values = [1.0, 1 + 2.0 ** -(bits + 1), one + 2.0 ** -(bits + 1), 1 + 2.0 ** -(bits + 2), -one, 0.0, np.inf, np.nan]
    found = products.rounded(torch.tensor(values), products.BITS[precision]).numpy()
    expected = [1.0, 1.0, 1 + 2.0 ** (1 - bits), 1.0, -one, 0.0, np.inf, np.nan]
    assert np.array_equal(found, np.array(expected, np.float32), equal_nan=True)


def test_every_product_of_a_network_is_rounded_forward_and_backward():
    """A product whose operands have one bit each is exact in every class; one with more differs."""
    pytest.importorskip("torch")
    for name in ("conv3", "linear", "attention", "linear_attention"):
        made = layer_computation(name, 1, "pynative")
        inputs = made.inputs()
        exact, fast = (made.references[0].args[3], {"dtype": "tf32"})
        spec = made.references[0].args[2]
        plain, rounded = (leg("torch", "layer", spec, **options)(inputs) for options in (exact, fast))
        same = [output for output in plain if np.array_equal(plain[output], rounded[output])]
        assert set(same) <= {"grad.weight.bias", "grad.weight.to_out.bias", "grad.weight.to_out.0.bias"}, name


# --- judging --------------------------------------------------------------------------------------------------------

LAYERS = ("conv3", "linear", "resnet_block_rms", "linear_attention", "attention")


def judged(made, precision):
    """The verdict on MindSpore made to compute in ``precision``, on ``made``."""
    from portparity.case import Case

    return run([Case(made.key, "2", made)], around=lambda: emulate.computing_in(precision))[0]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("precision", ["tf32", pytest.param("hf32", marks=pytest.mark.slow)])
def test_rounded_products_pass_in_their_class_and_not_as_float32(name, precision):
    pytest.importorskip("mindspore")
    assert judged(layer_computation(name, 1, "pynative"), precision).verdict == DIFFER
    outcome = judged(layer_computation(name, 1, "pynative", precision=precision), precision)
    assert outcome.verdict == AGREE, outcome.message
    assert outcome.ratio > 1e-3, "nothing was rounded"


def test_a_whole_network_in_tf32_passes_as_tf32_alone():
    pytest.importorskip("mindspore")
    verdicts = {
        precision: judged(network_computation("unet_2_3", "pynative", precision=precision), "tf32").verdict
        for precision in ("float32", "tf32")
    }
    assert verdicts == {"float32": DIFFER, "tf32": AGREE}


@pytest.mark.slow
def test_a_training_step_in_tf32_passes_as_tf32_alone(on):
    """With the product's own Adam, whose first step is the gradient's sign."""
    pytest.importorskip("mindspore")
    pattern = ["training/one_step_2022-*pynative"]
    as_float32 = cases_of(pattern, "4")
    on("GPU", "high")
    as_tf32 = cases_of(pattern, "4")
    for cases, verdict in ((as_float32, DIFFER), (as_tf32, AGREE)):
        outcomes = run(cases, around=lambda: emulate.computing_in("tf32"))
        assert {outcome.verdict for outcome in outcomes} == {verdict}, [outcome.message for outcome in outcomes]


def test_a_whole_network_in_bfloat16_passes_as_bfloat16_alone():
    pytest.importorskip("mindspore")
    found = {
        precision: judged(network_computation("unet_2_3", "pynative", 0, precision, level), "bfloat16")
        for precision, level in (("bfloat16", "O1"), ("float16", "O1"), ("tf32", "O0"))
    }
    verdicts = {precision: outcome.verdict for precision, outcome in found.items()}
    assert verdicts == {"bfloat16": AGREE, "float16": DIFFER, "tf32": DIFFER}, found["bfloat16"].message


# --- which class a device is judged in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "level", "expected"),
    [("CPU", "highest", "float32"), ("GPU", "highest", "float32"), ("GPU", "high", "tf32"), ("Ascend", "high", "hf32")],
)
def test_the_switch_sets_the_class_of_what_has_products(on, device, level, expected):
    on(device, level)
    found = {case.id: case.computation.precision for case in all_cases()}
    with_products = (
        "layers/conv3-scale1-vjp-pynative", "layers/time_mlp-scale1-forward-graph", "network/unet_2_3-forward-graph",
        "training/one_step_2_3-weights-graph", "training/digits_200_steps-graph-loss", "sampling/unet_ddpm_1000",
    )  # fmt: skip
    without = (
        "maths/cosine-T1000-betas", "maths/q_sample-cosine-pynative", "layers/rms_norm-scale1-vjp-graph",
        "layers/silu-scale1-forward-graph", "training/adam-step1-graph", "training/ema-call1",
        "state/roundtrip-2_3", "training/loss-pred_v-l2-fixed-plain-value-pynative",
    )  # fmt: skip
    missing = [name for name in (*with_products, *without) if name not in found]
    assert missing == []
    assert {found[name] for name in with_products} == {expected}
    assert {found[name] for name in without} == {"float32"}


def test_the_switch_changes_the_reference_too(on):
    on("GPU", "high")
    made = network_computation("unet_2_3", "pynative")
    assert {reference_options(run_)["dtype"] for run_ in made.references[:1]} == {"tf32"}
    assert made.spec["precision"] == "tf32"
    assert made.candidates["mindspore"].args[3]["level"] == "O0"


def reference_options(run_):
    return run_.args[3]


def test_high_without_a_device_that_knows_it_is_refused(main, tmp_path):  # noqa: F811
    code, _, err = main("check", "--tier", "0", "--matmul_precision", "high", "--output_dir", tmp_path)
    assert code == 2
    assert "--matmul_precision high changes nothing on CPU, which has neither TF32 nor HF32" in err
    with pytest.raises(HarnessError):
        classes.choose("CPU", "high")


# --- what the device lacks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "says"),
    [
        ("bfloat16", "has no bfloat16 convolutions and matrix products on CPU"),
        ("tf32", "tf32 is for --device_target GPU --matmul_precision high"),
        ("hf32", "hf32 is for --device_target Ascend --matmul_precision high"),
        ("float16", ""),
    ],
)
def test_a_class_says_why_it_cannot_run_here(precision, says):
    pytest.importorskip("mindspore")
    reason = why_not("mindspore", {"precision": precision})
    assert says in reason
    assert bool(says) == bool(reason)


def test_the_rounded_classes_run_on_their_device_alone(on):
    pytest.importorskip("mindspore")
    for device, level, runs in (("GPU", "high", "tf32"), ("GPU", "highest", None), ("Ascend", "high", "hf32")):
        on(device, level)
        can = [name for name in classes.ROUNDED if not why_not("mindspore", {"precision": name})]
        assert can == ([runs] if runs else [])


def test_what_did_not_run_is_in_the_report_and_never_agrees(main, tmp_path):  # noqa: F811
    pytest.importorskip("mindspore")
    patterns = ("modes/linear-scale1-float16_O1-*", "modes/linear-scale1-bfloat16_O1-*", "modes/linear-scale1-tf32-*")
    selected = [word for pattern in patterns for word in ("--case", pattern)]
    code, out, _ = main("check", *selected, "--output_dir", tmp_path, "--quiet")
    assert code == 0
    assert "2 checks are left out: tf32 is for" in out
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["summary"]["total"] == found["summary"]["agree"] == 2
    left_out = sorted(name for ids in found["left_out"].values() for name in ids)
    parts = ("bfloat16_O1-forward", "bfloat16_O1-vjp", "tf32-forward", "tf32-vjp")
    assert left_out == [f"modes/linear-scale1-{part}" for part in parts]
    assert "2: tf32 is for" in found["environment"]["not run here"]
    assert "not run here" in (tmp_path / "summary.md").read_text()
    code, _, err = main("check", "--tier", "7", "--dtype", "bfloat16", "--output_dir", tmp_path)
    assert (code, "nothing ran, so nothing agrees" in err) == (3, True)


def test_every_class_has_layers_networks_and_a_training_step():
    tier7 = all_cases(["7"])
    for precision in classes.ALL[1:]:
        kinds = {case.computation.spec["kind"] for case in tier7 if case.computation.precision == precision}
        assert kinds == {"layer", "network", "train"}, precision
    assert len(possible(tier7)[1]) == 3


# --- every class can fail -------------------------------------------------------------------------------------------

STEP, SCALE = "ms_ddpm.training.train_step:TrainStep.__init__", "ms_ddpm.training.amp:DynamicLossScale.update"
BUGS = {  # name: (checks that must differ, the edit)
    "the gradient keeps its loss scale": ("modes/one_step_2_3-float16_O1-loss", edit(
        STEP, ("view.flatten(grads) / scaler.scale", "view.flatten(grads)"),
        ("optimizer.norm(*grads).reshape(()) / scaler.scale", "optimizer.norm(*grads).reshape(())"),
    )),
    "backs off too far": ("modes/loss_scale-defaults-*", edit(
        SCALE, ("self.backoff_factor", "self.backoff_factor / 2"))),
    "grows a step late": ("modes/loss_scale-short_interval-*", edit(
        SCALE, ("good >= self.growth_interval", "good > self.growth_interval"))),
    "an overflow does not end the row": ("modes/loss_scale-short_interval-*", edit(
        SCALE, ("ops.logical_and(finite, ops.logical_not(due))", "ops.logical_not(due)"))),
}  # fmt: skip


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_of_the_loss_scale_is_found(name):
    pytest.importorskip("mindspore")
    pattern, bug = BUGS[name]
    outcomes = run(cases_of([pattern], "7"), around=bug)
    assert [outcome.verdict for outcome in outcomes] == [DIFFER] * len(outcomes), outcomes[0].message


def test_our_defaults_are_gradscalers():
    torch = pytest.importorskip("torch")
    pytest.importorskip("mindspore")
    import inspect

    from ms_ddpm.training.amp import DynamicLossScale

    theirs = inspect.signature(torch.amp.GradScaler.__init__).parameters
    for name, parameter in inspect.signature(DynamicLossScale.__init__).parameters.items():
        assert name == "self" or parameter.default == theirs[name].default, name
