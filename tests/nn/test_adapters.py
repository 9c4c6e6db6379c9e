"""LoRA in the layers of a network: in compiled graphs, in the weights and out of them, by the kernels, in half."""

import numpy as np
import pytest

from tests.conftest import relative_rms
from tests.nn.trained import trained

PARTS = "down_blocks.0.attentions.0"
QKVO = ("to_q", "to_k", "to_v", "to_out.0")
ALL = (*QKVO, "conv1", "proj_in")


@pytest.fixture
def net(mindspore):
    """A convolution of stride 2, one of 1x1 and an attention over the pixels, under diffusers' names."""
    from tests.nn.small_attention import SmallBlock

    return SmallBlock(np.random.default_rng(3))


@pytest.fixture
def image(mindspore, rng):
    """Of no equal sides."""
    return mindspore.Tensor(rng.standard_normal((2, 3, 6, 10), dtype=np.float32))


def test_a_new_adapter_changes_nothing_and_has_names_of_its_own(net, image, rng):
    from ms_ddpm.nn.adapters import Adapters, base_parameters

    base, names = net(image).asnumpy(), list(net.parameters_dict())
    adapters = Adapters(net)
    adapters.add("style", rank=3, rng=rng)
    np.testing.assert_array_equal(net(image).asnumpy(), base)
    assert list(base_parameters(net)) == names
    trainable = [parameter.name for parameter in net.trainable_params()]
    attention = f"lora.style.{PARTS}.transformer_blocks.0.attn1"
    assert trainable == [f"{attention}.{layer}.{part}" for layer in QKVO for part in ("down", "up")]
    assert {id(p) for p in net.trainable_params()} == {id(p) for p in adapters.parameters("style")}
    for made in adapters.factors("style").values():
        assert made.up.max() == made.up.min() == 0


def test_a_starts_with_deviation_one_over_rank(mindspore):
    from mindspore import nn

    from ms_ddpm.nn.adapters import Adapters
    from ms_ddpm.nn.layers import Linear

    wide = nn.SequentialCell(Linear(4000, 5, rng=np.random.default_rng(0)))
    adapters = Adapters(wide)
    adapters.add("new", rank=8, targets=("0",), rng=np.random.default_rng(1))
    [made] = adapters.factors("new").values()
    assert made.alpha == 8
    assert abs(made.down.std() * 8 - 1) < 0.02
    assert abs(made.down.mean()) < 0.002


@pytest.fixture
def counted(mindspore):
    """How many graphs have been compiled by now."""
    from mindspore.graph import api

    return lambda: len(api.ms_compile_cache)


@pytest.mark.graph
def test_switching_scaling_and_fusing_compile_nothing_anew(mindspore, net, image, rng, counted):
    from ms_ddpm.nn.adapters import Adapters

    base = net(image).asnumpy()
    adapters = Adapters(net)
    trained(adapters, "style", rng, rank=3, alpha=5.0, targets=ALL)
    trained(adapters, "pokemon", rng, rank=2, targets=ALL)

    def denoised(x):
        return net(x)

    graph, before = mindspore.jit(denoised), counted()

    def compared():
        """The graph's result, which PyNative's bears out."""
        found = graph(image).asnumpy()
        assert relative_rms(found, net(image).asnumpy()) < 1e-6
        return found

    adapters.set_scales({"style": 0.0, "pokemon": 0.0})
    np.testing.assert_array_equal(compared(), base)
    adapters.set_adapters(["style"])
    style = compared()
    adapters.set_adapters(["pokemon"], [0.5])
    pokemon = compared()
    adapters.set_adapters(["style", "pokemon"], [0.3, 1.5])
    both = compared()
    assert min(relative_rms(a, b) for a, b in ((style, base), (pokemon, base), (both, style), (both, pokemon))) > 0.05
    with adapters.at_share(0.5):
        half = compared()
    assert adapters.scales == {"style": 0.3, "pokemon": 1.5}
    np.testing.assert_array_equal(compared(), both)
    adapters.enable(False)
    np.testing.assert_array_equal(compared(), base)
    with adapters.at_share(0.5):
        np.testing.assert_array_equal(compared(), base)
    adapters.enable()
    np.testing.assert_array_equal(compared(), both)
    adapters.set_adapters(["style", "pokemon"], [0.15, 0.75])
    np.testing.assert_array_equal(compared(), half)
    adapters.set_adapters(["style", "pokemon"], [0.3, 1.5])
    adapters.fuse()
    fused = compared()
    assert np.abs(fused - both).max() < 1e-5 * np.abs(both).max()
    assert (fused != both).any()  # it is another sum
    adapters.unfuse()
    np.testing.assert_array_equal(compared(), both)
    # Other numbers under a name that is there, of a smaller rank in places: the same graph.
    other = {
        path: made._replace(down=made.down[: 1 + i % 2], up=made.up[:, : 1 + i % 2], alpha=3.0)
        for i, (path, made) in enumerate(adapters.factors("style").items())
    }
    adapters.load("style", other, scale=2.0)
    replaced = compared()
    assert relative_rms(replaced, both) > 0.05
    assert counted() - before == 1

    adapters.unload("style")
    adapters.load("style", other, scale=2.0)
    adapters.set_scales({"pokemon": 1.5})
    assert relative_rms(net(image).asnumpy(), replaced) < 1e-6  # the zeros that filled it up counted for nothing


