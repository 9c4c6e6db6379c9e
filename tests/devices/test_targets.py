"""What is chosen for a GPU or an Ascend, read off with a device target that is only said to be there."""

import os

import numpy as np
import pytest

from ms_ddpm import runtime

OTHERS = ("GPU", "Ascend")


@pytest.fixture(params=OTHERS)
def other(request, mindspore, monkeypatch):
    """The device target, as far as ms_ddpm asks; the CPU goes on computing."""
    monkeypatch.setattr(runtime, "device_target", lambda: request.param)
    return request.param


def test_the_target_is_the_one_that_the_program_set_itself(mindspore, monkeypatch):
    assert runtime.device_target() == "CPU"
    told = {"device_target": "Ascend", "enable_compile_cache": False}
    monkeypatch.setattr(mindspore, "get_context", told.__getitem__)
    assert runtime.device_target() == "Ascend"


def test_kernels_are_off_and_not_even_looked_for(other, monkeypatch):
    from ms_ddpm import EMA, Unet
    from ms_ddpm.nn.layers import Conv2d
    from ms_ddpm.ops import conv_kernels, kernel_library, kernels
    from ms_ddpm.training.optim import Adam

    def tried(*arguments):
        raise AssertionError("the library was looked for")

    for name in ("_load", "library_path", "_onednn"):
        monkeypatch.setattr(kernel_library, name, tried)
    for module in (kernels, conv_kernels):
        monkeypatch.setattr(module, "operator", tried)
    assert kernels.why_not() == "they are for CPU"
    unet = Unet(8, dim_mults=(1, 2), channels=1, rng=0)
    assert not any(getattr(cell, "by_kernels", False) for _, cell in unet.cells_and_names())
    assert any(isinstance(cell, Conv2d) for _, cell in unet.cells_and_names())
    assert not Adam(unet.trainable_params()).fused
    assert not EMA(unet).view.fused


def test_kernels_that_are_asked_for_there_are_refused(other):
    from ms_ddpm import Unet, UserError

    with pytest.raises(UserError, match="they are for CPU"):
        Unet(8, dim_mults=(1, 2), channels=1, rng=0, use_kernels=True)


def test_the_repairs_of_the_cpu_are_left_out_where_another_device_was_chosen(other, monkeypatch):
    called = []
    monkeypatch.setattr(runtime, "prepare_cpu", lambda **options: called.append(options))
    runtime.prepare_library()
    assert called == []


@pytest.mark.parametrize("accelerator", [False, True])
def test_before_a_choice_graphs_run_in_the_calling_thread_only_where_there_is_no_accelerator(
    mindspore, monkeypatch, accelerator
):
    called = []
    monkeypatch.setattr(runtime, "accelerator_present", lambda: accelerator)
    monkeypatch.setattr(runtime, "prepare_cpu", lambda **options: called.append(options))
    runtime.prepare_library()
    assert called == [{"only_cpu": not accelerator}]


def test_setup_starts_the_device_it_is_told_and_repairs_no_cpu(mindspore, monkeypatch):
    started, contexts = [], []
    monkeypatch.delenv("MS_DEV_HOST_BLOCKING_RUN", raising=False)
    monkeypatch.setattr(runtime, "_cpu_prepared", False)
    monkeypatch.setattr(runtime, "available_devices", lambda: ["CPU", "Ascend"])
    monkeypatch.setattr(runtime, "cap_onednn", lambda: started.append("cap"))
    monkeypatch.setattr(mindspore, "set_device", lambda *arguments: started.append(arguments))
    if hasattr(runtime, "precision"):  # its switches need the device
        monkeypatch.setattr(runtime.precision, "set_matmul_precision", lambda *arguments: None)
    monkeypatch.setattr(mindspore, "set_context", lambda **options: contexts.append(options))
    runtime.setup("ascend", device_id=3)
    assert started == [("Ascend", 3)]
    assert {"mode": mindspore.GRAPH_MODE} in contexts
    assert "MS_DEV_HOST_BLOCKING_RUN" not in os.environ
    assert not runtime._cpu_prepared


def test_a_dry_run_needs_no_device_to_be_there(mindspore, monkeypatch):
    """MindSpore itself says what it lacks: here the plugin, which needs CANN."""
    from ms_ddpm import UserError

    if runtime.accelerator_present():
        pytest.skip("an accelerator is here")
    with pytest.raises(UserError, match="Ascend is not available here"):
        runtime.setup("Ascend")
    monkeypatch.setenv("MS_SIMULATION_LEVEL", "0")
    with pytest.raises(UserError, match="Ascend could not be started"):
        runtime.setup("Ascend")


