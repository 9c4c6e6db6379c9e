"""A LoRA file of each format that is about, in StableDiffusionPipeline: the pictures are diffusers'."""

import numpy as np
import pytest
import torch

from tests.models.test_lora_networks import made
from tests.storage.test_lora_files import FORMATS, put

from .test_stable_diffusion import HEIGHT, LATENTS, WIDTH, texts

for name in ("diffusers", "tokenizers", "peft"):
    pytest.importorskip(name)

FEW = texts(height=HEIGHT, width=WIDTH, num_inference_steps=2)


@pytest.fixture(scope="module")
def bare(pair):
    """Our pictures without a LoRA."""
    return pair[1](**FEW, latents=LATENTS).images


@pytest.mark.parametrize("name", FORMATS)
def test_pictures_are_diffusers_s_with_a_file_of_every_format(name, pair, bare, rng, tmp_path):
    theirs, ours, _ = pair
    loras = made({"unet": ours.unet, "text_encoder": ours.text_encoder}, rng, everywhere=False)
    file = put(tmp_path / "lora.safetensors", FORMATS[name](loras))
    ours.load_lora_weights(file, adapter_name="style")
    if name == "without prefix":  # which diffusers passes over with a warning
        put(file, FORMATS["processors"]({"unet": loras["unet"]}))
    theirs.load_lora_weights(str(tmp_path), weight_name=file.name, adapter_name="style")
    try:
        theirs.set_adapters("style", 0.7)
        ours.set_adapters("style", 0.7)
        expected = theirs(**FEW, latents=torch.from_numpy(LATENTS)).images
        beside = ours(**FEW, latents=LATENTS).images
        np.testing.assert_allclose(beside, expected, atol=1e-4)
        assert np.abs(beside - bare).max() > 0.01, "it does something"
        ours.fuse_lora()
        np.testing.assert_allclose(ours(**FEW, latents=LATENTS).images, beside, atol=1e-5)
        ours.unfuse_lora()
        ours.set_adapters("style", 0.0)
        assert np.array_equal(ours(**FEW, latents=LATENTS).images, bare), "scale 0 is the base, bit for bit"
    finally:
        theirs.unload_lora_weights()
        ours.unload_lora_weights()
