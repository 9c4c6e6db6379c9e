"""What is drawn with Stable Diffusion's networks: the guided output, latents and images, whole chains.

On MindSpore's side it is the pipeline itself that is called, tokenizer and all. No two images, prompts or sides are
alike: two prompts with two pictures of each, of twelve by ten pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from parity_tests.make import cases, computation
from portparity.arrays import normal, weights
from portparity.backends import backend, leg
from portparity.case import Arrays, Case, Computation

B, H, W, LENGTH, WIDTH = 4, 12, 10, 14, 6  # pictures, their sides, tokens of a prompt, width of their vectors
LATENTS = (4, H // 2, W // 2)
PARTS = {
    "unet": {
        "widths": [4, 8], "layers": 1, "groups": 2, "heads": [2, 4], "context_dim": WIDTH, "attends": [False, True],
        "linear": False, "depth": 1, "seen": 4,
    },
    "autoencoder": {"widths": [4, 8], "layers": 1, "groups": 2},
    "text": {
        "hidden_size": WIDTH, "intermediate_size": 10, "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": LENGTH, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    },
    "captions": [f"a {colour} {digit}" for colour in ("red", "blue", "grey") for digit in ("three", "seven")],
    "merges": 12,
    "pad": "<|endoftext|>", "factor": 0.4,
}  # fmt: skip
FILLS_IN = {**PARTS, "unet": {**PARTS["unet"], "seen": 9}}
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}  # Stable Diffusion's
ONE = {"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}
DDIM = {"scheduler": "DDIMScheduler", "config": {**STABLE, **ONE}}
PNDM = {"scheduler": "PNDMScheduler", "config": {**STABLE, "skip_prk_steps": True, "steps_offset": 1}}
DPM = {"scheduler": "DPMSolverMultistepScheduler", "config": {**STABLE, "use_karras_sigmas": True}}
ANCESTRAL = {"scheduler": "EulerAncestralDiscreteScheduler", "config": {**STABLE, "timestep_spacing": "leading"}}
UNIPC = {"scheduler": "UniPCMultistepScheduler", "config": {**STABLE, "solver_type": "bh2"}}
EULER = {"scheduler": "EulerDiscreteScheduler", "config": {**STABLE, "timestep_spacing": "trailing"}}
TEXTS = {"prompts": ["a red three", "two blue digits"], "negative": ["grey", "one green seven, bold"], "scale": 5.0}
CHAINS: dict[str, Mapping] = {
    "ddim": {**DDIM, "eta": 0.6, "negative": "a grey seven"},
    "pndm": {**PNDM, "share": 0.7},
    "dpm": {**DPM, "given": ["prompt", "negative", "first"], "change": [1, 0.5]},
    "unipc": {**UNIPC, "negative": None},
    "euler": EULER,
    "ancestral": ANCESTRAL,
    "image-ddim": {**DDIM, "scale": 1.0, "negative": None, "strength": 0.8},
    "image-pndm": {**PNDM, "strength": 0.8, "given": ["first"]},
    "image-dpm": {**DPM, "strength": 0.8},
    "image-unipc": {**UNIPC, "strength": 0.8},
    "image-ancestral": {**ANCESTRAL, "strength": 0.8},
    "mask-pndm": {**PNDM, "strength": 0.8, "masked": True},
    "mask-dpm": {**DPM, "strength": 1.0, "masked": True},
    "mask-unipc": {**UNIPC, "strength": 0.8, "masked": True},
    "mask-ancestral": {**ANCESTRAL, "strength": 1.0, "masked": True},
    "seen_mask-ddim": {**DDIM, "strength": 0.8, "masked": True, "parts": FILLS_IN},
    "seen_mask-dpm": {**DPM, "strength": 1.0, "masked": True, "parts": FILLS_IN},
}
GUIDED = {"guided": {"scale": 7.5, "share": 0.0}, "guided_rescaled": {"scale": 7.5, "share": 0.3}}


def guided_inputs(rng: np.random.Generator) -> Arrays:
    """A network's outputs without and with the prompt, of another deviation in every image."""
    spread = np.float32([0.3, 1.0, 2.5]).reshape(3, 1, 1, 1)
    plain = normal(rng, 3, *LATENTS)
    return {"plain": plain, "prompted": plain + spread * normal(rng, 3, *LATENTS)}


