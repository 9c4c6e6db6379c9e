"""`mint_on_cpu`: what it puts in mint's place computes what PyTorch computes, and goes again."""

import mindspore as ms
import numpy as np
import pytest
import torch
import torch.nn.functional as theirs
from mindspore import mint

from portparity import check
from portparity.sides.mint_on_cpu import mint_on_cpu

RNG = np.random.default_rng(0)
F = mint.nn.functional


def array(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


IMAGE, MATRIX, VOLUME = array(2, 4, 6, 6), array(4, 6), array(1, 2, 4, 5, 5)
FUNCTIONS = {
    "stack": (lambda a: torch.stack([a, 2 * a], 1), lambda a: mint.stack([a, 2 * a], 1), [MATRIX]),
    "cumsum": (lambda a: a.cumsum(1), lambda a: mint.cumsum(a, 1), [MATRIX]),
    "einsum": (
        lambda a, b: torch.einsum("bchw,dc->bdhw", a, b), lambda a, b: mint.einsum("bchw,dc->bdhw", a, b),
        [IMAGE, array(3, 4)],
    ),
    "var": (lambda a: a.var(1), lambda a: mint.var(a, 1), [MATRIX]),
    "norm": (lambda a: torch.linalg.vector_norm(a, dim=1), lambda a: mint.linalg.vector_norm(a, dim=1), [MATRIX]),
    "normalize": (theirs.normalize, lambda a: F.normalize(a), [MATRIX]),
    "roll": (lambda a: a.roll((1, -2), (0, 1)), lambda a: mint.roll(a, (1, -2), (0, 1)), [MATRIX]),
    "pad": (lambda a: theirs.pad(a, (1, 2, 0, 1), value=3.0), lambda a: F.pad(a, (1, 2, 0, 1), value=3.0), [IMAGE]),
    "reflect": (
        lambda a: theirs.pad(a, (1, 2, 2, 1), mode="reflect"), lambda a: F.pad(a, (1, 2, 2, 1), mode="reflect"),
        [IMAGE],
    ),
    "gelu": (theirs.gelu, lambda a: F.gelu(a), [MATRIX]),
    "elu": (theirs.elu, lambda a: F.elu(a), [MATRIX]),
    "conv1d": (
        lambda a, w: theirs.conv1d(a, w, stride=2, padding=1), lambda a, w: F.conv1d(a, w, stride=2, padding=1),
        [array(2, 3, 8), array(5, 3, 3)],
    ),
    "conv2d": (
        lambda a, w: theirs.conv2d(a, w, stride=2, padding=(1, 0), groups=2),
        lambda a, w: F.conv2d(a, w, stride=2, padding=(1, 0), groups=2), [IMAGE, array(6, 2, 3, 3)],
    ),
    "conv3d": (
        lambda a, w, b: theirs.conv3d(a, w, b, stride=(1, 2, 2), padding=1),
        lambda a, w, b: F.conv3d(a, w, b, stride=(1, 2, 2), padding=1), [VOLUME, array(3, 2, 3, 3, 3), array(3)],
    ),
    "conv_transpose2d": (
        lambda a, w: theirs.conv_transpose2d(a, w, stride=2, padding=1),
        lambda a, w: F.conv_transpose2d(a, w, stride=2, padding=1), [IMAGE, array(4, 3, 4, 4)],
    ),
    "nearest": (
        lambda a: theirs.interpolate(a, size=(9, 4)), lambda a: F.interpolate(a, size=(9, 4), mode="nearest"), [IMAGE],
    ),
    "layer_norm": (lambda a: theirs.layer_norm(a, (6,)), lambda a: F.layer_norm(a, (6,)), [MATRIX]),
    "max_pool2d": (lambda a: theirs.max_pool2d(a, 3, 2, 1), lambda a: F.max_pool2d(a, 3, 2, 1), [IMAGE]),
    "avg_pool2d": (lambda a: theirs.avg_pool2d(a, 2), lambda a: F.avg_pool2d(a, 2), [IMAGE]),
    "linspace": (lambda a: a * torch.linspace(0, 1, 6), lambda a: a * mint.linspace(0, 1, 6), [MATRIX]),
    "arange": (lambda a: a + torch.arange(1, 7), lambda a: a + mint.arange(1, 7), [MATRIX]),
}  # fmt: skip


class Theirs(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *given):
        return self.function(*given)


class Ours(ms.nn.Cell):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def construct(self, *given):
        return self.function(*given)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_computes_what_pytorch_computes(name):
    original, port, given = FUNCTIONS[name]
    with mint_on_cpu():
        report = check(lambda: Theirs(original), lambda: Ours(port), given, modes=("pynative",), training=False)
    assert report.agrees, str(report)


@pytest.mark.parametrize("layout", ["BNSD", "BSH"])
@pytest.mark.parametrize("masked", [False, True])
def test_fused_attention_is_pytorchs_in_half_precision_and_takes_no_other(layout, masked):
    given = [array(2, 3, length, 8).astype(np.float16) for length in (5, 7, 7)]
    hidden = np.arange(7) > 4
    seen = torch.from_numpy(~hidden).expand(5, 7) if masked else None
    wanted = theirs.scaled_dot_product_attention(*map(torch.from_numpy, given), attn_mask=seen, scale=0.3).numpy()
    if layout == "BSH":
        given = [part.swapaxes(1, 2).reshape(2, -1, 24) for part in given]
        wanted = wanted.swapaxes(1, 2).reshape(2, 5, 24)
    mask = ms.Tensor(np.broadcast_to(hidden, (2, 1, 5, 7))) if masked else None
    with mint_on_cpu():
        fused = ms.ops.operations.nn_ops.FlashAttentionScore(head_num=3, scale_value=0.3, input_layout=layout)
        found = fused(*map(ms.Tensor, given), None, None, None, mask)[3]
        with pytest.raises(TypeError, match="takes float16"):
            fused(*[ms.Tensor(part.astype(np.float32)) for part in given])
    assert found.dtype == ms.float16
    np.testing.assert_allclose(found.asnumpy(), wanted, atol=2e-3)


def test_what_is_random_has_its_shape_dtype_and_range():
    with mint_on_cpu():
        like = ms.Tensor(np.zeros((40, 50), np.float16))
        drawn = {
            "randn": (mint.randn(40, 50), mint.randn((40, 50)), mint.randn_like(like)),
            "rand": (mint.rand(40, 50), mint.rand((40, 50)), mint.rand_like(like)),
            "randint": (mint.randint(3, 7, (40, 50)),),
        }
        found = {name: [value.asnumpy() for value in values] for name, values in drawn.items()}
    assert {value.shape for values in found.values() for value in values} == {(40, 50)}
    kinds = {name: [str(value.dtype) for value in values] for name, values in found.items()}
    floats = ["float32", "float32", "float16"]
    assert kinds == {"randn": floats, "rand": floats, "randint": ["int64"]}
    assert all(0.9 < value.astype(np.float64).std() < 1.1 and value.min() < -1 for value in found["randn"])
    assert all(0 <= value.min() < 0.1 and 0.9 < value.max() <= 1 for value in found["rand"])
    assert set(np.unique(found["randint"][0])) == {3, 4, 5, 6}


LAYERS = {
    "Conv2d": ((4, 6, 3), {"padding": 1, "padding_mode": "reflect"}, IMAGE),
    "LayerNorm": ((6,), {}, MATRIX),
    "BatchNorm2d": ((4,), {}, IMAGE),
    "Embedding": ((7, 5), {"padding_idx": 2}, np.array([[1, 2, 3], [2, 0, 6]])),
    "Dropout": ((0.4,), {}, array(20, 30)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_computes_and_trains_as_pytorchs(name):
    args, kwargs, given = LAYERS[name]
    with mint_on_cpu():
        report = check(
            lambda: getattr(torch.nn, name)(*args, **kwargs), lambda: getattr(mint.nn, name)(*args, **kwargs), (given,),
            modes=("pynative",),
        )  # fmt: skip
    assert report.agrees, str(report)


def test_outside_everything_is_as_it_was():
    before = (mint.stack, F.conv2d, mint.nn.Conv2d.construct, ms.Tensor.zero_)
    with mint_on_cpu():
        assert all(now is not then for now, then in zip(_now(), before, strict=True))
    assert _now() == before


def _now():
    return mint.stack, F.conv2d, mint.nn.Conv2d.construct, ms.Tensor.zero_


@pytest.mark.parametrize("function", [lambda a: mint.stack([a]), lambda a: mint.cumsum(a, 0), lambda a: F.gelu(a)])
def test_it_is_still_needed(function):
    """When this fails a newer MindSpore has that function on the CPU: take it out."""
    with pytest.raises(RuntimeError):
        function(ms.Tensor(MATRIX)).asnumpy()
