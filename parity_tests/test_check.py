"""`portparity.check`: a right port agrees, and each fault is said where it is."""

import re

import numpy as np
import pytest
import torch

from portparity import check
from portparity.errors import HarnessError
from portparity.sides.mapping import Unpaired

from .models import handed_on, pinned, sentence

PYNATIVE = {"modes": ("pynative",)}
STILL = {**PYNATIVE, "training": False}


@pytest.fixture(scope="module")
def right():
    return check(sentence.Sentence, sentence.Port, sentence.inputs())


def test_a_right_port_agrees_in_everything(right):
    assert right.agrees, str(right)
    assert right.first_culprit is None
    parts = {outcome.id for outcome in right.outcomes}
    assert parts == {
        "forward (pynative)", "gradients (pynative)", "forward (graph)", "gradients (graph)", "layers",
        "training mode", "dropout layers", "dropout", "optimizer step",
    }  # fmt: skip
    assert {layer.path for layer in right.layers} == {
        "embed", "conv", "bn", "drop", "k", "q", "v", "norm", "act", "out",
    }  # fmt: skip
    assert right.left_out == {}


def failed(report):
    return {outcome.id for outcome in report.outcomes if outcome.verdict != "agree"}


def test_another_rate_of_dropout_shows_in_training_alone():
    report = check(sentence.Sentence, sentence.with_fault(dropout=0.1), sentence.inputs(), **PYNATIVE)
    assert failed(report) == {"dropout layers", "dropout"}
    assert re.search(r"drop: it drops 0\.(09|1)", str(report))


def test_another_momentum_shows_in_the_running_statistics_alone():
    report = check(sentence.Sentence, sentence.with_fault(momentum=0.1), sentence.inputs(), **PYNATIVE)
    assert failed(report) == {"training mode"}
    assert "buffer.bn.running_" in str(report)


def test_an_epsilon_is_found_in_its_layer():
    report = check(sentence.Sentence, sentence.with_fault(epsilon=1e-6), sentence.inputs(), **STILL)
    assert report.first_culprit == "norm"


def test_a_fault_between_two_layers_is_named_as_their_edge():
    report = check(sentence.Sentence, sentence.with_fault(residual=1.001), sentence.inputs(), **STILL)
    assert report.first_culprit == "v -> act"


def test_a_gradient_that_is_stopped_is_named_as_an_edge():
    report = check(sentence.Sentence, sentence.with_fault(stopped=True), sentence.inputs(), **STILL)
    assert failed(report) == {"gradients (pynative)", "layers"}
    assert report.first_culprit == "v -> act"


def test_an_argument_by_place_in_the_port_and_by_name_in_the_original_is_no_difference():
    """As in transformers and its port: a layer's mask is a keyword there."""
    from torch import nn

    class Scale(nn.Module):
        def forward(self, x, factor):
            return x * factor

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense, self.scale = nn.Linear(4, 4), Scale()

        def forward(self, x, factor):
            return self.scale(self.dense(x), factor=factor)

    class PortOfScale(sentence.ms_nn.Cell):
        def construct(self, x, factor):
            return x * factor

    class Placed(sentence.ms_nn.Cell):
        def __init__(self):
            super().__init__()
            self.dense, self.scale = sentence.ms_nn.Dense(4, 4), PortOfScale()

        def construct(self, x, factor):
            return self.scale(self.dense(x), factor)

    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal((3, 4)).astype(np.float32) for name in ("x", "factor")}
    report = check(Named, Placed, given, **STILL)
    assert report.agrees, str(report)


def test_a_parameter_that_is_frozen_is_missed_by_name():
    report = check(sentence.Sentence, sentence.with_fault(frozen=True), sentence.inputs(), **PYNATIVE)
    assert "grad.weight.out.bias: missing in the candidate" in str(report)
    assert "optimizer step" in failed(report)


