"""LoRA files in Stable Diffusion's own networks, against diffusers' and transformers' with the same file."""

import importlib.util
import logging

import numpy as np
import pytest

from tests.storage.test_lora_files import FORMATS, put

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(f"ms_ddpm.models.{name}") for name in ("unet_2d_condition", "clip_text")),
    reason="the networks are not here yet",
)

UNET = {
    "block_out_channels": (4, 8), "norm_num_groups": 2, "layers_per_block": 1, "cross_attention_dim": 6,
    "attention_head_dim": 2, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
TEXT = {
    "vocab_size": 50, "hidden_size": 6, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 9, "bos_token_id": 48, "eos_token_id": 49,
}  # fmt: skip
WORDS = ("q_proj", "k_proj", "v_proj", "out_proj")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Both networks as their own libraries write them."""
    for name in ("torch", "peft", "diffusers"):
        pytest.importorskip(name)
    transformers = pytest.importorskip("transformers")
    import torch
    from diffusers import UNet2DConditionModel

    transformers.logging.set_verbosity_error()
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("networks")
    UNet2DConditionModel(**UNET).save_pretrained(folder / "unet")
    transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT)).save_pretrained(folder / "text_encoder")
    return folder


def our_networks(folders):
    from ms_ddpm.models.clip_text import CLIPTextModel
    from ms_ddpm.models.unet_2d_condition import UNet2DConditionModel

    return {
        "unet": UNet2DConditionModel.from_pretrained(folders / "unet"),
        "text_encoder": CLIPTextModel.from_pretrained(folders / "text_encoder"),
    }


@pytest.fixture
def ours(folders, mindspore):
    return our_networks(folders)


def their_networks(folders):
    from diffusers import UNet2DConditionModel
    from diffusers.loaders import StableDiffusionLoraLoaderMixin
    from transformers import CLIPTextModel

    class Pipeline(StableDiffusionLoraLoaderMixin):
        hf_device_map = None
        unet = UNet2DConditionModel.from_pretrained(folders / "unet")
        text_encoder = CLIPTextModel.from_pretrained(folders / "text_encoder")
        components = {"unet": unet, "text_encoder": text_encoder}  # noqa: RUF012

    return Pipeline()


@pytest.fixture
def theirs(folders):
    return their_networks(folders)


@pytest.fixture(scope="module")
def base(folders, mindspore):
    """What both libraries' networks say without a LoRA."""
    found = run_ours(our_networks(folders), mindspore)
    assert max(shares(found, run_theirs(their_networks(folders)))) < 1e-5
    return found


IDS = np.array([[48, 3, 7, 49, 0], [48, 9, 49, 0, 0]], np.int32)
TIMES = np.array([7, 801], np.int32)


def latents():
    return np.random.default_rng(5).standard_normal((2, 4, 6, 10), dtype=np.float32)


def run_ours(networks, mindspore):
    """(the prompt's embedding, what the U-Net says of it)."""
    ids, times = mindspore.Tensor(IDS), mindspore.Tensor(TIMES)
    words = networks["text_encoder"](ids)
    words = words[0] if isinstance(words, tuple) else words
    return words.asnumpy(), networks["unet"](mindspore.Tensor(latents()), times, words).asnumpy()


def run_theirs(pipeline):
    import torch

    with torch.no_grad():
        words = pipeline.text_encoder(torch.from_numpy(IDS).long())[0]
        sample = pipeline.unet(torch.from_numpy(latents()), torch.from_numpy(TIMES), words, return_dict=False)[0]
    return words.numpy(), sample.numpy()


def shares(found, expected):
    return [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, expected, strict=True)]


def made(networks, rng, everywhere):
    """A trained LoRA for each network; ``everywhere`` is in every dense and convolution layer of the U-Net."""
    from ms_ddpm.nn.adapters import TARGETS, factor_shapes, targeted, weight_shapes
    from ms_ddpm.storage.lora_files import Factors

    found = {}
    for name, network in networks.items():
        shapes = weight_shapes(network)
        paths = (
            list(shapes) if everywhere and name == "unet" else targeted(shapes, TARGETS if name == "unet" else WORDS)
        )
        found[name] = {
            path: Factors(
                *(0.2 * rng.standard_normal(s, dtype=np.float32) for s in factor_shapes(shapes[path], 3)), 3.0
            )
            for path in paths
        }
    return found


def test_what_peft_saves_itself_gives_the_network_of_diffusers(base, ours, theirs, mindspore, rng, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=3, lora_alpha=5, target_modules=["to_q", "to_v", "conv1"], alpha_pattern={"conv1": 2})
    adapted = get_peft_model(theirs.unet, config)
    for name, parameter in adapted.named_parameters():
        if ".lora_" in name:
            noise = 0.2 * rng.standard_normal(tuple(parameter.shape), dtype=np.float32)
            parameter.data = torch.from_numpy(noise)
    adapted.save_pretrained(tmp_path)
    ours["unet"].load_attn_procs(tmp_path)
    expected, result = run_theirs(theirs), run_ours(ours, mindspore)
    assert max(shares(result, expected)) < 1e-5, shares(result, expected)
    assert shares(result, base)[1] > 0.02


@pytest.mark.parametrize("name", [*FORMATS, "kohya everywhere"])
def test_every_format_gives_the_networks_of_diffusers(name, base, ours, theirs, mindspore, rng, tmp_path):
    from ms_ddpm.nn.adapters import Adapters, weight_shapes
    from ms_ddpm.storage import lora_files

    loras = made(ours, rng, name == "kohya everywhere")
    file = put(tmp_path / "lora.safetensors", FORMATS[name.removesuffix(" everywhere")](loras))
    found = lora_files.read(file, {network: weight_shapes(cell) for network, cell in ours.items()})
    adapters = {network: Adapters(ours[network]) for network, factors in found.items() if factors}
    for network, one in adapters.items():
        one.load("style", found[network])
    if name == "without prefix":  # which diffusers passes over with a warning
        file = put(file, FORMATS["processors"]({"unet": loras["unet"]}))
    theirs.load_lora_weights(str(tmp_path), weight_name=file.name, adapter_name="style")
    expected, result = run_theirs(theirs), run_ours(ours, mindspore)
    assert max(shares(result, expected)) < 1e-5, shares(result, expected)
    moved = shares(result, base)
    assert min(moved[1:] if name == "without prefix" else moved) > 0.02, moved
    if name not in ("kohya", "kohya everywhere"):  # what is in a layer no longer knows where it came from
        return
    for one in adapters.values():
        one.fuse()
    assert max(shares(run_ours(ours, mindspore), result)) < 1e-5
    for one in adapters.values():
        one.unfuse()
        one.set_scales({"style": 0.0})
    for a, b in zip(run_ours(ours, mindspore), base, strict=True):
        np.testing.assert_array_equal(a, b)
