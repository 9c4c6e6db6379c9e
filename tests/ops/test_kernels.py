"""The C++ kernels as a user meets them: what they do not depend on, and what is said where they cannot be used.

Whether they compute what PyTorch computes is for parity_tests (cases called "kernels").
"""

import inspect
import logging
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ms_ddpm import runtime
from ms_ddpm.errors import UserError
from tests.conftest import ROOT

LAYOUTS = {"rms": {"full_attn": (False, True)}, "group": {"norm": "group", "downsample": "conv"}}
NETWORK = """
import sys
sys.path.insert(0, {root!r})
import numpy as np
from ms_ddpm import Unet, runtime
runtime.setup("CPU", mode=1)
import mindspore as ms
from ms_ddpm.ops import conv_kernels, kernels

unet = Unet(8, dim_mults=(1, 2), channels=3, attn_heads=2, attn_dim_head=12, rng=0)
rng = np.random.default_rng(0)
x = ms.Tensor(rng.standard_normal((2, 3, 10, 12)).astype(np.float32))
time, cotangent = ms.Tensor([3, 700], ms.int32), ms.Tensor(rng.standard_normal(x.shape).astype(np.float32))
gradients = ms.value_and_grad(lambda x: (unet(x, time) * cotangent).sum(), 0, unet.trainable_params())
"""


def python(code, **environment):
    """The last line that a fresh process prints."""
    result = subprocess.run(
        [sys.executable, "-c", NETWORK.format(root=str(ROOT)) + code], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, **environment}, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def kernels(mindspore):
    """The module, where the kernels can be used."""
    from ms_ddpm.ops import kernels

    if reason := kernels.why_not():
        pytest.skip(f"the C++ kernels cannot be used: {reason}")
    yield kernels
    kernels.set_threads(runtime.thread_count())


@pytest.fixture(scope="module", params=LAYOUTS)
def run(request, mindspore, kernels):
    """() -> output and gradients by name, of a tiny network by the kernels."""
    from ms_ddpm import Unet

    options = {"channels": 3, "attn_heads": 2, "attn_dim_head": 12, **LAYOUTS[request.param]}
    unet = Unet(8, dim_mults=(1, 2), rng=0, use_kernels=True, **options)
    weights = mindspore.ParameterTuple(unet.trainable_params())
    rng = np.random.default_rng(0)
    x = mindspore.Tensor(rng.standard_normal((2, 3, 10, 12)).astype(np.float32))
    time = mindspore.Tensor(np.array([3, 700], np.int32))
    cotangent = mindspore.Tensor(rng.standard_normal(x.shape).astype(np.float32))

    def value(x):
        y = unet(x, time)
        return (y * cotangent).sum(), y

    gradients = mindspore.value_and_grad(value, 0, weights, has_aux=True)

    def call():
        (_, y), (of_x, of_weights) = gradients(x)
        names = [parameter.name for parameter in weights]
        return {n: g.asnumpy() for n, g in zip(("y", "x", *names), (y, of_x, *of_weights), strict=True)}

    call.convolutions = {
        f"{name}.{kind}"
        for name, layer in unet.cells_and_names()
        if hasattr(layer, "geometry")
        for kind in ("weight", "bias")
    }
    return call


def apart(one, other):
    """The largest difference over the largest value."""
    return float(np.abs(one - other).max() / np.abs(other).max())


def test_the_same_run_twice_is_bit_equal(run):
    first, second = run(), run()
    assert [name for name, value in first.items() if not np.array_equal(value, second[name])] == []


def test_results_do_not_depend_on_the_number_of_threads(run, kernels):
    """But for gradients of convolutions' weights: oneDNN cuts their sums by threads (measured: 3e-7 of the largest).

    Of the layer's largest: before a group norm with one channel a group, a bias has no gradient but rounding.
    """
    found = {}
    for threads in (1, 2):
        kernels.set_threads(threads)
        found[threads] = run()
    differing = {n for n, value in found[1].items() if not np.array_equal(value, found[2][n])}
    assert differing <= run.convolutions, differing
    layers = {name.rpartition(".")[0] for name in differing}
    joined = {t: {n: np.concatenate([of[f"{n}.{kind}"].ravel() for kind in ("weight", "bias") if f"{n}.{kind}" in of])
                  for n in layers} for t, of in found.items()}  # fmt: skip
    moved = {name: apart(value, joined[2][name]) for name, value in joined[1].items()}
    assert max(moved.values(), default=0) < 3e-6, moved


