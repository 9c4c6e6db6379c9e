"""Stable Diffusion's networks: files, configurations and calls of diffusers' own, at sizes of a few channels.

What they compute, forward and backward, tier "peers" holds against diffusers: parity_tests/systems/stable_diffusion.
"""

import importlib
import json

import numpy as np
import pytest

from ms_ddpm.errors import UserError

TWO = {"block_out_channels": (4, 8), "norm_num_groups": 2, "layers_per_block": 1}
SD1 = {
    **TWO,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 6,
    "attention_head_dim": 4,  # heads: of one channel at the first width
}
SD2 = {
    **SD1,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "attention_head_dim": (2, 4),
    "transformer_layers_per_block": (1, 2),
    "use_linear_projection": True,
}
DDPM = {
    **TWO,
    "down_block_types": ("AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D"),
    "attention_head_dim": 2,  # the width of a head
}
CIFAR10 = {  # what google/ddpm-cifar10-32 has otherwise
    **DDPM,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
VAE = {
    **TWO,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "scaling_factor": 0.3,
}
NETWORKS = {
    "sd1": ("unet_2d_condition", "UNet2DConditionModel", SD1),
    "sd2": ("unet_2d_condition", "UNet2DConditionModel", SD2),
    "ddpm": ("unet_2d", "UNet2DModel", DDPM),
    "cifar10": ("unet_2d", "UNet2DModel", CIFAR10),
    "vae": ("autoencoder_kl", "AutoencoderKL", VAE),
}


def class_of(name):
    module, network, _ = NETWORKS[name]
    return getattr(importlib.import_module(f"ms_ddpm.models.{module}"), network)


# --- files ----------------------------------------------------------------------------------------------------------


def old_names(name):
    """As files from before 2023 call what stands in an image's attention."""
    if ".attentions." not in name:
        return name
    for today, before in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        name = name.replace(f".{today}.", f".{before}.")
    return name


@pytest.mark.parametrize("name", ["vae", "cifar10", "sd2"])
def test_directories_of_diffusers_both_ways(mindspore, name, tmp_path):
    """What diffusers wrote is read bit for bit, and what is written then diffusers reads so, in either generation."""
    from safetensors.numpy import load_file, save_file

    diffusers = pytest.importorskip("diffusers")
    network = getattr(diffusers, NETWORKS[name][1])(**NETWORKS[name][2])
    network.save_pretrained(tmp_path / "theirs")
    ours = class_of(name).from_pretrained(tmp_path / "theirs", use_kernels=False)
    ours.save_pretrained(tmp_path / "ours")
    again, info = type(network).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values())
    for key, value in again.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), network.state_dict()[key].numpy(), err_msg=key)
    kept, written = (
        json.loads(json.dumps({key: value for key, value in one.config.items() if not key.startswith("_")}))
        for one in (network, again)
    )
    assert written == kept
    if name == "sd2":
        return
    file = tmp_path / "theirs" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    renamed = {old_names(key): value for key, value in state.items()}
    assert renamed.keys() != state.keys()
    save_file(renamed, file)
    before = class_of(name).from_pretrained(tmp_path / "theirs", use_kernels=False)
    for key, value in before.parameters_and_names():
        np.testing.assert_array_equal(value.asnumpy(), state[key], err_msg=key)


FULL = {  # parameters and tensors of the published ones
    "sd1": (859_520_964, 686, "UNet2DConditionModel", {"cross_attention_dim": 768}),
    "sd2": (
        865_910_724,
        686,
        "UNet2DConditionModel",
        {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    ),
    "vae": (
        83_653_863,
        248,
        "AutoencoderKL",
        {
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
        },
    ),
    "cifar10": (
        35_746_307,
        328,
        "UNet2DModel",
        {
            "block_out_channels": (128, 256, 256, 256),
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": None,
        },
    ),
}


@pytest.mark.parametrize("name", FULL)
def test_published_sizes_have_their_count_of_parameters(mindspore, name, monkeypatch):
    """Of shapes alone: what would be a weight is a single number, and its shape is written down."""
    from ms_ddpm.nn import layers, norms

    shapes = []

    def noted(shape):
        shapes.append(shape)
        return mindspore.Tensor(np.zeros(1, np.float32))

    monkeypatch.setattr(layers, "uniform_fan_in", lambda rng, shape, fan_in: noted(shape))
    monkeypatch.setattr(norms, "_ones", lambda *shape: noted(shape))
    monkeypatch.setattr(norms, "_zeros", lambda *shape: noted(shape))
    count, tensors, network, config = FULL[name]
    module = next(module for module, cls, _ in NETWORKS.values() if cls == network)
    getattr(importlib.import_module(f"ms_ddpm.models.{module}"), network)(**config, use_kernels=False)
    assert (sum(int(np.prod(shape)) for shape in shapes), len(shapes)) == (count, tensors)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("sd1", "addition_embed_type", "text_time"),  # SDXL
        ("sd1", "conditioning_channels", 3),  # ControlNet
        ("sd1", "class_embed_type", "projection"),
        ("sd1", "num_class_embeds", 10),
        ("sd1", "dual_cross_attention", True),
        ("sd1", "only_cross_attention", True),
        ("sd1", "down_block_types", ["SimpleCrossAttnDownBlock2D", "DownBlock2D"]),
        ("sd1", "up_block_types", ["UpBlock2D"]),
        ("sd1", "attention_head_dim", [2, 4, 4]),
        ("sd1", "attention_head_dim", 3),
        ("sd1", "downsample_padding", 2),
        ("sd1", "norm_num_groups", 3),
        ("ddpm", "time_embedding_type", "fourier"),
        ("ddpm", "attention_head_dim", 3),
        ("ddpm", "resnet_time_scale_shift", "scale_shift"),
        ("vae", "latents_mean", [0.0]),
        ("vae", "use_quant_conv", False),
        ("vae", "block_out_channels", []),
    ],
)
def test_a_configuration_of_something_else_is_named(mindspore, name, key, value):
    config = json.loads(json.dumps({**NETWORKS[name][2], key: value}))
    with pytest.raises(UserError) as caught:
        class_of(name).from_config(config, rng=0, use_kernels=False)
    message = str(caught.value)
    said = {"norm_num_groups": "groups", "attention_head_dim": "head", "block_out_channels": "block_out_channels"}
    assert said.get(key, key) in message, message
    assert len(message.splitlines()) == 1


