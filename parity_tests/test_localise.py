"""Localisation: clean networks agree layer by layer, and every fault is found in the layer that has it."""

import contextlib
import itertools
import math
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from unittest import mock

import numpy as np
import pytest

from parity_tests.systems.core.cases.nets import network_computation
from parity_tests.unet_layers import bisect, localise
from portparity.backends import why_not
from portparity.case import Computation
from portparity.errors import HarnessError
from portparity.localise import Layer, Sides, Tap, between, culprit, first_culprit, localise_layers
from portparity.localise.layers import SIDES
from portparity.localise.text import told
from portparity.report import words
from portparity.verdict import AGREE, DIFFER

from .conftest import ROOT

torch, F = pytest.importorskip("torch"), pytest.importorskip("torch.nn.functional")
MODULES = ("torch_ref.attention", "torch_ref.layers", "torch_ref.unet")
torch_attention, torch_layers, torch_unet = map(pytest.importorskip, MODULES)
NETWORKS = {name: network_computation(name, "pynative") for name in ("unet_2_3", "unet_2022")}
CANDIDATES = ("torch", "mindspore", "kernels")  # the last is MindSpore with the C++ kernels


def method(owner, name, replacement):
    """A mutant: ``owner.name`` is replaced by what ``replacement`` makes of (the original, *arguments)."""
    original = getattr(owner, name)

    def mutated(*args):
        return replacement(original, *args)

    return partial(mock.patch.object, owner, name, mutated)


@pytest.fixture(scope="module")
def clean():
    """(network, candidate) -> its layers, localised once."""
    found = {}

    def layers_of(name, candidate):
        if candidate == "kernels":
            needs_kernels()
        if candidate == "mindspore":
            pytest.importorskip("mindspore")
        if (name, candidate) not in found:
            framework = "torch" if candidate == "torch" else "mindspore"
            found[name, candidate] = localise(NETWORKS[name], framework, kernels=candidate == "kernels")
        return found[name, candidate]

    return layers_of


def needs_kernels():
    """Skips a test where the C++ kernels cannot be used."""
    pytest.importorskip("mindspore")
    if reason := why_not("mindspore", {"kernels": True}):
        pytest.skip(reason)


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_of_a_clean_network_agrees(clean, name, candidate):
    layers = clean(name, candidate)
    for side in SIDES:
        above = {layer.path: getattr(layer, side) for layer in layers if (getattr(layer, side) or 0) > 0.9}
        assert above == {}, f"{side}: {above}"
    assert {layer.verdict for layer in layers} == {AGREE}
    assert culprit(layers) is first_culprit(layers, backward=True) is between(layers) is between(layers, True) is None
    assert [layer.message for layer in layers if layer.message] == []
    assert told(layers, "unet").count("every layer agrees, alone (at most 0.") == 2


def test_every_layer_of_a_clean_network_agrees_in_half_precision():
    """Weight standardisation has another epsilon in float16, so that layers must be fed in their free run's dtype.

    Not so `wide`: autocast's concatenation of float16 and float32 is float32, and only PyTorch's epsilon follows it.
    """
    pytest.importorskip("mindspore")
    layers = localise(network_computation("tiny_2022", "pynative", precision="float16", level="O2"))
    wide = ("ups.0.block1", "ups.1.block1")
    failing = {layer.path: layer.message for layer in layers if layer.verdict == DIFFER}
    assert {path: message for path, message in failing.items() if not path.startswith(wide)} == {}
    assert max(layer.inherited or 0 for layer in layers) <= 1


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_looked_at_from_every_side(clean, name, candidate):
    layers = clean(name, candidate)
    unseen = {side: [layer.path for layer in layers if getattr(layer, side) is None] for side in SIDES}
    time = ["time_mlp", "time_mlp.embedding"]  # times are whole numbers
    assert len(layers) > 120
    # Ours does in one call: a block's norm and the SiLU behind it, attention or a second block and its residual.
    norms_of_blocks, unshuffling = norms_done_with_others(layers, name)
    with_residual = [layer.path for layer in layers if re.search(r"attn(\.out_norm)?$|block\d?\.block2$", layer.path)]
    assert len(with_residual) == 5 + 11 + {"unet_2_3": 2, "unet_2022": 4}[name]
    joined = norms_of_blocks + (unshuffling if candidate == "kernels" else [])
    if candidate == "torch":
        joined, with_residual = [], []
    alone = joined if candidate == "kernels" else []  # without kernels a norm can still be called by itself
    assert {side: sorted(paths) for side, paths in unseen.items()} == {
        "own": sorted(alone), "own_backward": sorted(alone + time[1:]), "inherited_backward": time[1:],
        "received": sorted(joined + time), "inherited": sorted(joined + with_residual),
    }  # fmt: skip