def test_a_network_gives_the_same_without_the_kernels(mindspore, kernels):
    """And `use_kernels` changes neither weights nor their names."""
    from ms_ddpm import Unet

    unet = Unet(8, dim_mults=(1, 2), channels=1, dropout=0.3, rng=0, use_kernels=True)
    names = [parameter.name for parameter in unet.get_parameters()]
    rng = np.random.default_rng(1)
    x = mindspore.Tensor(rng.standard_normal((1, 1, 6, 10)).astype(np.float32))
    arguments = (x, mindspore.Tensor([5], mindspore.int32), None, mindspore.Tensor(-7, mindspore.int32))
    by_kernels = unet(*arguments).asnumpy()
    unet.use_kernels(False)
    unet.compile_cache.clear()
    without = Unet(8, dim_mults=(1, 2), channels=1, dropout=0.3, rng=0, use_kernels=False)(*arguments).asnumpy()
    assert apart(by_kernels, without) < 1e-5  # with another dropout mask: 1e-1
    assert names == [parameter.name for parameter in unet.get_parameters()]
    assert not any(getattr(cell, "by_kernels", False) for _, cell in unet.cells_and_names())


INSTRUCTIONS = ("1", "avx2", "base", "0")


@pytest.fixture(scope="module")
def by_instructions(kernels, tmp_path_factory):
    """{MS_DDPM_KERNELS: (what is used, output and gradients)} of processes of their own."""
    code = """
value, (of_x, of_weights) = gradients(x)
np.savez(sys.argv[1], *[a.asnumpy() for a in (unet(x, time), of_x, *of_weights)])
print(kernels.why_not() or kernels.isa())
"""
    found = {}
    for wanted in INSTRUCTIONS:
        file = tmp_path_factory.mktemp("isa") / "run.npz"
        said = python(code.replace("sys.argv[1]", repr(str(file))), MS_DDPM_KERNELS=wanted)
        found[wanted] = said, list(np.load(file).values())
    return found


def test_every_instruction_set_gives_the_same_to_rounding(by_instructions):
    _, reference = by_instructions["0"]
    for wanted in INSTRUCTIONS[:-1]:
        worst = max(apart(value, truth) for value, truth in zip(by_instructions[wanted][1], reference, strict=True))
        assert worst < 2e-5, f"MS_DDPM_KERNELS={wanted}: {worst}"


def test_the_variable_limits_the_instruction_set(by_instructions, kernels):
    said = {wanted: found[0] for wanted, found in by_instructions.items()}
    assert said["base"] == "base"
    assert said["0"] == "switched off by MS_DDPM_KERNELS=0"
    assert said["avx2"] in ("avx2", "base")
    assert said["1"] in ("avx512", "avx2", "base")
    used = [by_instructions[wanted][1][0] for wanted in INSTRUCTIONS[:-1] if said[wanted] == wanted]
    assert all(not np.array_equal(used[0], other) for other in used[1:])  # or nothing was limited


def test_a_forked_child_has_threads_of_its_own(kernels):
    """The kernels' threads; a whole network hangs there with and without them, for MindSpore's own are lost too."""
    code = """
import os, signal
kernels.set_threads(2)
conv = conv_kernels.conv(3, 1, True)
w, b = ms.Tensor(np.ones((32, 12, 3, 3), np.float32)), ms.Tensor(np.ones(32, np.float32))
before = conv(x, w, b).asnumpy()
child = os.fork()
if child == 0:
    signal.alarm(20)  # a child that waits for its parent's threads waits for ever
    os._exit(0 if np.array_equal(conv(x, w, b).asnumpy(), before) else 3)
status = os.waitpid(child, 0)[1]
print(status, np.array_equal(conv(x, w, b).asnumpy(), before))
"""
    assert python(code) == "0 True"


