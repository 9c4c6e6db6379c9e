"""The U-Net: both layouts, every option, and PyTorch's initial distributions."""

import numpy as np
import pytest

from ms_ddpm.errors import UserError

OPTIONS = {  # what is compiled in no case of parity_tests
    "conv down": {"downsample": "conv"},
    "group unshuffle": {"norm": "group"},
    "self-conditioned, learned variance": {"self_condition": True, "learned_variance": True},
    "fourier": {"learned_sinusoidal_cond": True, "init_dim": 12},
    "random fourier, per stage": {
        "random_fourier_features": True, "full_attn": (True, False), "attn_heads": (2, 4), "attn_dim_head": (16, 8),
    },
    "other theta and out_dim": {"sinusoidal_pos_emb_theta": 100, "out_dim": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_gives_an_image_of_its_shape(mindspore, name):
    from ms_ddpm import Unet

    options = OPTIONS[name]
    unet = Unet(8, dim_mults=(1, 2), channels=1, rng=0, **options)
    x = np.random.default_rng(0).standard_normal((2, 1, 8, 4)).astype(np.float32)
    out = unet(mindspore.Tensor(x), mindspore.Tensor(np.array([0, 999], np.int32))).asnumpy()
    assert out.shape == (2, options.get("out_dim", 2 if options.get("learned_variance") else 1), 8, 4)
    assert np.isfinite(out).all()
    assert not np.allclose(out[0], out[1])


def test_time_reaches_the_output_as_int_and_as_float(mindspore):
    from ms_ddpm import Unet

    unet = Unet(8, dim_mults=(1,), channels=1, rng=0)
    x = mindspore.Tensor(np.ones((1, 1, 4, 4), np.float32))
    whole = unet(x, mindspore.Tensor(np.array([7], np.int32))).asnumpy()
    assert np.array_equal(whole, unet(x, mindspore.Tensor(np.array([7.0], np.float32))).asnumpy())
    assert np.abs(whole - unet(x, mindspore.Tensor(np.array([7.5], np.float32))).asnumpy()).max() > 1e-5


def test_initial_weights_follow_pytorchs_distributions(mindspore):
    """U(+-1/sqrt(fan_in)) for weights and biases of layers, N(0, 1) for memory, 1 for gains."""
    from ms_ddpm import Unet

    unet = Unet(32, dim_mults=(1, 2), channels=3, rng=0)
    fan_in = {}
    for name, parameter in unet.parameters_and_names():
        value = parameter.asnumpy()
        if name.endswith(".g"):
            assert (value == 1).all(), name
        elif name.endswith("mem_kv"):
            assert abs(value.std() - 1) < 0.1, (name, value.std())
        elif name.endswith("weight"):
            fan_in[name.rsplit(".", 1)[0]] = np.prod(value.shape[1:])
    for name, parameter in unet.parameters_and_names():
        layer, kind = name.rsplit(".", 1)
        if layer in fan_in and kind in ("weight", "bias"):
            bound = fan_in[layer] ** -0.5
            value = parameter.asnumpy()
            assert np.abs(value).max() <= bound * (1 + 1e-6), name
            if value.size > 500:
                assert value.std() == pytest.approx(bound / 3**0.5, rel=0.1), name


def test_equal_seeds_give_equal_weights(mindspore):
    from ms_ddpm import Unet

    def weights(seed):
        return np.concatenate([p.asnumpy().ravel() for p in Unet(8, dim_mults=(1, 2), rng=seed).get_parameters()])

    assert np.array_equal(weights(3), weights(3))
    assert not np.array_equal(weights(3), weights(4))


def test_parameter_names_are_unique(mindspore):
    """Colliding names make MindSpore's own optimizers refuse a network."""
    from ms_ddpm import Unet

    names = [p.name for p in Unet(8, dim_mults=(1, 2, 4)).get_parameters()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "batch"}, "norm is 'batch', expected one of: rms, group"),
        ({"downsample": "pool"}, "downsample is 'pool'"),
        ({"dim_mults": ()}, "dim_mults"),
        ({"dim": 7}, "dim is 7"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"full_attn": (True,)}, r"full_attn has 1 entries, expected one per entry of dim_mults \(2\)"),
        ({"norm": "group", "full_attn": True}, "full_attn does not exist with norm='group'"),
        ({"norm": "group", "dim": 12}, "multiple of 8"),
        ({"norm": "group", "init_dim": 12}, "12 channels cannot be split into 8 groups"),
    ],
)
def test_impossible_networks_are_named(mindspore, options, words):
    from ms_ddpm import Unet

    with pytest.raises(UserError, match=words):
        Unet(**{"dim": 8, "dim_mults": (1, 2), **options})


def test_a_size_that_cannot_be_halved_names_the_divisor(mindspore):
    from ms_ddpm import GaussianDiffusion, Unet

    with pytest.raises(UserError, match=r"30x32 cannot be halved 2 times: both sides must be divisible by 4"):
        GaussianDiffusion(Unet(8, dim_mults=(1, 2, 4)), image_size=(30, 32))