def test_the_models_given_are_left_as_they_were():
    original, port = sentence.Sentence(), sentence.Port()
    before = {name: value.clone() for name, value in original.state_dict().items()}
    weight = port.out.weight.asnumpy().copy()
    mean = port.bn.moving_mean.asnumpy().copy()
    check(original, port, sentence.inputs(), **PYNATIVE)
    assert all(torch.equal(value, before[name]) for name, value in original.state_dict().items())
    np.testing.assert_array_equal(port.out.weight.asnumpy(), weight)
    np.testing.assert_array_equal(port.bn.moving_mean.asnumpy(), mean)


def test_mindspores_words_for_a_weight_are_known():
    def prelu():
        return sentence.ms_nn.PReLU(3)

    given = (np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32),)
    report = check(lambda: torch.nn.PReLU(3), prelu, given, **STILL)
    assert report.agrees, str(report)


def test_what_cannot_be_paired_is_one_line_with_suggestions():
    class Other(sentence.Port):
        def __init__(self):
            super().__init__()
            self.head = self.out
            del self.out
            self.head.weight = sentence.ms.Parameter(sentence.ops.zeros((9, 16)), name="weight")

    with pytest.raises(Unpaired) as error:
        check(sentence.Sentence, Other, sentence.inputs())
    assert "\n" not in str(error.value)
    assert "head.weight (9, 16) has no counterpart; nearest: out.weight (8, 16)" in str(error.value)


def test_an_original_that_does_not_run_is_named():
    with pytest.raises(HarnessError, match="the original in double raised"):
        check(sentence.Sentence, sentence.Port, {"tokens": np.zeros((2, 3), np.int64)})


@pytest.mark.parametrize("name", ["Chain", "Frequencies"])
def test_the_truth_is_double_where_the_original_says_float32(name):
    """Its own error read 0 there, and a correct port differed."""
    x = np.random.default_rng(0).standard_normal((5, 6) if name == "Chain" else 5, dtype=np.float32)
    report = check(getattr(pinned, name), getattr(pinned, f"{name}Port"), [x * 10], **STILL)
    assert report.agrees, str(report)
    assert not [note for note in report.notes if "double" in note]


class Detached(torch.nn.Module):
    def forward(self, x):
        return x * x.detach()


class NotDouble(torch.nn.Module):
    def forward(self, x):
        return x + torch.from_numpy(np.float32(x.detach().numpy()) / np.float32(3))


@pytest.mark.parametrize("original", [Detached, NotDouble])
def test_a_truth_that_is_not_its_own_derivative_is_said(original):
    x = np.random.default_rng(0).standard_normal((5, 6), dtype=np.float32)
    report = check(original, original, [x], **STILL)
    assert any("is not the derivative of its values" in note for note in report.notes), report


def test_what_is_handed_on_and_used_elsewhere_too_has_the_gradient_of_what_comes_out():
    """The gradient of a tensor is that of all its uses; a right port was told apart at an identity and at a list."""
    x = np.random.default_rng(0).standard_normal((4, 6), dtype=np.float32)
    report = check(handed_on.Original, handed_on.Port, [x], **STILL)
    assert report.agrees, str(report)
    by_path = {layer.path: layer for layer in report.layers}
    assert by_path["skip"].inherited_backward is not None
    assert by_path["pyramid"].inherited_backward is not None


def test_a_port_that_stops_is_told_once():
    def construct(self, tokens, t, mask=None, scale=1.0):
        raise ValueError("no masks here")

    report = check(sentence.Sentence, sentence.with_fault(construct=construct), sentence.inputs(), **PYNATIVE)
    assert [outcome.id for outcome in report.outcomes] == ["forward (pynative)"]
    assert "the port raised ValueError: no masks here" in str(report)


def test_a_result_in_half_precision_differs():
    report = check(sentence.Sentence, sentence.with_fault(narrow=True), sentence.inputs(), **STILL)
    assert "y.logits: dtype float16, expected float32" in str(report)