def tensors(mindspore, *shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [mindspore.Tensor(rng.standard_normal(shape).astype(dtype)) for shape in shapes]


def test_another_dtype_is_an_error_and_no_crash(mindspore, kernels):
    from ms_ddpm.ops import conv_kernels

    conv, norm = conv_kernels.conv(3, 1, True), kernels.norm("rms", 2, False)
    image, weight, bias, gain = tensors(mindspore, (1, 4, 4, 3), (5, 3, 3, 3), (5,), (1, 3, 1, 1))
    for dtype in (mindspore.float16, mindspore.float64):
        with pytest.raises(RuntimeError, match=r"conv_bias_1_1\) is 2"):
            conv(image.astype(dtype), weight, bias).asnumpy()
        with pytest.raises(RuntimeError, match=r"rms\) is 2"):
            norm(image.astype(dtype), gain).asnumpy()
    assert np.isfinite(conv(image, weight, bias).asnumpy()).all()


def test_what_a_decided_softmax_gives_to_the_others_is_nothing(mindspore, kernels):
    """e^-200 is 0 in float32; held at e^-87.3 it let through 1e-38 of a value, and gradients 100 times too large."""
    q, k, v = np.zeros((3, 1, 1, 2, 4), np.float32)
    q[..., 0] = 20
    k[0, 0, :, 0] = 10, -10  # times q and 1 / sqrt(4): 100 and -100
    v[0, 0, 1] = 1e30  # of the pixel that is not looked at
    qkv, heads = mindspore.Tensor(np.concatenate([q, k, v], -1)), mindspore.Tensor([0.0], mindspore.float32)
    attention = kernels.attention(linear=False, memory=False)
    assert (attention(qkv, heads).asnumpy() == 0).all()
    gradients = mindspore.grad(lambda qkv: attention(qkv, heads).sum())(qkv).asnumpy()
    assert (gradients[..., :8] == 0).all()
    assert gradients[0, 0, :, 8:].tolist() == [[2.0] * 4, [0.0] * 4]


# Query rows, source rows, heads, width of a head: fewer and more than a block of 64 queries holds, one of each.
@pytest.mark.parametrize("shape", [(130, 77, 5, 8), (7, 130, 2, 3), (64, 64, 1, 4), (1, 5, 2, 4), (9, 1, 2, 4)])
def test_attention_to_other_rows_is_that_of_operators(mindspore, kernels, shape):
    from ms_ddpm.ops import by_kernels, by_operators

    rows, sources, heads, width = shape
    q, k, v = tensors(mindspore, *((3, count, heads * width) for count in (rows, sources, sources)))
    (weights,) = tensors(mindspore, q.shape)
    found = {}
    for on in (by_kernels, by_operators):
        attend = on.attend(heads, width**-0.5)

        def loss(q, k, v, attend=attend):
            out = attend(q, k, v)
            return (out * weights).sum(), out

        (_, out), gradients = mindspore.value_and_grad(loss, (0, 1, 2), has_aux=True)(q, k, v)
        found[on] = [array.asnumpy() for array in (out, *gradients)]
    for by_kernels_, by_operators_ in zip(found[by_kernels], found[by_operators], strict=True):
        assert np.abs(by_kernels_ - by_operators_).max() <= 2e-6 * np.abs(by_operators_).max()


MISFITS = {  # name: (operator, of the convolutions (c) or of the kernels (k), shapes, words)
    "channels": (lambda c: c.conv(3, 1, True), ((1, 4, 4, 2), (5, 3, 3, 3), (5,)), r"channels: \(1, 4, 4, 2\), \(5, 3"),
    "stride": (lambda c: c.conv(4, 2, True), ((1, 5, 4, 3), (5, 3, 4, 4), (5,)), r"divisible by it: \(1, 5, 4, 3\)"),
    "geometry": (lambda c: c.conv(3, 3, True, 0), ((1, 5, 4, 3), (5, 3, 3, 3), (5,)), "expected a stride of 1 or 2"),
    "small": (lambda c: c.conv(3, 2, False, 0), ((1, 5, 2, 3), (5, 3, 3, 3)), "smaller than the convolution of size 3"),
    "transposed": (
        lambda c: c.conv_transpose(3, 2, 0, (0, 0), False), ((1, 4, 4, 3), (2, 3, 3, 3)), "transposed convolution's"
    ),
    "added": (
        lambda k: k.norm("group_silu_sum", 4, False), ((2, 4, 4, 8), (4, 2), (8,), (1, 8)),
        r"must be \(batch, channels\)",
    ),
    "time": (lambda k: k.norm("rms_silu_time", 3, False), ((2, 4, 4, 8), (8,), (2, 8)), r"\(batch, 2 x channels\)"),
    "residual": (lambda k: k.norm("rms", 2, True), ((2, 4, 4, 8), (8,), (2, 4, 4, 4)), "shaped like its image"),
    "bias": (lambda k: k.norm("group_silu", 3, False), ((2, 4, 4, 8), (4, 2), (4,)), "image and bias differ"),
    "conv_bias": (lambda c: c.conv(3, 1, True), ((1, 4, 4, 3), (5, 3, 3, 3), (4,)), "weights and bias differ"),
    "transposed_bias": (
        lambda c: c.conv_transpose(3, 2, 0, (0, 0), True), ((1, 4, 4, 3), (3, 5, 3, 3), (3,)), "weights and bias differ"
    ),
    "dense_bias": (lambda k: k.linear(), ((2, 4), (3, 4), (4,)), "weights and bias differ"),
    "memory": (lambda k: k.attention(linear=False, memory=True), ((1, 4, 4, 24), (2, 2, 4, 3)), "memory and channels"),
    "linear_memory": (lambda k: k.attention(linear=True, memory=True), ((1, 4, 4, 24), (2, 2, 3, 4)), "memory and"),
    "moments": (lambda k: k.adam(1), ((10,), (5,), (6,), (2, 3), (2, 3)), "not as long as the weights"),
    "gradients": (lambda k: k.adam(1), ((10,), (6,), (6,), (2, 2), (2, 3)), "gradients and weights differ"),
    "sizes": (lambda k: k.concat(), ((1, 4, 4, 2), (1, 4, 5, 2)), "of one size can be joined"),
    "gain": (lambda k: k.norm("rms", 2, False), ((1, 4, 4, 8), (1, 4, 1, 1)), "gain differ in channels"),
    "heads": (lambda k: k.attention(linear=True, memory=False), ((1, 4, 4, 24), (3,)), "attention of 3 heads"),
    "attention_to": (lambda k: k.attention_to(), ((2, 7, 6), (2, 4, 6), (2, 5, 6), (2,)), "do not fit together"),
    "attention_to_batch": (lambda k: k.attention_to(), ((2, 7, 6), (3, 4, 6), (3, 4, 6), (2,)), "do not fit together"),
    "attention_to_heads": (lambda k: k.attention_to(), ((2, 7, 6), (2, 4, 6), (2, 4, 6), (4,)), "attention of 4 heads"),
    "product": (lambda k: k.product(), ((2, 4), (3, 5)), "differ in width"),
    "dense": (lambda k: k.linear(), ((2, 4), (3, 5), (3,)), "differ in width"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_shapes_that_do_not_fit_are_said_before_memory_is_read(mindspore, kernels, name):
    from ms_ddpm.ops import conv_kernels

    operator, shapes, words = MISFITS[name]
    home = conv_kernels if operator.__code__.co_varnames == ("c",) else kernels
    with pytest.raises(UserError, match=words):
        operator(home)(*tensors(mindspore, *shapes))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_that_cannot_be_halved_is_an_error(mindspore, kernels, layout):
    from ms_ddpm import Unet

    unet = Unet(8, dim_mults=(1, 2), channels=1, rng=0, use_kernels=True, **LAYOUTS[layout])
    (x,) = tensors(mindspore, (1, 1, 7, 8))
    with pytest.raises(UserError, match="stride 2 needs sides divisible by it"):
        unet(x, mindspore.Tensor([1], mindspore.int32))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1, 7)])