@pytest.mark.graph
def test_a_cell_that_has_been_called_in_graph_mode_sees_what_comes_and_goes(mindspore, net, image, rng):
    from ms_ddpm.nn.adapters import Adapters

    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    try:
        base, adapters = net(image).asnumpy(), Adapters(net)
        trained(adapters, "style", rng, targets=ALL)
        assert relative_rms(net(image).asnumpy(), base) > 0.05
        adapters.unload("style")
        np.testing.assert_array_equal(net(image).asnumpy(), base)
    finally:
        mindspore.set_context(mode=mindspore.PYNATIVE_MODE)


def test_the_structure_tells_whether_graphs_are_to_be_made_anew(net, rng):
    from ms_ddpm.nn.adapters import Adapters

    adapters = Adapters(net)
    seen = [adapters.structure]
    trained(adapters, "style", rng)
    seen.append(adapters.structure)
    adapters.set_scales({"style": 0.5})
    adapters.fuse()
    assert adapters.structure == seen[-1]
    adapters.unload()
    assert adapters.structure == seen[0]
    trained(adapters, "style", rng)
    assert len({*seen, adapters.structure}) == 3, "the same name and ranks again, and other parameters"
    hash(adapters.structure)


def test_unloading_leaves_the_base_bit_for_bit_and_trainable_as_it_was(net, image, rng):
    from ms_ddpm.nn.adapters import Adapters

    net.down_blocks[0].resnets[0].conv1.bias.requires_grad = False
    trainable = [p.name for p in net.trainable_params()]
    base, weights = net(image).asnumpy(), {name: p.asnumpy().copy() for name, p in net.parameters_dict().items()}
    adapters = Adapters(net)
    trained(adapters, "style", rng, targets=ALL)
    trained(adapters, "pokemon", rng, targets=ALL, scale=0.3)
    adapters.fuse()
    assert any((p.asnumpy() != weights[name]).any() for name, p in net.parameters_dict().items() if name in weights)
    adapters.unload("style")
    assert adapters.names == ("pokemon",)
    assert not adapters.fused
    assert relative_rms(net(image).asnumpy(), base) > 0.01
    adapters.unload("pokemon")
    np.testing.assert_array_equal(net(image).asnumpy(), base)
    for name, parameter in net.parameters_dict().items():
        np.testing.assert_array_equal(parameter.asnumpy(), weights[name])
    assert [p.name for p in net.trainable_params()] == trainable


def test_the_kernels_compute_the_same_and_a_scale_of_zero_is_their_base(mindspore, rng):
    """Self-attention of one width reads three weights at once there; an adapter must not be passed over."""
    from ms_ddpm.nn.adapters import Adapters
    from ms_ddpm.nn.layers import use_kernels
    from ms_ddpm.nn.transformer import CrossAttention
    from ms_ddpm.ops import kernels

    if kernels.why_not():
        pytest.skip(kernels.why_not())
    attention = CrossAttention(8, 8, None, 2, rng=np.random.default_rng(2))
    tokens = mindspore.Tensor(rng.standard_normal((2, 5, 8), dtype=np.float32))
    use_kernels(attention, True)
    base = attention(tokens).asnumpy()
    adapters = Adapters(attention)
    trained(adapters, "style", rng, rank=3, alpha=4.0, targets=("query", "value"))  # key has none
    by_kernels = attention(tokens).asnumpy()
    adapters.set_scales({"style": 0.0})
    np.testing.assert_array_equal(attention(tokens).asnumpy(), base)
    adapters.set_scales({"style": 1.0})
    use_kernels(attention, False)
    assert relative_rms(by_kernels, attention(tokens).asnumpy()) < 1e-6
    assert relative_rms(by_kernels, base) > 0.05


