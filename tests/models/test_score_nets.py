"""The score networks as a user meets them.

Whether MindSpore computes what PyTorch computes is for parity_tests (cases layers/... and network/score_...).
"""

import numpy as np
import pytest

from ms_ddpm.errors import UserError
from tests.conftest import relative_rms

TINY = {"channels": (32, 32, 32, 32), "embed_dim": 8}


def deviation(t):
    return t + 0.25


@pytest.fixture(scope="module")
def nets(mindspore):
    """name -> class."""
    from ms_ddpm.models import conditional_unet, score_unet

    classes = score_unet.ScoreUnet, conditional_unet.ConditionalScoreUnet, conditional_unet.LatentScoreUnet
    return {cls.__name__: cls for cls in classes}


def test_the_documents_names_and_shapes(nets):
    """Of the score article's UNet, UNet_Tranformer and Latent_UNet_Tranformer with their default arguments."""
    net = nets["ScoreUnet"](deviation, rng=0)
    shapes = {name: tuple(p.shape) for name, p in net.parameters_and_names()}
    assert len(shapes) == 3 + 8 + 1 + 2 * 7 + 2 * 7
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 1_115_425
    expected = {
        "time_embed.0.W": (128,), "time_embed.1.weight": (256, 256), "conv1.weight": (32, 1, 3, 3),
        "dense4.dense.bias": (256,), "tconv4.weight": (256, 128, 3, 3), "tconv3.weight": (256, 64, 3, 3),
        "tconv2.weight": (128, 32, 3, 3), "tconv1.weight": (64, 1, 3, 3), "tconv1.bias": (1,), "tgnorm2.bias": (32,),
    }  # fmt: skip
    assert {name: shapes.get(name) for name in expected} == expected
    net = nets["ConditionalScoreUnet"](deviation, rng=0)
    shapes = {name: tuple(p.shape) for name, p in net.parameters_and_names()}
    expected = {
        "tconv3.weight": (128, 64, 3, 3), "cond_embed.weight": (10, 256),
        "attn4.transformer.attn_cross.key.weight": (256, 256), "attn3.transformer.attn_self.query.weight": (128, 128),
        "attn3.transformer.ffn.0.weight": (384, 128), "attn3.transformer.ffn.2.bias": (128,),
        "attn3.transformer.norm2.weight": (128,),
    }  # fmt: skip
    assert {name: shapes.get(name) for name in expected} == expected
    assert "attn3.transformer.attn_self.query.bias" not in shapes
    shapes = {name: tuple(p.shape) for name, p in nets["LatentScoreUnet"](deviation, rng=0).parameters_and_names()}
    expected = {"conv1.weight": (64, 4, 3, 3), "tconv1.weight": (64, 4, 3, 3), "dense7.dense.weight": (64, 256)}
    assert {name: shapes.get(name) for name in expected} == expected


def test_initial_weights_have_pytorchs_distributions(nets):
    """Uniform within 1 / sqrt(fan in), for a transposed convolution the fan-in PyTorch gives it: dim_out k^2."""
    torch_ref = pytest.importorskip("torch_ref")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch_ref.ConditionalScoreUnet(deviation).state_dict()
    ours = dict(nets["ConditionalScoreUnet"](deviation, rng=0).parameters_and_names())
    assert set(theirs) == set(ours)
    for name, value in theirs.items():
        value, own = value.numpy(), ours[name].asnumpy()
        assert own.shape == value.shape
        if value.size >= 1000:
            assert own.std() == pytest.approx(value.std(), rel=0.15), name
            assert abs(own).max() == pytest.approx(abs(value).max(), rel=0.4), name
        elif value.size > 1 and value.std() == 0:
            assert np.array_equal(own, value), name
    assert not ours["time_embed.0.W"].requires_grad
    assert ours["time_embed.0.W"].asnumpy().std() == pytest.approx(30, rel=0.3)


@pytest.mark.parametrize("twin", ["ScoreUnet", "ConditionalScoreUnet", "LatentScoreUnet"])
def test_weights_come_and_go(nets, twin):
    """Also with the prefix that DataParallel, which the article trains in, leaves on every name."""
    torch_ref = pytest.importorskip("torch_ref")
    from ms_ddpm import convert

    channels = (3, 4, 8, 8) if twin == "LatentScoreUnet" else TINY["channels"]
    net = nets[twin](deviation, channels, 8, rng=0)
    state = {k: v.numpy() for k, v in getattr(torch_ref, twin)(deviation, channels, 8, rng=1).state_dict().items()}
    convert.from_torch(net, {f"module.{name}": value for name, value in state.items()})
    back = convert.to_torch(net)
    assert set(back) == set(state)
    assert all(np.array_equal(back[name], value) for name, value in state.items())
    broken = {name: value for name, value in state.items() if name != "conv1.weight"} | {"conv9.weight": np.zeros(1)}
    with pytest.raises(UserError, match=r"missing conv1\.weight; unexpected conv9\.weight"):
        convert.from_torch(net, broken)