def test_images_of_odd_sides_where_nothing_halves_them(mindspore, kernels, size):
    from ms_ddpm import Unet

    by_kernels, without = (
        Unet(8, dim_mults=(1,), channels=1, rng=0, use_kernels=on)(
            *tensors(mindspore, (1, 1, *size)), mindspore.Tensor([9], mindspore.int32)
        ).asnumpy()
        for on in (True, False)
    )
    assert apart(by_kernels, without) < 1e-5


def test_what_is_no_number_stays_so(mindspore, kernels):
    image, gain = tensors(mindspore, (1, 2, 2, 5), (1, 5, 1, 1))
    broken = image.asnumpy().copy()
    broken[0, 1, 0, 3] = np.nan
    for kind in ("rms", "rms_silu", "layer"):
        y = kernels.norm(kind, 2, False)(mindspore.Tensor(broken), gain).asnumpy()
        assert np.isnan(y).sum() == np.isnan(y[0, 1, 0]).sum() == 5, kind


def test_views_are_read_as_what_they_show(mindspore, kernels):
    wide, weight, bias = tensors(mindspore, (2, 4, 4, 6), (5, 3, 3, 3), (5,))
    from ms_ddpm.ops import conv_kernels

    conv = conv_kernels.conv(3, 1, True)
    for view in (wide[..., 3:], wide[:, :, :, ::2], mindspore.ops.swapaxes(wide[..., :3], 1, 2)):
        copied = mindspore.Tensor(np.ascontiguousarray(view.asnumpy()))
        assert np.array_equal(conv(view, weight, bias).asnumpy(), conv(copied, weight, bias).asnumpy())