def test_convolutions_with_adapters_run_by_the_kernels(mindspore, rng):
    from mindspore import nn

    from ms_ddpm.nn.adapters import Adapters
    from ms_ddpm.nn.layers import Conv2d, use_kernels
    from ms_ddpm.ops import by_kernels, kernels

    if kernels.why_not():
        pytest.skip(kernels.why_not())
    convs = nn.SequentialCell(Conv2d(3, 5, 3, padding=1, rng=np.random.default_rng(1)), Conv2d(5, 4, 1, rng=rng))
    image = mindspore.Tensor(rng.standard_normal((2, 3, 6, 7), dtype=np.float32))
    adapters = Adapters(convs)
    use_kernels(convs, True)
    trained(adapters, "style", rng, rank=3, targets=("0", "1"))  # put there when the network runs by kernels
    found = by_kernels.leave(convs(by_kernels.enter(image))).asnumpy()
    use_kernels(convs, False)
    assert relative_rms(found, convs(image).asnumpy()) < 1e-6


def test_adapters_compute_in_float32_beside_a_base_in_half(mindspore, rng):
    from mindspore import nn

    from ms_ddpm.nn.adapters import Adapters
    from ms_ddpm.nn.layers import Linear
    from ms_ddpm.training.amp import apply_amp

    dense = nn.SequentialCell(Linear(64, 50, rng=np.random.default_rng(1)))
    x = mindspore.Tensor(rng.standard_normal((7, 64)).astype(np.float16))
    adapters = Adapters(dense)
    factors = trained(adapters, "style", rng, rank=2, targets=("0",))["0"]
    apply_amp(dense, "O2")
    adapters.set_scales({"style": 0.0})
    base = dense(x).asnumpy()
    adapters.set_scales({"style": 3.0})
    found = dense(x)
    assert found.dtype == mindspore.float16
    change = x.asnumpy().astype(np.float64) @ factors.down.T.astype(np.float64) @ factors.up.T.astype(np.float64)
    expected = (base + 3.0 * factors.alpha / 2 * change).astype(np.float16)
    assert (found.asnumpy() == expected).mean() > 0.95  # rounded once
    np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-3)
    assert all(parameter.dtype == mindspore.float32 for parameter in adapters.parameters("style"))


@pytest.mark.parametrize("width", ["float16", "bfloat16"])
def test_weights_of_16_bits_are_fused_and_come_back_bit_for_bit(width, mindspore, rng):
    """The CPU multiplies no bfloat16 (2.10), so this looks at the weights."""
    from mindspore import nn

    from ms_ddpm.nn.adapters import Adapters, change_of_weight
    from ms_ddpm.nn.layers import Linear
    from ms_ddpm.storage import floats

    dense = nn.SequentialCell(Linear(6, 5, rng=np.random.default_rng(1)))
    weight = dense[0].weight
    weight.set_dtype(getattr(mindspore, width))
    adapters = Adapters(dense)
    factors = trained(adapters, "style", rng, rank=2, targets=("0",), scale=0.5)["0"]
    base = floats.cast(weight.asnumpy(), "float64")
    adapters.fuse()
    expected = base + 0.5 * factors.alpha / 2 * change_of_weight(factors.down, factors.up)
    assert str(weight.dtype).lower() == width
    fused = floats.cast(weight.asnumpy(), "float64")
    np.testing.assert_array_equal(fused, floats.cast(floats.cast(expected, width), "float64"))
    assert (fused != base).any()
    adapters.unfuse()
    np.testing.assert_array_equal(floats.cast(weight.asnumpy(), "float64"), base)
    assert all(parameter.dtype == mindspore.float32 for parameter in adapters.parameters("style"))


def test_a_kernel_that_reads_the_weight_alone_does_not_pass_an_adapter_over(mindspore, rng):
    from ms_ddpm.nn.adapters import Adapters
    from ms_ddpm.nn.blocks import UnshuffleDownsample
    from ms_ddpm.nn.layers import use_kernels
    from ms_ddpm.ops import by_kernels, kernels

    if kernels.why_not():
        pytest.skip(kernels.why_not())
    down = UnshuffleDownsample(3, 5, rng)
    trained(Adapters(down), "style", rng, targets=("conv",))
    image = mindspore.Tensor(rng.standard_normal((2, 3, 4, 6), dtype=np.float32))
    assert down(image).shape == (2, 5, 2, 3)
    use_kernels(down, True)
    with pytest.raises(ValueError, match="no adapters by the C"):
        down(by_kernels.enter(image))


def test_layers_whose_weight_is_not_their_product_s_are_left_out(mindspore):
    from mindspore import nn

    from ms_ddpm.nn.adapters import adaptable
    from ms_ddpm.nn.layers import Conv2d, ConvTranspose2d, WeightStandardizedConv2d

    cells = [make(3, 4, 2) for make in (WeightStandardizedConv2d, Conv2d, ConvTranspose2d)]
    assert list(adaptable(nn.SequentialCell(*cells))) == ["1"]