def test_every_size_from_the_smallest_on(mindspore, nets):
    net = nets["ScoreUnet"](deviation, **TINY, rng=0)
    latent = nets["LatentScoreUnet"](deviation, (2, 4, 4, 4), 8, 8, 3, rng=0)
    t = mindspore.Tensor([0.5], mindspore.float32)
    for height, width in ((17, 18), (19, 20), (24, 17)):
        net.check_size(height, width)
        x = mindspore.ops.ones((1, 1, height, width), mindspore.float32)
        assert net(x, t).shape == (1, 1, height, width)
    for side in (9, 12):
        latent.check_size(side, side)
        z = mindspore.ops.ones((1, 2, side, 10), mindspore.float32)
        assert latent(z, t, mindspore.Tensor([2], mindspore.int32)).shape == (1, 2, side, 10)
    with pytest.raises(UserError, match="28x16 is too small for ScoreUnet: both sides must be at least 17"):
        net.check_size(28, 16)
    with pytest.raises(UserError, match="both sides must be at least 9"):
        latent.check_size(8, 9)


WRONG = {
    "skips": ("ScoreUnet", {**TINY, "skips": "none"}, "skips is 'none', expected one of: concat, add"),
    "widths": ("ScoreUnet", {**TINY, "channels": (32, 64, 128)}, r"is \(32, 64, 128\) with images of 1, expected four"),
    "groups": ("ScoreUnet", {**TINY, "channels": (32, 48, 64, 64)}, "48 channels cannot be split into 32 groups"),
    "embed_dim": ("ScoreUnet", {**TINY, "embed_dim": 7}, "embed_dim is 7, expected an even number"),
    "in_channels": ("ScoreUnet", {**TINY, "in_channels": 0}, "images of 0"),
    "num_heads": ("ConditionalScoreUnet", {**TINY, "num_heads": 3}, "num_heads is 3, expected a divisor"),
    "num_classes": ("ConditionalScoreUnet", {**TINY, "num_classes": 0}, "num_classes is 0, expected at least 1"),
    "latent_widths": ("LatentScoreUnet", {"channels": ()}, "expected four widths"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_said_in_one_line(nets, name):
    cls, arguments, words = WRONG[name]
    with pytest.raises(UserError, match=words):
        nets[cls](deviation, **arguments)


def test_a_transposed_convolution_says_what_it_cannot_make(mindspore):
    from ms_ddpm.nn.layers import ConvTranspose2d

    with pytest.raises(UserError, match="output_padding of a transposed convolution is 2, expected 0 to 1"):
        ConvTranspose2d(3, 4, 3, stride=2, output_padding=2)
    layer = ConvTranspose2d(3, 4, 3, stride=2, rng=0)
    x = mindspore.ops.ones((1, 3, 5, 6), mindspore.float32)
    assert layer(x, (12, 13)).shape == (1, 4, 12, 13)
    with pytest.raises(ValueError, match="of stride 2 makes 11 to 12 of a side of 5, and 13 was asked for"):
        layer(x, (13, 13))


def test_the_class_without_a_class_is_one_more_row(nets):
    plain, guided = (nets["ConditionalScoreUnet"](deviation, **TINY, null_class=null, rng=0) for null in (False, True))
    assert (plain.cond_embed.weight.shape[0], guided.cond_embed.weight.shape[0]) == (10, 11)


def test_one_head_is_the_documents_and_heads_change_no_shape(nets):
    one, four = (nets["ConditionalScoreUnet"](deviation, **TINY, num_heads=heads, rng=0) for heads in (1, 4))
    assert {n: p.shape for n, p in one.parameters_and_names()} == {n: p.shape for n, p in four.parameters_and_names()}


def test_half_precision_reaches_the_transposed_convolutions(mindspore, nets):
    from ms_ddpm import amp

    x = mindspore.Tensor(np.random.default_rng(0).standard_normal((1, 1, 28, 28), dtype=np.float32))
    t = mindspore.Tensor([0.5], mindspore.float32)
    full = nets["ScoreUnet"](deviation, **TINY, rng=0)(x, t).asnumpy()
    for level in ("O1", "O2"):
        net = nets["ScoreUnet"](deviation, **TINY, rng=0)
        amp.apply_amp(net, level)
        assert net.tconv4.compute_dtype == mindspore.float16
        y = net(x, t)
        assert y.dtype == mindspore.float32
        assert 1e-6 < relative_rms(y.asnumpy(), full) < 2e-2
