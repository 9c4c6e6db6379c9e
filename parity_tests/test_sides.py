"""What else `portparity.check` takes as a port: a compiled module, ONNX Runtime, a function of arrays."""

import numpy as np
import pytest
import torch

from portparity import check
from portparity.errors import HarnessError
from portparity.sides import side_of

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 6)).astype(np.float32)


def original():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.GELU())


class Session:
    """What is used of an `onnxruntime.InferenceSession`: of the same weights, times ``factor``."""

    __module__, __qualname__ = "onnxruntime.capi.session", "InferenceSession"

    def __init__(self, factor=1.0):
        self.module, self.factor = original(), factor

    def get_inputs(self):
        return [type("Entry", (), {"name": "input.1"})]

    def get_modelmeta(self):
        return type("Meta", (), {"graph_name": "main"})

    def run(self, wanted, given):
        with torch.no_grad():
            return [(self.factor * self.module(torch.from_numpy(given["input.1"]))).numpy()]


def test_a_compiled_module_is_judged_as_a_whole():
    report = check(original, lambda: torch.compile(original(), backend="eager"), (X,))
    assert report.agrees, str(report)
    assert {outcome.id for outcome in report.outcomes} == {"forward", "gradients", "training mode", "optimizer step"}
    assert report.layers == []


def test_what_a_compiler_does_wrong_is_seen():
    def wrong(graph, inputs):
        return lambda *args: [1.001 * value for value in graph(*args)]

    report = check(original, torch.compile(original(), backend=wrong), (X,), training=False)
    assert {outcome.id for outcome in report.outcomes if outcome.verdict == "differ"} == {"forward", "gradients"}


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "agree"), (1.001, "differ")])
def test_a_session_of_onnx_runtime_is_judged_on_its_outputs(factor, verdict):
    report = check(original, lambda: Session(factor), (X,))
    assert [(outcome.id, outcome.verdict) for outcome in report.outcomes] == [("forward", verdict)]
    assert any("it only computes forward" in note for note in report.notes)


def test_a_function_of_arrays_is_a_port():
    module = original().double()
    weight, bias = (value.detach().numpy().astype(np.float32) for value in module[0].parameters())

    def by_hand(x):
        y = x @ weight.T + bias
        return {"y": torch.nn.functional.gelu(torch.from_numpy(y)).numpy()}

    report = check(original, by_hand, (X,))
    assert report.agrees, str(report)
    assert [outcome.id for outcome in report.outcomes] == ["forward"]


def test_what_is_no_model_is_said():
    with pytest.raises(HarnessError, match="a int is no model that is known here"):
        side_of(3)
