"""Tiny directories as diffusers writes them, their pipelines there, and what both libraries are given."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from unittest import mock

import numpy as np
import torch

CAPTIONS = ["a red three", "a blue seven on grey", "two green digits, one bold", "a pokemon with white legs"] * 3
TWO = {"block_out_channels": (8, 16), "norm_num_groups": 2, "layers_per_block": 1}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD1 = {**BETAS, "skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}
HEIGHT, WIDTH = 32, 24  # of pictures; latents are half of it


def with_biases(network, seed):
    """A network whose every number counts: biases that PyTorch leaves at 0 are not."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter += torch.from_numpy(0.1 * rng.standard_normal(parameter.shape).astype(np.float32))
    return network.eval()


def networks(in_channels=4):
    """diffusers' and transformers' networks, smaller than any that is of use."""
    import diffusers
    import transformers

    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=12, in_channels=in_channels, cross_attention_dim=12, attention_head_dim=2, **TWO,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        **TWO | {"block_out_channels": (4, 8)}, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            hidden_size=12, intermediate_size=17, num_attention_heads=3, num_hidden_layers=2, vocab_size=600,
            eos_token_id=599, bos_token_id=598, pad_token_id=599,
        )
    )  # fmt: skip
    return {
        name: with_biases(network, i)
        for i, (name, network) in enumerate({"unet": unet, "vae": vae, "text_encoder": text}.items())
    }


def stable_diffusion(folder, in_channels=4):
    """diffusers' pipeline, saved in ``folder``."""
    import diffusers
    import transformers

    from ms_ddpm.data.tokenizer import CLIPTokenizer

    CLIPTokenizer.trained(CAPTIONS, 600).save_pretrained(folder / "words")
    pipe = diffusers.StableDiffusionPipeline(
        **networks(in_channels), tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "words"),
        scheduler=diffusers.PNDMScheduler(**{k: v for k, v in SD1.items() if k != "clip_sample"}),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder / "sd")
    return pipe


def sister(pipe, name):
    """diffusers' other pipeline ``name`` of the same parts."""
    import diffusers

    parts = {part: pipe.components[part] for part in pipe.components if part != "image_encoder"}
    made = getattr(diffusers, name)(**parts, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


def drawn_from(tape):
    """A context in which what diffusers draws is ``tape``, array by array."""
    entries = iter(tape)

    def draw(shape, *args, **kwargs):
        return torch.from_numpy(next(entries)).reshape(shape)

    inside = ExitStack()
    for name, module in list(sys.modules.items()):
        if name.startswith("diffusers") and "randn_tensor" in vars(module):
            inside.enter_context(mock.patch.object(module, "randn_tensor", draw))
    return inside
