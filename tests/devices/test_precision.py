"""How exactly float32 is multiplied: the calls MindSpore gets, on stand-ins (no GPU or Ascend device was at hand)."""

import json
import types

import pytest

from ms_ddpm.devices import precision
from ms_ddpm.errors import UserError


@pytest.fixture
def machine():
    """A MindSpore that writes down every call, and drops switches that come before set_device, as the real one does."""
    calls = []

    def switch(name):
        def call(value):
            calls.append((name, value))

        return call

    def owner(*names):
        return types.SimpleNamespace(op_precision=types.SimpleNamespace(**{name: switch(name) for name in names}))

    stand_in = types.SimpleNamespace(
        calls=calls,
        device_context=types.SimpleNamespace(
            gpu=owner("matmul_allow_tf32", "conv_allow_tf32"),
            ascend=owner("precision_mode", "matmul_allow_hf32", "conv_allow_hf32"),
        ),
        GRAPH_MODE=0, PYNATIVE_MODE=1,
        set_device=lambda *a: calls.append(("set_device", *a)),
        set_context=lambda **k: calls.append(("set_context", k)),
    )  # fmt: skip
    before = precision.flags()
    yield stand_in
    precision._set.clear()
    precision._set.update(before)


@pytest.mark.parametrize(
    ("device", "level", "calls"),
    [
        ("CPU", "highest", []),
        ("CPU", "high", []),
        ("GPU", "highest", [("matmul_allow_tf32", False), ("conv_allow_tf32", False)]),
        ("GPU", "high", [("matmul_allow_tf32", True), ("conv_allow_tf32", True)]),
        ("Ascend", "highest", [
            ("precision_mode", "must_keep_origin_dtype"), ("matmul_allow_hf32", False), ("conv_allow_hf32", False)]),
        ("Ascend", "high", [
            ("precision_mode", "must_keep_origin_dtype"), ("matmul_allow_hf32", True), ("conv_allow_hf32", True)]),
    ],
)  # fmt: skip
def test_every_device_gets_its_switches(machine, monkeypatch, device, level, calls):
    monkeypatch.delenv(precision.TF32_VARIABLE, raising=False)
    precision.set_matmul_precision(machine, device, level)
    assert machine.calls == calls
    assert precision.flags() == {"matmul_precision": level, **dict(calls)}


def test_set_up_sets_them_after_the_device_and_before_anything_runs(machine, monkeypatch):
    from ms_ddpm import runtime

    monkeypatch.setattr(runtime, "quietly_import", lambda: machine)
    monkeypatch.setattr(runtime.cuda_wheels, "prepare", lambda *asked: None)
    monkeypatch.setattr(runtime, "available_devices", lambda: ["CPU", "GPU"])
    monkeypatch.setattr(runtime, "_graph_mode", runtime._graph_mode)
    runtime.setup("GPU", matmul_precision="high")
    names = [call[0] for call in machine.calls]
    assert names.index("set_device") < names.index("matmul_allow_tf32") < names.index("set_context")
    assert ("conv_allow_tf32", True) in machine.calls


def test_a_refusal_is_one_line_that_says_what_to_do(machine):
    def refuse(value):
        raise RuntimeError("The 'conv_allow_hf32' can not be set repeatedly.\nC++ stack")

    machine.device_context.ascend.op_precision.conv_allow_hf32 = refuse
    with pytest.raises(UserError, match=r"refused conv_allow_hf32 = True: .*repeatedly\.; choose --matmul_precision"):
        precision.set_matmul_precision(machine, "Ascend", "high")


def test_an_unknown_level_is_named(machine):
    with pytest.raises(UserError, match="matmul_precision is 'medium', expected one of: highest, high"):
        precision.set_matmul_precision(machine, "GPU", "medium")
    assert machine.calls == []


def test_nvidias_own_variable_is_written_down(machine, monkeypatch):
    monkeypatch.setenv(precision.TF32_VARIABLE, "1")
    precision.set_matmul_precision(machine, "GPU", "highest")
    assert precision.flags()[precision.TF32_VARIABLE] == "1"


def test_the_installed_mindspore_has_every_switch(mindspore):
    """The names; whether they do anything, only a device can tell."""
    for device in ("GPU", "Ascend"):
        owner = getattr(mindspore.device_context, device.lower()).op_precision
        for name in precision.switches(device, "highest"):
            assert callable(getattr(owner, name)), name


def test_checkpoints_say_how_products_were_computed(mindspore, tmp_path):
    from mindspore import Parameter, nn

    from ms_ddpm import Trainer, checkpoint

    class Constant(nn.Cell):
        channels, image_size = 1, (8, 8)

        def __init__(self):
            super().__init__()
            self.w = Parameter(mindspore.Tensor([0.5], mindspore.float32), name="w")

        def draw(self, rng, batch):
            return ()

        def construct(self, image):
            return (self.w * image).mean()

    trainer = Trainer(Constant(), "digits", train_num_steps=1, results_folder=tmp_path, progress=False)
    trainer.train()
    state = checkpoint.read_state(checkpoint.locate(tmp_path))
    assert state["precision"] == {"matmul_precision": "highest"}
    assert json.dumps(state)