def norms_done_with_others(layers, name):
    """Layers done together with another: norms of blocks and, by a kernel, the convolution of the unshuffling."""
    norms = [layer.path for layer in layers if re.search(r"block[12]\.norm$", layer.path)]
    assert len(norms) == 2 * 11
    return norms, ["downs.0.resample.conv"] if name == "unet_2_3" else []


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_stand_in_order_of_computation(clean, name):
    paths = [layer.path for layer in clean(name, "torch")]
    parts = ["time_mlp", "init_conv", "downs.0.block1", "downs.0.block1.mlp", "downs.0.block1.block1.proj"]
    parts += ["downs.0.block1.block1.norm", "downs.0.block1.block2", "downs.0.attn.to_qkv", "downs.0.resample"]
    parts += ["downs.1.block1", "mid_attn", "ups.0.block1.res_conv", "ups.1.resample", "final_res_block", "final_conv"]
    assert [path for path in paths if path in parts] == parts
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("name", [*NETWORKS, "fourier_learned", "full_attention", "three_stages_2022"])
def test_layers_are_aligned_by_the_names_that_weights_have(name):
    pytest.importorskip("mindspore")
    from parity_tests.backends.shared_mindspore import Unet, names_of
    from parity_tests.unet_layers.on_torch import TorchSide

    spec = network_computation(name, "pynative").spec["unet"]
    net, layers = Unet(**spec, rng=0), TorchSide(spec, "float32").layers
    cells = dict(net.cells_and_names())
    assert [path for path in layers if path not in cells] == []
    for ours, theirs in names_of(net).items():
        path = ours.rpartition(".")[0]
        assert f"{layers[path]}.{theirs.rpartition('.')[2]}" == theirs


def unbiased(original, self, x):
    variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
    return self._conv_forward(x, (self.weight - mean) / torch.sqrt(variance + 1e-5), self.bias)


def pixel_first(original, self, x):
    return original(self, x).unflatten(1, (-1, 4)).transpose(1, 2).flatten(1, 2)


def unscaled(original, self, x):
    with mock.patch.object(self, "scale", 1.0):
        return original(self, x)


def relu(x, inplace=False):
    return torch.relu(x)