def test_dropout_drops_the_same_elements_in_both_layouts(mindspore):
    from ms_ddpm.ops import by_kernels
    from ms_ddpm.ops.dropout import HashDropout

    layer, key = HashDropout(0.4, 3), mindspore.Tensor(11, mindspore.int32)
    (x,) = tensors(mindspore, (2, 5, 3, 4))
    first = layer(x, key).asnumpy()
    other = HashDropout(0.4, 3)
    other.place(by_kernels)
    last = other(mindspore.Tensor(np.ascontiguousarray(x.asnumpy().transpose(0, 2, 3, 1))), key).asnumpy()
    assert np.array_equal(first, last.transpose(0, 3, 1, 2))
    assert 0.2 < (first == 0).mean() < 0.6


@pytest.mark.parametrize("level", ["O1", "O2"])
def test_half_precision_goes_without_them(mindspore, kernels, level):
    from ms_ddpm import Unet, amp

    unet = Unet(8, dim_mults=(1, 2), channels=1, rng=0, use_kernels=True)
    amp.apply_amp(unet, level)
    assert [name for name, cell in unet.cells_and_names() if getattr(cell, "by_kernels", False)] == []


def test_layers_find_the_same_operations_with_and_without_them(mindspore):
    from ms_ddpm.ops import by_kernels, by_operators

    def operations(module):
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in vars(module).items()
            if inspect.isfunction(value) and not name.startswith("_") and value.__module__.startswith("ms_ddpm.ops.by_")
        }

    without = operations(by_operators)
    del without["softmax"], without["lowered"]  # a step of theirs, and what kernels never do
    assert operations(by_kernels) == without


# --- where they cannot be used ------------------------------------------------------------------------------------


@pytest.fixture
def module(mindspore, monkeypatch):
    """The module as in a process that has not loaded the library yet; it must not get as far as starting it."""
    from ms_ddpm.ops import kernel_library

    monkeypatch.setattr(kernel_library, "_load", kernel_library._load.__wrapped__)
    monkeypatch.delenv("MS_DDPM_KERNELS", raising=False)
    if kernel_library.library_path() is None:
        monkeypatch.setattr(kernel_library, "library_path", lambda: ROOT / "_kernels.so")
    return kernel_library


