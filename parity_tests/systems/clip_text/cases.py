"""CLIP's text encoder: its tokenizer (tier 0), its layers (tier 2) and the whole of it (tier 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from parity_tests.make import cases, computation, shapes_of
from portparity.arrays import normal, weights
from portparity.backends import leg
from portparity.case import Arrays, Case, Computation

WITHOUT_PRODUCTS = ("clip_embeddings",)
T, END = 5, 29  # tokens of a text, of 7 positions that there are; the number that ends one
WIDE = {"width": 12, "heads": 3}
ROWS: dict[str, tuple[str, Mapping]] = {  # name: the layer and its arguments
    "clip_embeddings": ("clip_embeddings", {"words": 30, "width": 12, "positions": 7}),
    "clip_attention": ("clip_attention", WIDE | {"positions": 7}),
    "clip_mlp": ("clip_mlp", {"width": 12, "inner": 20, "act": "quick_gelu"}),
    "clip_mlp_gelu": ("clip_mlp", {"width": 12, "inner": 20, "act": "gelu"}),
    "clip_layer": ("clip_layer", WIDE | {"inner": 20, "positions": 7, "act": "quick_gelu", "eps": 1e-5}),
}
SCALES = (0.02, 1, 30)
SIZES = {
    "vocab_size": 30, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 3,
    "max_position_embeddings": 7,
}  # fmt: skip
NETWORKS = {  # name: (what Stable Diffusion 1 and 2 differ in, modes)
    "clip_text_sd1": ({"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 2}, ("graph", "pynative")),
    "clip_text_sd2": ({"hidden_act": "gelu", "layer_norm_eps": 1e-5, "eos_token_id": END}, ("pynative",)),
}
CAPTIONS = [
    f"a {colour} {digit}" for colour in ("red", "green", "blue") for digit in ("one", "two", "three", "seven")
] + ["a pokémon with a green head and white legs", "it's they've we'd don't", "naïve café crème 宝可梦 宝可梦"]
PROMPTS = [
    "A Red three, it's 3D!", "", "cafe\u0301 CRÈME\n\tnaïve  ", "🤖 robots, 🇩🇪\u200d", "f/1.8 (seven:1.3) don't",
    "宝可梦 ²½Ⅷ", "eve", "threethree seven" * 9,
]  # fmt: skip


def text_ids(rng: np.random.Generator) -> np.ndarray:
    """Three texts; the ends of two stand more than once."""
    ids = rng.integers(0, END, (3, T), dtype=np.int32)
    ids[0, 2:], ids[1, T - 1], ids[2, 3:] = END, END, (END, 0)
    return ids


def near_one(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights whose gains, the norms', are near 1."""
    return {
        name: 1 + np.float32(0.2) * value if value.ndim == 1 and name.endswith("weight") else value
        for name, value in found.items()
    }


def layer_inputs(rng: np.random.Generator, name: str, scale: float) -> Arrays:
    """What a layer is called with, ids or a sequence of the given ``scale``, its weights and a cotangent."""
    kind, arguments = ROWS[name]
    found = near_one(weights(shapes_of(kind, arguments), rng))
    found |= {"ids": text_ids(rng)} if "words" in arguments else {"x": np.float32(scale) * normal(rng, 3, T, 12)}
    return found | {"cotangent": normal(rng, 3, T, 12)}


def layer_computation(name: str, scale: float, seed: int = 0) -> Computation:
    """One layer, at one scale of its input."""
    kind, arguments = ROWS[name]
    of_ids = "words" in arguments
    spec = {
        "layer": kind, "arguments": arguments, "calls": ["ids"] if of_ids else ["x"],
        "differentiable": [] if of_ids else [0],
    }  # fmt: skip
    return computation(
        f"layers/{name}-scale{scale:g}-pynative", "layer", spec, partial(layer_inputs, name=name, scale=scale),
        scales=leg("torch", "layer_scales", spec), mode="pynative", seed=seed, rule="layers",
    )  # fmt: skip


def network_inputs(rng: np.random.Generator, name: str) -> Arrays:
    """Weights, texts, and a cotangent of every token's vector and, behind them, of the end's."""
    found = near_one(weights(shapes_of("clip_text", {**SIZES, **NETWORKS[name][0]}), rng))
    return found | {"ids": text_ids(rng), "cotangent": normal(rng, 3, T + 1, 12)}


def network_computation(name: str, mode: str, seed: int = 0) -> Computation:
    """A whole text encoder."""
    spec = {
        "layer": "clip_text", "arguments": {**SIZES, **NETWORKS[name][0]}, "calls": ["ids"], "differentiable": [],
    }  # fmt: skip
    return computation(
        f"network/{name}-{mode}", "layer", spec, partial(network_inputs, name=name),
        scales=leg("torch", "layer_scales", spec), mode=mode, seed=seed, rule="layers",
    )  # fmt: skip


def nothing(rng: np.random.Generator) -> Arrays:
    """No inputs."""
    return {}


def tier0(seed: int = 0) -> Iterator[Case]:
    """A vocabulary learnt from captions, and prompts in it, padded as Stable Diffusion 1 does and as 2 does."""
    for name, pad in (("sd1", "<|endoftext|>"), ("sd2", "!")):
        spec = {"captions": CAPTIONS, "merges": 25, "prompts": PROMPTS, "length": 20, "pad": pad}
        if pad == "!":  # which is a special token then, for us as for transformers, wherever it stands
            spec["prompts"] = [prompt.replace("!", "") for prompt in PROMPTS]
        made = computation(
            f"maths/clip_tokens-{name}", "clip_tokens", spec, nothing, truth="numpy", mode="pynative", rule="exact",
            seed=seed, neighbours=0,
        )  # fmt: skip
        yield from cases("0", made, mode="pynative")


def tier2(seed: int = 0) -> Iterator[Case]:
    """Every layer alone: forward and vector-Jacobian product."""
    for name, (_, arguments) in ROWS.items():
        for scale in (1,) if "words" in arguments else SCALES:
            made = layer_computation(name, scale, seed)
            stem = made.key.removesuffix("-pynative")
            named = (f"{stem}-forward-pynative", ("y",)), (f"{stem}-vjp-pynative", ("grad.*",))
            yield from cases("2", made, *named, mode="pynative")


def tier3(seed: int = 0) -> Iterator[Case]:
    """The text encoders of Stable Diffusion 1 and 2, small: every token's vector, the end's, every gradient."""
    for name, (_, modes) in NETWORKS.items():
        for mode in modes:
            made = network_computation(name, mode, seed)
            named = ("forward", "y"), ("vjp_weights", "grad.weight.*")
            yield from cases("3", made, *((f"network/{name}-{part}-{mode}", (out,)) for part, out in named), mode=mode)
