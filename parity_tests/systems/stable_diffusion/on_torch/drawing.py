"""What `torch_ref` draws with Stable Diffusion's networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

import torch_ref
from parity_tests.backends.shared_torch import kernels
from portparity.arrays import given
from portparity.case import Arrays
from portparity.on_torch import DTYPES, arrays, load, tensor
from torch_ref.systems import clip_text
from torch_ref.systems import stable_diffusion as networks
from torch_ref.systems import text_to_image as reference


def sd_guided(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The guided output of a network's two."""
    plain, prompted = (tensor(inputs[name], dtype) for name in ("plain", "prompted"))
    eps = reference.guided(plain, prompted, spec["scale"])
    return arrays({"eps": reference.rescaled(eps, prompted, spec["share"]) if spec["share"] else eps})


def networks_of(parts: Mapping) -> dict[str, nn.Module]:
    """The three networks."""
    words = len(clip_text.vocabulary(clip_text.learn(parts["captions"], parts["merges"])))
    return {
        "unet": networks.conditional_unet(**parts["unet"]),
        "autoencoder": networks.AutoencoderKL(**parts["autoencoder"]),
        "text": clip_text.TextEncoder(vocab_size=words, eos_token_id=words - 1, **parts["text"]),
    }


def shapes(parts: Mapping) -> dict[str, tuple[int, ...]]:
    """Names and shapes of their parameters."""
    made = networks_of(parts).items()
    return {f"{part}.{name}": tuple(p.shape) for part, net in made for name, p in net.named_parameters()}


def _loaded(parts: Mapping, inputs: Arrays, dtype: str) -> dict[str, nn.Module]:
    made = networks_of(parts)
    for part, net in made.items():
        load(net, {f"weight.{name}": value for name, value in given(inputs, f"weight.{part}").items()}, dtype)
    return made


def channels_first(images: np.ndarray, dtype: str) -> torch.Tensor:
    """(B, H, W, C) -> (B, C, H, W)."""
    return tensor(images, dtype).permute(0, 3, 1, 2)


@torch.no_grad()
@kernels
def sd_latents(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Images as latents, and latents as images."""
    made = _loaded(spec["parts"], inputs, dtype)
    pipe = reference.TextToImage(made["unet"], made["autoencoder"], None, spec["parts"]["factor"])
    z = pipe.latents_of(channels_first(inputs["image"], dtype), tensor(inputs["noise"], dtype))
    return arrays({"latents": z, "images": pipe.images_of(tensor(inputs["z"], dtype))})


def _vectors(texts: Sequence[str], text_encoder: nn.Module, parts: Mapping) -> torch.Tensor:
    merges = clip_text.learn(parts["captions"], parts["merges"])
    length = parts["text"]["max_position_embeddings"]
    return text_encoder(clip_text.encode(texts, merges, length, parts["pad"]))[0]


def _prompts(spec: Mapping, inputs: Arrays, text_encoder: nn.Module, dtype: str) -> list[torch.Tensor]:
    """The prompts' vectors and the negative prompts', each as often as there are pictures of it."""
    if "prompt" in inputs:
        found = [tensor(inputs[name], dtype) for name in ("prompt", "negative")]
    else:
        prompts, negative = spec["prompts"], spec["negative"] or ""
        negative = [negative] * len(prompts) if isinstance(negative, str) else negative
        found = [_vectors(texts, text_encoder, spec["parts"]) for texts in (prompts, negative)]
    return [vectors.repeat_interleave(spec["copies"], 0) for vectors in found]


@torch.no_grad()
@kernels
def sd_drawing(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """A chain: the latents behind every step, and the images."""
    parts, made = spec["parts"], _loaded(spec["parts"], inputs, dtype)
    scheduler = getattr(torch_ref, spec["scheduler"])(**spec["config"], dtype=DTYPES[dtype])
    pipe = reference.TextToImage(made["unet"], made["autoencoder"], scheduler, parts["factor"])
    noise = {name: tensor(value, dtype) for name, value in given(inputs, "noise").items()}
    of_images = [
        channels_first(inputs[name], dtype).repeat_interleave(spec["copies"], 0) if name in inputs else None
        for name in ("image", "mask")
    ]
    asked = reference.Asked(
        spec["steps"], spec["scale"], spec.get("share", 0.0), spec.get("strength", 1.0),
        {"eta": spec["eta"]} if "eta" in spec else {},
    )  # fmt: skip
    at, factor = spec.get("change", (None, 1))

    def change(i: int, z: torch.Tensor) -> torch.Tensor:
        return factor * z if i == at else z

    prompts = _prompts(spec, inputs, made["text"], dtype)
    if "image" not in inputs:
        noise["image"] = None
    chain, images = pipe.draw(*prompts, reference.Noise(**noise), asked, *of_images, change)
    return arrays({"chain": chain, "images": images[None]})
