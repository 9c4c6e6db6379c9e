"""Tiny directories as diffusers writes them, their pipelines there, and what both libraries are given."""

from __future__ import annotations

import json
import shutil
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


def unconditional(place):
    """A small sister of google/ddpm-cifar10-32, saved in ``place``."""
    import diffusers

    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, norm_eps=1e-6,
        downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, attention_head_dim=None,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    diffusers.DDPMPipeline(with_biases(unet, 5), diffusers.DDPMScheduler(clip_sample=False)).save_pretrained(place)
    return place


# What stands in the files of stable-diffusion-v1-5 and stable-diffusion-2-1 beside the sizes.
PUBLISHED = {
    "v1-5": {
        "model_index.json": {
            "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0",
            "feature_extractor": ["transformers", "CLIPImageProcessor"], "requires_safety_checker": True,
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "scheduler": ["diffusers", "PNDMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
        "scheduler/scheduler_config.json": {
            "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", **BETAS, "clip_sample": False,
            "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
            "trained_betas": None,
        },
        "text_encoder/config.json": {
            "_name_or_path": "openai/clip-vit-large-patch14", "architectures": ["CLIPTextModel"],
            "attention_dropout": 0.0, "bos_token_id": 0, "dropout": 0.0, "eos_token_id": 2, "hidden_act": "quick_gelu",
            "initializer_factor": 1.0, "initializer_range": 0.02, "layer_norm_eps": 1e-05,
            "max_position_embeddings": 77, "model_type": "clip_text_model", "pad_token_id": 1, "projection_dim": 768,
            "torch_dtype": "float32", "transformers_version": "4.22.0.dev0",
        },
        "unet/config.json": {
            "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu",
            "center_input_sample": False, "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0,
            "mid_block_scale_factor": 1, "norm_eps": 1e-05,
        },
        "vae/config.json": {
            "_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu", "in_channels": 3,
            "latent_channels": 4, "out_channels": 3, "sample_size": 512,
        },
    },
}  # fmt: skip
PUBLISHED["2-1"] = PUBLISHED["v1-5"] | {
    "model_index.json": PUBLISHED["v1-5"]["model_index.json"] | {
        "requires_safety_checker": False, "safety_checker": [None, None], "scheduler": ["diffusers", "DDIMScheduler"],
    },
    "scheduler/scheduler_config.json": PUBLISHED["v1-5"]["scheduler/scheduler_config.json"] | {
        "_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", "prediction_type": "v_prediction",
    },
    "text_encoder/config.json": PUBLISHED["v1-5"]["text_encoder/config.json"] | {
        "hidden_act": "gelu", "projection_dim": 512, "transformers_version": "4.25.0.dev0",
    },
    "unet/config.json": PUBLISHED["v1-5"]["unet/config.json"] | {
        "attention_head_dim": [2, 4], "dual_cross_attention": False, "num_class_embeds": None,
        "only_cross_attention": False, "upcast_attention": True, "use_linear_projection": True,
    },
}  # fmt: skip
SIZES = {  # the keys of today's files that are kept
    "text_encoder": ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size"),
    "unet": ("attention_head_dim", "block_out_channels", "cross_attention_dim", "down_block_types", "in_channels",
             "layers_per_block", "norm_num_groups", "out_channels", "sample_size", "up_block_types"),
    "vae": ("block_out_channels", "down_block_types", "layers_per_block", "norm_num_groups", "up_block_types"),
}  # fmt: skip


def _name_then(part, name):
    """What a file of 2022 calls a weight."""
    if part == "text_encoder":
        return f"text_model.{name}"
    if part == "vae" and ".attentions." in name:
        for today, before in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            name = name.replace(f".{today}.", f".{before}.")
    return name


def published(today, place, kind):
    """The directory ``today`` with the files, names and keys of Stable Diffusion ``kind`` as it was published."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(today, place)
    for part, kept in SIZES.items():
        (path,) = (place / part).glob("*.safetensors")
        state = {_name_then(part, name): value for name, value in load_file(path).items()}
        if part == "text_encoder":
            state["text_model.embeddings.position_ids"] = np.arange(77)[None]
        if part == "unet" and kind == "2-1":
            state = {name: value[:, :, 0, 0] if ".proj_" in name and value.ndim == 4 else value
                     for name, value in state.items()}  # fmt: skip
        save_file(state, path, {"format": "pt"})
        (path.parent / f"{path.stem}.non_ema.bin").write_bytes(b"a pickle that nobody opens")
        sizes = json.loads((place / part / "config.json").read_text())
        config = {key: sizes[key] for key in kept} | PUBLISHED[kind][f"{part}/config.json"]
        (place / part / "config.json").write_text(json.dumps(config))
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        (place / name).write_text(json.dumps(PUBLISHED[kind][name]))
    return place


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