def test_graphs_are_compiled_at_the_level_that_is_said(other, monkeypatch):
    import mindspore

    asked = []
    monkeypatch.setattr(mindspore, "jit", lambda function, **options: asked.append(options) or function)
    runtime.compiled(lambda x: x)
    assert asked == [{"jit_level": "O0"}]


@pytest.fixture
def wide_range():
    rng = np.random.default_rng(0)
    edges = np.array([0, 1, -1, 2**31 - 1, -(2**31), 0xFFFF, 0x10000, -0x10000, -0xFFFF, 0x7FFF, 0x8000])
    return np.concatenate([edges, rng.integers(-(2**31), 2**31, 2000)])


def wrapped(exact):
    return exact.astype(np.int64).astype(np.int32)


@pytest.mark.parametrize("target", ["CPU", "Ascend"])
def test_sums_and_products_are_modulo_2_to_the_32(mindspore, monkeypatch, wide_range, target):
    from ms_ddpm.ops import modular

    monkeypatch.setattr(runtime, "device_target", lambda: target)
    x, y = (mindspore.Tensor(v.astype(np.int32)) for v in (wide_range, wide_range[::-1]))
    assert np.array_equal(modular.add(x, y).asnumpy(), wrapped(wide_range + wide_range[::-1]))
    for factor in (0x7FEB352D, 0x846CA68B - 2**32, -1, 1, -(2**31), 2**31 - 1):
        assert np.array_equal(modular.multiply(x, factor).asnumpy(), wrapped(wide_range * factor)), factor


class Saturating:
    """int32 numbers that stop at the ends of their range; a stand-in for a Tensor on a device that does that."""

    def __init__(self, value, dtype=None):
        self.value = np.clip(np.asarray(getattr(value, "value", value), np.int64), -(2**31), 2**31 - 1)

    def __add__(self, other):
        return Saturating(self.value + other.value)

    def __sub__(self, other):
        return Saturating(self.value - other.value)

    def __mul__(self, other):
        return Saturating(self.value * other.value)


class SaturatingOps:
    @staticmethod
    def bitwise_and(x, y):
        return Saturating(x.value & y.value)

    @staticmethod
    def bitwise_right_shift(x, y):
        return Saturating(x.value >> y.value)


def test_on_ascend_they_hold_where_integers_saturate(monkeypatch, wide_range):
    from ms_ddpm.ops import modular

    monkeypatch.setattr(modular, "Tensor", Saturating)
    monkeypatch.setattr(modular, "ops", SaturatingOps)
    x, y = Saturating(wide_range), Saturating(wide_range[::-1])
    for wraps, right in ((True, False), (False, True)):
        monkeypatch.setattr(modular, "_wraps", lambda wraps=wraps: wraps)
        assert np.array_equal(modular.add(x, y).value, wrapped(wide_range + wide_range[::-1])) == right
        assert np.array_equal(modular.multiply(x, 0x7FEB352D).value, wrapped(wide_range * 0x7FEB352D)) == right


def test_dropout_drops_the_same_elements_on_every_device(mindspore, monkeypatch):
    from ms_ddpm.ops.dropout import HashDropout

    x, key = mindspore.Tensor(np.ones((2, 3, 4, 4), np.float32)), mindspore.Tensor(-7, mindspore.int32)
    found = []
    for target in ("CPU", *OTHERS):
        monkeypatch.setattr(runtime, "device_target", lambda target=target: target)
        found.append(HashDropout(0.4, 5)(x, key).asnumpy())
    assert 0 < (found[0] == 0).mean() < 1
    assert all(np.array_equal(found[0], y) for y in found)


def test_what_replaces_the_cpus_own_sums_gives_the_same(mindspore, other, monkeypatch):
    from ms_ddpm.ops import sums

    x = np.random.default_rng(0).standard_normal((2, 6, 4, 4), dtype=np.float32)
    gain = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1)
    theirs = sums.channel_sum(mindspore.Tensor(x)).asnumpy()
    assert sums.spread(mindspore.Tensor(gain), mindspore.Tensor(x)).shape == gain.shape  # broadcasts by itself
    monkeypatch.setattr(runtime, "device_target", lambda: "CPU")
    ours = sums.channel_sum(mindspore.Tensor(x)).asnumpy()
    assert sums.spread(mindspore.Tensor(gain), mindspore.Tensor(x)).shape == (1, 6, 4, 4)
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)


def test_only_the_cpu_widens_to_float64(mindspore, other, monkeypatch):
    from ms_ddpm.ops.elementary import wide

    x = mindspore.Tensor(np.ones(3, np.float32))
    assert wide(x).dtype == mindspore.float32
    monkeypatch.setattr(runtime, "device_target", lambda: "CPU")
    assert wide(x).dtype == mindspore.float64