# --- the autoencoder's distribution -----------------------------------------------------------------------------------


def test_latents_are_drawn_from_a_normal_distribution_with_bounded_variance(mindspore, rng):
    from ms_ddpm.models.autoencoder_kl import LatentDistribution

    moments = rng.standard_normal((2, 8, 3, 5), dtype=np.float32)
    moments[0, 4:6], moments[1, 5:] = -77, 31
    found = LatentDistribution(mindspore.Tensor(moments))
    logvar = found.logvar.asnumpy()
    np.testing.assert_array_equal(found.mode().asnumpy(), moments[:, :4])
    np.testing.assert_array_equal(logvar, np.clip(moments[:, 4:], -30, 20))
    noise = np.random.default_rng(5).standard_normal((2, 4, 3, 5), dtype=np.float32)
    expected = moments[:, :4] + np.exp(logvar.astype(np.float64) / 2) * noise
    for source in (np.random.default_rng(5), noise, mindspore.Tensor(noise)):
        np.testing.assert_allclose(found.sample(source).asnumpy(), expected, rtol=2e-5)
    with pytest.raises(UserError, match=r"noise has shape \(2, 4, 3, 4\), expected the latents' \(2, 4, 3, 5\)"):
        found.sample(noise[..., 1:])


def test_an_autoencoder_takes_arrays_and_gives_latents_as_they_are(mindspore, rng):
    ours = class_of("vae")(**VAE, rng=0, use_kernels=False)
    images = rng.standard_normal((3, 3, 10, 6), dtype=np.float32)
    latents = ours.encode(images)
    assert latents.mean.shape == (3, 4, 5, 3)
    there_and_back = ours.decode(latents.mode().asnumpy()).asnumpy()
    np.testing.assert_array_equal(ours(images).asnumpy(), there_and_back)
    assert ours.config.scaling_factor == 0.3


def test_a_time_is_one_number_or_one_for_each_image(mindspore, rng):
    ours = class_of("ddpm")(**DDPM, rng=0, use_kernels=False)
    x = rng.standard_normal((3, 3, 8, 6), dtype=np.float32)
    one = ours(x, 7).asnumpy()
    for time in (np.int64(7), np.array([7]), np.full(3, 7.0), mindspore.Tensor([7, 7, 7])):
        np.testing.assert_array_equal(ours(x, time).asnumpy(), one)
    several = ours(x, [7, 7.5, 999]).asnumpy()
    np.testing.assert_allclose(several[0], one[0], rtol=1e-5, atol=1e-6)
    assert abs(several[1] - one[1]).max() > 1e-4
    with pytest.raises(UserError, match=r"timestep has shape .2,., expected one number, or 3"):
        ours(x, [1, 2])


def test_what_a_network_is_called_with_fits_it(mindspore, rng):
    ours = class_of("sd1")(**SD1, rng=0, use_kernels=False)
    x, words = rng.standard_normal((3, 4, 7, 6), dtype=np.float32), rng.standard_normal((3, 5, 6), dtype=np.float32)
    assert ours(x, 3, words).shape == x.shape
    with pytest.raises(UserError, match=r"encoder_hidden_states has shape \(3, 5, 7\), expected \(3, words, 6\)"):
        ours(x, 3, np.zeros((3, 5, 7), np.float32))
    with pytest.raises(UserError, match=r"encoder_hidden_states has shape \(2, 5, 6\), expected \(3, words, 6\)"):
        ours(x, 3, words[:2])
    with pytest.raises(UserError, match=r"sample has shape \(3, 3, 7, 6\), expected \(images, 4, height, width\)"):
        ours(x[:, 1:], 3, words)


PUBLISHED = {  # keys of the published configurations beside those of their sizes
    "sd1": {"_diffusers_version": "0.6.0", "act_fn": "silu", "center_input_sample": False, "downsample_padding": 1,
            "flip_sin_to_cos": True, "freq_shift": 0, "mid_block_scale_factor": 1, "norm_eps": 1e-05,
            "sample_size": 64},
    "sd2": {"dual_cross_attention": False, "num_class_embeds": None, "only_cross_attention": False,
            "upcast_attention": True, "sample_size": 96},
    "cifar10": {"act_fn": "silu", "center_input_sample": False, "mid_block_scale_factor": 1, "sample_size": 32,
                "time_embedding_type": "positional"},
    "vae": {"act_fn": "silu", "sample_size": 512},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_of_published_configurations_are_known(mindspore, name):
    title = {"_class_name": NETWORKS[name][1]}
    made = class_of(name).from_config({**title, **NETWORKS[name][2], **PUBLISHED[name]}, rng=0, use_kernels=False)
    for key, value in PUBLISHED[name].items():
        assert key.startswith("_") or made.config[key] == value