def tier1(seed: int = 0) -> Iterator[Case]:
    """The guided output, and the one whose deviation is brought back."""
    for name, spec in GUIDED.items():
        for mode in ("graph", "pynative") if spec["share"] else ("pynative",):
            made = computation(
                f"step/sd_{name}-{mode}", "sd_guided", spec, guided_inputs, truth="numpy", mode=mode, seed=seed,
                scales=leg("numpy", "sd_guided_scales", spec),
            )  # fmt: skip
            yield from cases("1", made, mode=mode)


def part_weights(rng: np.random.Generator, parts: Mapping) -> Arrays:
    """Weights of the three networks, of which none is 0 or 1, under "weight.PART.NAME"."""
    backend("torch")  # says so where PyTorch is not installed
    from ..on_torch.drawing import shapes

    found = {}
    for name, value in weights(shapes(parts), rng).items():
        is_gain = value.ndim == 1 and name.endswith("weight")
        found[name] = 1 + np.float32(0.2) * value if is_gain else value
    return found


def latents_inputs(rng: np.random.Generator, spec: Mapping) -> Arrays:
    """Images to encode, latents to decode, and the noise of the former."""
    found = part_weights(rng, spec["parts"])
    found |= {"image": rng.random((B, H, W, 3), dtype=np.float32), "noise": normal(rng, B, *LATENTS)}
    return found | {"z": np.float32(0.5) * normal(rng, B, *LATENTS)}


def tier3(seed: int = 0) -> Iterator[Case]:
    """Images to latents as the pipeline draws them, and latents to images as its last line does."""
    spec = {"parts": PARTS}
    made = computation(
        "network/sd_latents-pynative", "sd_latents", spec, partial(latents_inputs, spec=spec), mode="pynative",
        seed=seed, rule="layers", other_kernels=True,
    )  # fmt: skip
    yield from cases("3", made, mode="pynative")


def drawing_inputs(rng: np.random.Generator, spec: Mapping) -> Arrays:
    """Weights and noise; an image and a mask, or vectors in the place of prompts, where the chain begins with them."""
    found = part_weights(rng, spec["parts"])
    found |= {f"noise.{name}": normal(rng, B, *LATENTS) for name in ("first", "image", "known")}
    found["noise.steps"] = normal(rng, spec["steps"], B, *LATENTS)
    if "strength" in spec:
        found["image"] = rng.random((2, H, W, 3), dtype=np.float32)
    if spec.get("masked"):
        found["mask"] = (rng.random((2, H, W, 1)) > 0.4).astype(np.float32)
    if "prompt" in spec["given"]:
        found |= {name: normal(rng, 2, LENGTH, WIDTH) for name in ("prompt", "negative")}
    return found


def drawing(name: str, row: Mapping, mode: str, seed: int) -> Computation:
    """One chain, drawn by the pipeline; compiled, it is as users have it."""
    spec = {"parts": PARTS, "steps": 4, "given": [], "copies": 2, **TEXTS, **row}
    return computation(
        f"sampling/sd_{name}{'-graph' if mode == 'graph' else ''}", "sd_drawing", spec,
        partial(drawing_inputs, spec=spec), mode=mode, seed=seed, rule="envelope",
    )  # fmt: skip


def tier5(seed: int = 0) -> Iterator[Case]:
    """From a prompt, from an image, through a mask, and by a network that sees the mask."""
    for name, row in CHAINS.items():
        for mode in ("graph", "pynative") if name == "mask-pndm" else ("pynative",):
            yield from cases("5", drawing(name, row, mode, seed), mode=mode)