def sd1_attention_weights():
    """The shapes of SD1's attention projections, by name: a level has two blocks on the way down and three up."""
    widths = (320, 640, 1280, 1280)
    blocks = {f"down_blocks.{level}.attentions.{i}": widths[level] for level in range(3) for i in range(2)}
    blocks |= {f"up_blocks.{level}.attentions.{i}": widths[3 - level] for level in (1, 2, 3) for i in range(3)}
    blocks["mid_block.attentions.0"] = widths[3]
    shapes = {}
    for block, width in blocks.items():
        for attention, source in (("attn1", width), ("attn2", 768)):
            for layer, dim_in in zip(QKVO, (width, source, source, width), strict=True):
                shapes[f"{block}.transformer_blocks.0.{attention}.{layer}"] = (width, dim_in)
            shapes[f"{block}.transformer_blocks.0.ff.net.2"] = (width, 4 * width)
    return shapes


def test_a_lora_of_rank_4_for_stable_diffusion_1_has_797184_numbers():
    from ms_ddpm.nn.adapters import factor_shapes, targeted

    shapes = sd1_attention_weights()
    tensors = [shape for path in targeted(shapes) for shape in factor_shapes(shapes[path], 4)]
    assert len(tensors) == 256
    assert sum(int(np.prod(shape)) for shape in tensors) == 797_184


def one_line(error, *words):
    text = str(error.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


def test_what_cannot_be_done_is_said_in_one_line(net, rng):
    from ms_ddpm.errors import UserError
    from ms_ddpm.nn.adapters import Adapters

    adapters = Adapters(net)
    trainable = [p.name for p in net.trainable_params()]
    cases = (
        (lambda: adapters.add("a", targets=("to_q", "to_z"), rng=rng), ("'to_z'", "'down_blocks.0.resnets.0.conv1'")),
        (lambda: adapters.add("a", rank=0, rng=rng), ("rank", "0", "at least 1")),
        (lambda: adapters.add("a.b", rng=rng), ("'a.b'", "without dots")),
        (lambda: adapters.load("a", {}), ("no layers",)),
        (lambda: adapters.set_scales({"style": 1.0}), ("'style'", "none is loaded")),
        (lambda: adapters.add("a", rng=rng, scale=float("nan")), ("scale", "nan")),
    )
    for call, words in cases:
        with pytest.raises(UserError) as error:
            call()
        one_line(error, *words)
    assert [p.name for p in net.trainable_params()] == trainable
    made = trained(adapters, "style", rng, rank=3)
    path = next(iter(made))
    wrong = {path: made[path]._replace(down=made[path].down[:, 1:])}
    strange = {"up_blocks.7.to_q": made[path]}
    more = {p: f._replace(down=np.vstack([f.down] * 2), up=np.hstack([f.up] * 2)) for p, f in made.items()}
    cases = (
        (lambda: adapters.add("style", rng=rng), ("'style' already",)),
        (lambda: adapters.load("b", wrong), (path, "another base")),
        (lambda: adapters.load("b", strange), ("up_blocks.7.to_q", "has not")),
        (lambda: adapters.load("style", more), ("rank 3", "rank 6", path)),
        (lambda: adapters.load("style", {path: made[path]}), ("unlike the new one", "unload")),
        (lambda: adapters.set_adapters(["style"], [1.0, 2.0]), ("2 scales", "1 adapters")),
        (lambda: adapters.set_adapters(["other"]), ("'other'", "style")),
        (lambda: adapters.set_scales({"style": "much"}), ("'much'", "finite")),
    )
    for call, words in cases:
        with pytest.raises(UserError) as error:
            call()
        one_line(error, *words)
    assert adapters.names == ("style",)
    adapters.enable(False)
    with pytest.raises(UserError, match=r"adapters are off, .* turn them on before"):
        adapters.fuse()
    trained(adapters, "later", rng, rank=2)
    assert not any(low.scale.asnumpy() for low in adapters._of["later"].values()), "off as the others"
    adapters.enable()
    assert all(low.scale.asnumpy() for low in adapters._of["later"].values())
    adapters.fuse()
    for call in (
        adapters.fuse, lambda: adapters.set_scales({"style": 2.0}), lambda: adapters.add("b", rng=rng),
        lambda: adapters.enable(False), lambda: adapters.at_share(0.5).__enter__(),
    ):  # fmt: skip
        with pytest.raises(UserError, match="unfuse first"):
            call()
    adapters.enable()  # as they are