def test_the_variable_switches_them_off(module, monkeypatch):
    monkeypatch.setenv("MS_DDPM_KERNELS", "0")
    assert module.why_not() == "switched off by MS_DDPM_KERNELS=0"


def test_a_variable_of_no_meaning_names_what_has_one(module, monkeypatch):
    monkeypatch.setenv("MS_DDPM_KERNELS", "sse9")
    assert module.why_not() == "MS_DDPM_KERNELS is 'sse9', expected 0, 1, avx512, avx2, base"


def test_a_library_that_is_not_built_says_how_to_build_it(module, monkeypatch):
    monkeypatch.setattr(module, "library_path", lambda: None)
    assert "not built" in module.why_not()
    assert "pip install" in module.why_not()


def test_a_library_of_another_version_asks_to_install_again(module, kernels, monkeypatch):
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    assert module.why_not().endswith("is of another version of ms_ddpm; install again")


def test_a_file_that_is_no_library_says_so(module, monkeypatch, tmp_path):
    damaged = tmp_path / "_kernels.so"
    damaged.write_bytes(b"not a library")
    monkeypatch.setattr(module, "library_path", lambda: damaged)
    assert module.why_not().startswith("_kernels.so cannot be loaded: ")


def test_a_library_without_our_functions_says_so(module, monkeypatch):
    import ctypes.util
    from pathlib import Path

    monkeypatch.setattr(module, "library_path", lambda: Path(ctypes.util.find_library("m")))
    assert "cannot be loaded: " in module.why_not()


def test_a_mindspore_that_is_not_known_is_left_alone(module, monkeypatch):
    monkeypatch.setattr(module.ms, "__version__", "3.1.0")
    assert module.why_not() == "MindSpore 3.1.0 is not one they were made for (2.9, 2.10, 2.11)"


def test_a_mindspore_without_onednn_says_so(module, kernels, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "mindspore_root", lambda: tmp_path)
    assert module.why_not() == "this MindSpore brings no oneDNN"


def test_other_devices_do_without_them(module, monkeypatch):
    monkeypatch.setattr(module.ms, "get_context", lambda name: "Ascend")
    assert module.why_not() == "they are for CPU"


def test_a_network_does_without_them_and_says_so_once(module, monkeypatch, caplog):
    from ms_ddpm import Unet

    monkeypatch.setenv("MS_DDPM_KERNELS", "0")
    module._say_once.cache_clear()
    with caplog.at_level(logging.WARNING, "ms_ddpm"):
        networks = [Unet(8, dim_mults=(1,), rng=0) for _ in range(2)]
    assert [network.by_kernels for network in networks] == [False, False]
    said = [record.getMessage() for record in caplog.records if "C++ kernels" in record.getMessage()]
    assert len(said) == 1
    assert said[0].endswith("two to three times as long: switched off by MS_DDPM_KERNELS=0")
    with pytest.raises(UserError, match="the C\\+\\+ kernels cannot be used: switched off by MS_DDPM_KERNELS=0"):
        Unet(8, dim_mults=(1,), rng=0, use_kernels=True)


def test_what_is_built_inside_switched_off_does_without_them(mindspore):
    from ms_ddpm import Unet
    from ms_ddpm.ops import kernels

    before = kernels.why_not()
    with kernels.switched_off():
        assert not Unet(8, dim_mults=(1,), rng=0).by_kernels
    assert kernels.why_not() == before


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("g++"), reason="needs g++ on Linux")
def test_where_there_is_a_compiler_the_kernels_are_built(mindspore):
    from ms_ddpm.ops import kernels

    if "0" in (os.environ.get("MS_DDPM_KERNELS"), os.environ.get("MS_DDPM_BUILD_KERNELS")):
        pytest.skip("switched off")
    assert kernels.why_not() == ""