NORM, PRENORM = torch_layers.RMSNorm, torch_attention.PreNorm
FAULTS = {  # name: (network, mutant, first culprit forward, first culprit backward)
    "RMSNorm without sqrt(C)": (
        "unet_2_3", method(NORM, "forward", lambda f, self, x: f(self, x) / self.scale),
        "downs.0.block1.block1.norm", "final_res_block.block2.norm"),
    "weights standardised by the unbiased variance": (
        "unet_2022", method(torch_layers.WeightStandardizedConv2d, "forward", unbiased),
        "downs.0.block1.block1.proj", "final_res_block.block2.proj"),
    "linear attention not scaled": (
        "unet_2_3", method(torch_attention.LinearAttention, "forward", unscaled), "downs.0.attn", "ups.1.attn"),
    "PreNorm's norm dropped": (
        "unet_2022", method(PRENORM, "forward", lambda f, self, x: self.fn(x)), "downs.0.attn", "ups.1.attn"),
    "upsampling shifted by a pixel": (
        "unet_2_3", method(torch.nn.Upsample, "forward", lambda f, self, x: f(self, x).roll(1, 3)),
        "ups.0.resample", "ups.0.resample"),
    "channels of the downsampling in another order": (
        "unet_2_3", method(torch.nn.PixelUnshuffle, "forward", pixel_first), "downs.0.resample", "downs.0.resample"),
    "tanh GELU": (
        "unet_2_3", method(torch.nn.GELU, "forward", lambda f, self, x: F.gelu(x, approximate="tanh")),
        "time_mlp", "time_mlp"),
    "sines and cosines off by 1e-4": (
        "unet_2_3", method(torch_layers.SinusoidalPosEmb, "forward", lambda f, self, t: f(self, t) * (1 + 1e-4)),
        "time_mlp.embedding", "time_mlp"),
    "ReLU for SiLU": (
        "unet_2_3", partial(mock.patch.object, F, "silu", relu), "downs.0.block1.block1", "final_res_block.block2"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_in_its_innermost_layer(fault):
    name, around, forward, backward = FAULTS[fault]
    layers = localise(NETWORKS[name], "torch", around=around)
    assert (culprit(layers), first_culprit(layers, backward=True).path) == (forward, backward)
    assert between(layers) is between(layers, backward=True) is None
    before = itertools.takewhile(lambda layer: not forward.startswith(layer.path), layers)
    assert [layer.path for layer in before if layer.own > 1 or (layer.inherited or 0) > 1] == []


MINDSPORE_FAULTS = [
    pytest.param("ups.0.resample", False, marks=pytest.mark.slow),  # forward, as the next, and in a layer as the last
    ("downs.0.attn.norm", False),
    ("downs.0.resample", True),
]


@pytest.mark.parametrize(("path", "backward"), MINDSPORE_FAULTS)
def test_a_fault_in_mindspore_is_found_in_its_innermost_layer(path, backward):
    ops = pytest.importorskip("mindspore").ops
    from ms_ddpm.nn import blocks, norms

    def tiled(original, self, x):
        b, c, h, w = x.shape
        return self.conv(ops.tile(x, (1, 1, 2, 2)).reshape(b, c, 2 * h, 2 * w))

    off = method(norms.ChannelLayerNorm, "construct", lambda f, self, x, *more: f(self, x, *more) * (1 + 1e-4))
    tiles = method(blocks.Upsample, "construct", tiled)
    detached = method(blocks.UnshuffleDownsample, "construct", lambda f, self, x: f(self, ops.stop_gradient(x)))
    faults = {"ups.0.resample": tiles, "downs.0.attn.norm": off, "downs.0.resample": detached}
    layers = localise(NETWORKS["unet_2022" if "norm" in path else "unet_2_3"], "mindspore", around=faults[path])
    assert culprit(layers) == (None if backward else path)
    found = first_culprit(layers, backward=backward)
    assert (found.path, found.own_backward > 10) == (path, True)
    assert backward or found.own > 10 < found.inherited


KERNEL_FAULTS = {  # what is wrong around the kernels: (network, mutant, first culprit forward, backward)
    "scale for scale + 1": (
        "unet_2_3", "RMSNorm", "silu",
        lambda f, self, x, scale_shift=None, residual=None: f(self, x, None, residual), "downs.0.block1.block1",
        "final_res_block.block1"),
    "residual added twice": (
        "unet_2022", "GroupNorm", "silu",
        lambda f, self, x, time=None, more=None: f(self, x, time, None if more is None else 2 * more),
        "downs.0.block1", "final_res_block"),
    "a norm between kernels": (
        "unet_2022", "ChannelLayerNorm", "construct", lambda f, self, x, *more: f(self, x, *more) * (1 + 1e-4),
        "downs.0.attn.norm", "ups.1.attn.out_norm"),
}  # fmt: skip


@pytest.mark.parametrize("fault", KERNEL_FAULTS)
def test_a_fault_with_the_kernels_is_found_in_its_innermost_layer(fault):
    needs_kernels()
    from ms_ddpm.nn import norms

    name, owner, function, wrong, forward, backward = KERNEL_FAULTS[fault]
    around = method(getattr(norms, owner), function, wrong)
    layers = localise(NETWORKS[name], "mindspore", around=around, kernels=True)
    assert (culprit(layers), first_culprit(layers, backward=True).path) == (forward, backward)
    assert [layer.message for layer in layers if "raised" in layer.message] == []
    assert "forward: unet > downs.0 > " in told(layers, "unet")


def test_a_case_of_the_kernels_is_bisected_with_them():
    needs_kernels()
    layers = localise(network_computation("tiny_2_3", "pynative", kernels=True))
    assert culprit(layers) is None
    assert any(layer.own is None for layer in layers)


class WrongSiLU(torch.autograd.Function):
    """SiLU, whose gradient is the sigmoid's value: the usual slip."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.ops.aten.silu(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.sigmoid(*ctx.saved_tensors)


def wrong_silu(x, inplace=False):
    return WrongSiLU.apply(x)


def frozen_shift(original, self, x, moved=None):
    return original(self, x, moved and (moved[0], moved[1].detach()))


def slightly_more(original, self, x):
    times = 3e-5 if self.kernel_size == (7, 7) else 0
    return self._conv_forward(x, self.weight + times * (self.weight - self.weight.detach()), self.bias)


BACKWARD_FAULTS = {
    "SiLU's gradient": (partial(mock.patch.object, F, "silu", wrong_silu), "final_res_block.block2"),
    "a detached shift": (method(torch_layers.Block, "forward", frozen_shift), "final_res_block.block1"),
    "a weight's gradient too large by 3e-5": (method(torch.nn.Conv2d, "forward", slightly_more), "init_conv"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BACKWARD_FAULTS)
def test_a_wrong_gradient_is_found_although_every_value_is_right(fault):
    around, path = BACKWARD_FAULTS[fault]
    layers = localise(NETWORKS["unet_2_3"], "torch", around=around)
    assert culprit(layers) is between(layers) is None
    assert max(max(layer.own, layer.inherited) for layer in layers) <= 1
    assert first_culprit(layers, backward=True).path == path


@pytest.mark.parametrize(
    ("attend", "path", "backward", "said"),
    [
        (lambda f, x: f(x), "downs.0.resample", False, ("what it is given is wrong", "gradients follow the values")),
        (lambda f, x: f(x) + x.detach(), "ups.1.block2", True, ("the gradient that comes to it is wrong", "agrees")),
    ],
)
def test_a_fault_between_layers_is_said_to_be_there(attend, path, backward, said):
    layers = localise(NETWORKS["unet_2_3"], "torch", around=partial(mock.patch.object, torch_unet, "attend", attend))
    assert culprit(layers) is first_culprit(layers, backward=True) is None
    assert (between(layers, backward).path, between(layers) is None) == (path, backward)
    assert [
        text for text in ("in the free run the error starts at unet > ", *said) if text not in told(layers, "unet")
    ] == []


def test_a_layer_that_raises_is_the_culprit_and_says_what_it_raised():
    def raises(original, self, x):
        raise ValueError("no such shape\nand more")

    layers = localise(NETWORKS["unet_2_3"], "torch", around=method(torch.nn.Upsample, "forward", raises))
    found = first_culprit(layers)
    assert (found.path, found.own, found.message) == ("ups.0.resample", math.inf, "raised ValueError: no such shape")
    by_path = {layer.path: layer for layer in layers}
    assert by_path["mid_block2"].inherited <= 1 < by_path["final_conv"].inherited  # so far the free run came
    assert by_path["final_conv"].message == "the free run raised ValueError: no such shape"
    assert "raised ValueError" in told(layers, "unet")


def test_a_network_that_cannot_be_built_is_no_agreement():
    def raises(*args, **kwargs):
        raise TypeError("no dim")

    around = partial(mock.patch.object, torch_unet.Unet, "__init__", raises)
    layers = localise(NETWORKS["unet_2_3"], "torch", around=around)
    assert {(layer.message, layer.verdict) for layer in layers} == {("raised TypeError: no dim", DIFFER)}


def halves(x):
    return {"y": x / 2, "grad.x": np.ones_like(x) / 2}


def tap(name, candidate=None, **more):
    """A layer that halves; its candidate is wrong if it says so."""
    x = np.linspace(1, 2, 12).astype(np.float32)
    right = halves(x)
    return Tap(name, Sides(candidate or right, [right, lambda: right], lambda: halves(x.astype(np.float64))), **more)


def wrong(key, factor=1.001):
    found = halves(np.linspace(1, 2, 12).astype(np.float32))
    return found | {key: found[key] * np.float32(factor)}


def test_layers_of_anybody_are_judged():
    layers = localise_layers([tap("a"), tap("b.c", wrong("y")), tap("d", lambda: wrong("grad.x"), depth=7)])
    assert [(layer.path, layer.depth) for layer in layers] == [("a", 0), ("b.c", 1), ("d", 7)]
    assert [layer.verdict for layer in layers] == [AGREE, DIFFER, DIFFER]
    assert (culprit(layers), first_culprit(layers, backward=True).path) == ("b.c", "d")
    assert layers[1].own_backward <= 1 < layers[1].own
    assert layers[2].own <= 1 < layers[2].own_backward
    assert layers[0].inherited is layers[0].received is None


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        ({"y": np.float32([[1]]), "grad.x": halves(np.ones(12, np.float32))["grad.x"]}, "y: shape (1, 1)"),
        ({"grad.x": np.ones(12, np.float32) / 2}, "y: missing in the candidate"),
        (wrong("y", np.nan), "y: NaN on one side only"),
        (lambda: 1 / 0, "raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_compared_fails(candidate, message):
    (layer,) = localise_layers([tap("a", candidate)])
    assert layer.message.startswith(message)
    assert (layer.own, layer.verdict) == (math.inf, DIFFER)


def test_only_the_candidate_runs_inside_the_context():
    inside = []

    @contextlib.contextmanager
    def around():
        yield inside.append(True)
        inside.pop()

    def seen(expected):
        assert bool(inside) == expected
        return {"y": np.ones(3, np.float32)}

    right = Sides(lambda: seen(True), [lambda: seen(False)], lambda: {"y": seen(False)["y"].astype(np.float64)})
    (layer,) = localise_layers([Tap("a", right, right)], around=around)
    assert (layer.own, layer.inherited, layer.message) == (0, 0, "")


@pytest.mark.parametrize(
    ("failing", "forward", "backward"),
    [
        ({}, None, None), ({"b.c.e", "b.c", "b"}, "b.c.e", "b.c.e"), ({"b.c.e", "b.c.d", "b"}, "b.c.d", "b.c.e"),
        ({"b"}, "b", "b"), ({"f", "b.c.d", "b"}, "b.c.d", "f"), ({"a", "ab"}, "a", "ab"),
    ],
)  # fmt: skip
def test_the_culprit_is_the_first_and_the_innermost(failing, forward, backward):
    paths = ["a", "b", "b.c", "b.c.d", "b.c.e", "ab", "f"]
    ratios = {path: 9.0 if path in failing else 0.1 for path in paths}
    layers = [Layer(path, 0, own=ratio, own_backward=ratio) for path, ratio in ratios.items()]
    found = first_culprit(layers, backward=True)
    assert (culprit(layers), found and found.path) == (forward, backward)


def test_layers_are_what_the_reports_read():
    layers = localise_layers([tap("a"), tap("b", wrong("y")), tap("b.c", wrong("y", 1.1))])
    as_json = [layer.as_json() for layer in layers]
    keys = {"path", "depth", "verdict", *SIDES[:4]}
    assert [set(layer) for layer in as_json[::2]] == [keys, keys | {"message", "values"}]
    assert as_json[2]["values"]["own"]["candidate"] == pytest.approx(1.1, rel=1e-5)
    last = words.tree(as_json)[-1]
    assert (last.split()[0], last.endswith("<- first culprit")) == ("c", True)


def test_bisect_tells_the_path_the_numbers_and_the_tree():
    around = FAULTS["RMSNorm without sqrt(C)"][1]
    agrees, text = bisect(NETWORKS["unet_2_3"], "torch", around=around)
    assert not agrees
    assert "forward: unet > downs.0 > block1 > block1 > norm: own error " in text
    assert "backward: unet > final_res_block > block2 > norm" in text
    assert [
        word for word in ("candidate", "reference", "float64", "off by", "<- first culprit") if word not in text
    ] == []


def double(inputs):
    return {"y": 2 * inputs["x"], "chain": np.cumsum(inputs["x"] / 2)}


def drifting(inputs):
    return double(inputs) | {"chain": double(inputs)["chain"] + np.float32(0.01) * (np.arange(20) > 6)}


def plain(rule, leg, kind):
    spec, x = {"kind": kind, "layer": "conv2d"}, np.linspace(1, 2, 20).astype(np.float32)
    exactly = double({"x": x.astype(np.float64)})
    return Computation("own/thing", lambda: {"x": x}, lambda _: exactly, [double], {"torch": leg}, rule, spec=spec)


def test_bisect_of_anything_else_says_what_differs_and_where():
    _, text = bisect(plain("ratio", lambda inputs: double(inputs) | {"y": 3 * inputs["x"]}, "layer"), "torch")
    assert "own/thing: the layer itself, conv2d: 1 of 2 outputs differ, in order: y" in text
    assert "first outside its envelope: chain at step 7" in bisect(plain("envelope", drifting, "?"), "torch").text
    assert bisect(plain("ratio", double, "layer"), "torch").agrees
    with pytest.raises(HarnessError, match="is no network"):
        localise(plain("ratio", double, "layer"), "torch")
    network = replace(plain("ratio", lambda inputs: double(inputs) | {"y": inputs["x"]}, "?"), key="network/own")
    _, text = bisect(network, "torch")
    assert text.startswith("network/own: the network as a whole: ")
    assert text.endswith("check --tier 2")
    agrees, text = bisect(plain("ratio", lambda inputs: 1 / 0, "layer"), "torch")
    assert ("could not be judged: ZeroDivisionError" in text, agrees) == (True, False)


def test_it_can_be_imported_where_no_framework_is():
    code = "import sys; sys.modules['torch'] = sys.modules['mindspore'] = None; import parity_tests.unet_layers"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
