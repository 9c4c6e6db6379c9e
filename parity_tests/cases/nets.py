"""Tier 2, every layer alone, and tier 3, the whole network: forward and vector-Jacobian product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product

import numpy as np

from ..backends import leg
from ..case import Arrays, Case
from ._make import cases, computation, normal, shapes_of, weights

ROWS: dict[str, tuple] = {  # name: (layer, arguments, what it is called with, its image's shape or vector's width)
    "conv7": ("conv2d", {"dim_in": 3, "dim_out": 8, "kernel_size": 7, "padding": 3}, ("x",), (3, 8, 8)),
    "conv3": ("conv2d", {"dim_in": 8, "dim_out": 12, "kernel_size": 3, "padding": 1}, ("x",), (8, 8, 8)),
    "conv3_wide": ("conv2d", {"dim_in": 64, "dim_out": 8, "kernel_size": 3, "padding": 1}, ("x",), (64, 8, 8)),
    "conv1": ("conv2d", {"dim_in": 8, "dim_out": 12, "kernel_size": 1}, ("x",), (8, 6, 10)),
    "conv1_no_bias": ("conv2d", {"dim_in": 8, "dim_out": 12, "kernel_size": 1, "bias": False}, ("x",), (8, 8, 8)),
    "conv4_stride2": (
        "conv2d", {"dim_in": 8, "dim_out": 12, "kernel_size": 4, "stride": 2, "padding": 1}, ("x",), (8, 8, 12)
    ),
    "weight_standardized_conv": (
        "weight_standardized_conv2d", {"dim_in": 8, "dim_out": 8, "kernel_size": 3, "padding": 1}, ("x",), (8, 8, 8)
    ),
    "linear": ("linear", {"dim_in": 24, "dim_out": 10}, ("vector",), 24),
    "rms_norm": ("rms_norm", {"dim": 8}, ("x",), (8, 6, 8)),
    "group_norm": ("group_norm", {"groups": 8, "dim": 16}, ("x",), (16, 6, 8)),
    "channel_layer_norm": ("channel_layer_norm", {"dim": 8}, ("x",), (8, 6, 8)),
    "rms_norm_zero_pixel": ("rms_norm", {"dim": 8}, ("x",), (8, 6, 8)),
    "group_norm_offset": ("group_norm", {"groups": 8, "dim": 16}, ("x",), (16, 6, 8)),
    "channel_layer_norm_offset": ("channel_layer_norm", {"dim": 8}, ("x",), (8, 6, 8)),
    "silu": ("activation", {"function": "silu"}, ("x",), (8, 6, 8)),
    "gelu": ("activation", {"function": "gelu"}, ("x",), (8, 6, 8)),
    "sinusoidal_embedding": ("sinusoidal_embedding", {"dim": 16}, ("time",), None),
    "sinusoidal_embedding_theta": ("sinusoidal_embedding", {"dim": 16, "theta": 100}, ("time",), None),
    "fourier_embedding": ("fourier_embedding", {"dim": 16}, ("fraction",), None),
    "time_mlp": ("time_mlp", {"dim": 8, "fourier": False}, ("time",), None),
    "time_mlp_fourier": ("time_mlp", {"dim": 8, "fourier": True}, ("fraction",), None),
    "block_rms": ("block", {"dim": 8, "dim_out": 12, "norm": "rms"}, ("x", "scale", "shift"), (8, 8, 8)),
    "block_rms_plain": ("block", {"dim": 8, "dim_out": 12, "norm": "rms"}, ("x",), (8, 8, 8)),
    "block_group": ("block", {"dim": 8, "dim_out": 16, "norm": "group"}, ("x", "scale", "shift"), (8, 8, 8)),
    "block_group_plain": ("block", {"dim": 8, "dim_out": 16, "norm": "group"}, ("x",), (8, 8, 8)),
    "block_dropout": (
        "dropout_block", {"dim": 8, "dim_out": 12, "norm": "rms", "dropout": 0.3, "number": 5}, ("x", "key", "mask"),
        (8, 8, 8),
    ),
    "resnet_block_rms": (
        "resnet_block", {"dim": 8, "dim_out": 8, "time_dim": 16, "norm": "rms"}, ("x", "t"), (8, 8, 8)
    ),
    "resnet_block_rms_widens": (
        "resnet_block", {"dim": 8, "dim_out": 12, "time_dim": 16, "norm": "rms"}, ("x", "t"), (8, 8, 8)
    ),
    "resnet_block_group": (
        "resnet_block", {"dim": 8, "dim_out": 8, "time_dim": 16, "norm": "group"}, ("x", "t"), (8, 8, 8)
    ),
    "resnet_block_group_widens": (
        "resnet_block", {"dim": 16, "dim_out": 8, "time_dim": 16, "norm": "group"}, ("x", "t"), (16, 8, 8)
    ),
    "linear_attention": ("linear_attention", {"dim": 8, "heads": 2, "dim_head": 8, "norm": "rms"}, ("x",), (8, 6, 8)),
    "linear_attention_group": (
        "pre_norm_linear_attention", {"dim": 8, "heads": 2, "dim_head": 8, "norm": "group"}, ("x",), (8, 6, 8)
    ),
    "attention": ("attention", {"dim": 8, "heads": 2, "dim_head": 8, "norm": "rms"}, ("x",), (8, 6, 8)),
    "attention_chunked": (
        "attention", {"dim": 8, "heads": 2, "dim_head": 4, "norm": "rms", "chunked": True}, ("x",), (8, 20, 16)
    ),
    "attention_group": (
        "pre_norm_attention", {"dim": 8, "heads": 2, "dim_head": 8, "norm": "group"}, ("x",), (8, 6, 8)
    ),
    "downsample_unshuffle": ("downsample", {"kind": "unshuffle", "dim": 8, "dim_out": 12}, ("x",), (8, 6, 8)),
    "upsample": ("upsample", {"dim": 8, "dim_out": 12}, ("x",), (8, 4, 6)),
}  # fmt: skip
SCALES = (0.02, 1, 30)
BATCH = 2
DIFFERENTIABLE = ("x", "t", "vector", "scale", "shift")
OUT_DIMS = {"conv4_stride2": 2, "downsample_unshuffle": 2, "upsample": 0.5}  # how much smaller the image becomes


def _output_shape(name: str) -> tuple[int, ...]:
    _, arguments, calls, shape = ROWS[name]
    if calls[0] == "x":
        shrink = OUT_DIMS.get(name, 1)
        width = arguments.get("dim_out", shape[0])
        return (BATCH, width, int(shape[1] / shrink), int(shape[2] / shrink))
    if name.startswith("time_mlp"):
        return (BATCH + 2, arguments["dim"] * 4)
    return (BATCH + 2, arguments.get("dim_out", arguments.get("dim", 0)) + (name == "fourier_embedding"))


def dropout_mask(key: np.int32, layer: int, p: float, shape: tuple[int, ...]) -> np.ndarray:
    """What `ms_ddpm`'s dropout keeps (1) and drops (0): a hash of (key, layer, index), in 32-bit arithmetic.

    "lowbias32" (C. Wellons, hash-prospector), applied to index + layer * floor(2^32 / golden ratio) and once more with
    the key added; kept where the low 24 bits reach p * 2^24.
    """

    def mix(x: np.ndarray) -> np.ndarray:
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
        return x ^ (x >> np.uint32(16))

    index = np.arange(np.prod(shape), dtype=np.uint32) + np.uint32(layer * 0x9E3779B9 % 2**32)
    bits = mix(mix(index) + np.uint32(int(key) % 2**32))
    return ((bits & np.uint32(0xFFFFFF)) >= round(p * 2**24)).astype(np.float32).reshape(shape)


def layer_inputs(rng: np.random.Generator, name: str, scale: float) -> Arrays:
    """What a layer is called with, its weights and a cotangent; the image has the given ``scale``."""
    kind, arguments, calls, shape = ROWS[name]
    found = dict(weights(shapes_of(kind, arguments), rng))
    makers = {
        "x": lambda: np.float32(scale) * normal(rng, BATCH, *shape),
        "vector": lambda: np.float32(scale) * normal(rng, BATCH + 2, shape),
        "t": lambda: normal(rng, BATCH, arguments["time_dim"]),
        "scale": lambda: np.float32(0.5) * normal(rng, BATCH, arguments["dim_out"], 1, 1),
        "shift": lambda: np.float32(0.5) * normal(rng, BATCH, arguments["dim_out"], 1, 1),
        "time": lambda: np.array([0, 1, 500, 999], np.int32),
        "key": lambda: np.int32(rng.integers(-(2**31), 2**31)),
        "mask": lambda: dropout_mask(found["key"], arguments["number"], arguments["dropout"], _output_shape(name)),
        "fraction": lambda: np.array([0, 0.01, 0.5, 1], np.float32) * np.float32(scale),
    }
    for argument in calls:
        found[argument] = makers[argument]()
    if name.endswith("zero_pixel"):
        found["x"][0, :, 2, 3] = 0
    if name.endswith("offset"):  # a mean that is large against the deviation
        found["x"] += np.float32(1000 * scale)
    return found | {"cotangent": normal(rng, *_output_shape(name))}


def _scales_of(name: str) -> tuple[float, ...]:
    return (1,) if ROWS[name][2] == ("time",) else SCALES


def layer_computation(name: str, scale: float, mode: str, seed: int = 0, precision: str = "float32", level: str = "O0"):
    """One layer at one scale of its input."""
    kind, arguments, calls, _ = ROWS[name]
    positions = [i for i, argument in enumerate(calls) if argument in DIFFERENTIABLE]
    label = "" if precision == "float32" else f"-{precision}_{level}"
    spec = {"layer": kind, "arguments": arguments, "calls": calls, "differentiable": positions}
    return computation(
        f"layers/{name}-scale{scale:g}{label}-{mode}", "layer", spec, scales=leg("torch", "layer_scales", spec),
        inputs=partial(layer_inputs, name=name, scale=scale), mode=mode, seed=seed, precision=precision,
        rule="layers", mindspore={"level": level}, other_kernels=precision == "float32",
    )  # fmt: skip


def tier2(seed: int = 0) -> Iterator[Case]:
    """Every block alone: forward and vector-Jacobian product with random cotangents, inputs of scale 0.02, 1 and 30."""
    for mode, name in product(("graph", "pynative"), ROWS):
        for scale in _scales_of(name):
            made = layer_computation(name, scale, mode, seed)
            kind, _, calls, _ = ROWS[name]
            stem = made.key.removesuffix(f"-{mode}")
            named = [(f"{stem}-forward-{mode}", ("y",))]
            if set(calls) & set(DIFFERENTIABLE) or kind in ("time_mlp", "fourier_embedding"):
                named.append((f"{stem}-vjp-{mode}", ("grad.*",)))
            yield from cases("2", made, *named, mode=mode)


SMALL = {"dim": 8, "dim_mults": [1, 2], "channels": 1, "attn_heads": 2, "attn_dim_head": 8}
GROUP = {"norm": "group", "downsample": "conv"}
NETWORKS: dict[str, tuple[Mapping, tuple[int, int], str]] = {  # name: (Unet arguments, image, modes)
    "unet_2_3": ({**SMALL}, (8, 8), "both"),
    "unet_2022": ({**SMALL, **GROUP}, (8, 8), "both"),
    "self_condition": ({**SMALL, "self_condition": True}, (8, 8), "both"),
    "self_condition_none": ({**SMALL, "self_condition": True}, (8, 8), "both"),
    "three_stages_rgb": ({**SMALL, "dim_mults": [1, 2, 4], "channels": 3}, (16, 16), "pynative"),
    "three_stages_2022": ({**SMALL, **GROUP, "dim_mults": [1, 2, 2], "channels": 3}, (16, 16), "pynative"),
    "not_square": ({**SMALL}, (6, 12), "pynative"),
    "init_dim": ({**SMALL, "init_dim": 12}, (8, 8), "pynative"),
    "init_dim_2022": ({**SMALL, **GROUP, "init_dim": 16}, (8, 8), "pynative"),
    "learned_variance": ({**SMALL, "learned_variance": True}, (8, 8), "pynative"),
    "fourier_learned": ({**SMALL, "learned_sinusoidal_cond": True}, (8, 8), "pynative"),
    "fourier_random": ({**SMALL, "random_fourier_features": True}, (8, 8), "pynative"),
    "full_attention": ({**SMALL, "full_attn": [True, False]}, (8, 8), "pynative"),
    "heads_per_stage": ({**SMALL, "attn_heads": [1, 3], "attn_dim_head": [4, 6]}, (8, 8), "pynative"),
    "flash_attention": ({**SMALL, "flash_attn": True, "full_attn": True}, (20, 20), "pynative"),
    "tiny_2_3": (
        {"dim": 4, "dim_mults": [1, 2], "channels": 1, "attn_heads": 1, "attn_dim_head": 4},
        (4, 4),
        "pynative",
    ),
    "tiny_2022": (
        {**GROUP, "dim": 8, "dim_mults": [1, 1], "channels": 1, "attn_heads": 1, "attn_dim_head": 4},
        (4, 4),
        "pynative",
    ),
    "theta": ({**SMALL, "sinusoidal_pos_emb_theta": 50}, (8, 8), "pynative"),
}


def network_inputs(rng: np.random.Generator, unet: Mapping, image: tuple[int, int], self_cond: bool = True) -> Arrays:
    """Weights, a noised image, times, the previous estimate where the network takes one, and a cotangent."""
    channels, batch = unet["channels"], 2
    found = dict(weights(shapes_of("unet", unet), rng))
    found |= {"x": normal(rng, batch, channels, *image), "time": np.array([3, 977], np.int32)}
    if "fourier" in unet or unet.get("learned_sinusoidal_cond") or unet.get("random_fourier_features"):
        found["time"] = np.array([0.02, 0.7], np.float32)
    if unet.get("self_condition") and self_cond:
        found["x_self_cond"] = normal(rng, batch, channels, *image)
    out = channels * (2 if unet.get("learned_variance") else 1)
    return found | {"cotangent": normal(rng, batch, out, *image)}


def network_computation(
    name: str, mode: str, seed: int = 0, precision: str = "float32", level: str = "O0", convert: bool = False
):
    """A whole Unet, forward and backward; with ``convert`` ours gets its weights from `ms_ddpm.convert`."""
    unet, image, _ = NETWORKS[name]
    label = "" if precision == "float32" else f"-{precision}_{level}"
    inputs = partial(network_inputs, unet=unet, image=image, self_cond=not name.endswith("_none"))
    return computation(
        f"state/converted-{name}" if convert else f"network/{name}{label}-{mode}", "network",
        {"unet": unet, **({"convert": True} if convert else {})}, inputs,
        scales=leg("torch", "network_scales", {"unet": unet}),
        mode=mode, seed=seed, precision=precision, rule="layers", mindspore={"level": level},
    )  # fmt: skip


def tier3(seed: int = 0) -> Iterator[Case]:
    """Whole Unets, both layouts and every option: forward, gradient of the input, every parameter's gradient."""
    for name, (_, _, modes) in NETWORKS.items():
        for mode in ("graph", "pynative") if modes == "both" else (modes,):
            made = network_computation(name, mode, seed)
            stem = made.key.removesuffix(f"-{mode}")
            named = (("forward", "y"), ("vjp_input", "grad.x"), ("vjp_weights", "grad.weight.*"))
            yield from cases("3", made, *((f"{stem}-{part}-{mode}", (pattern,)) for part, pattern in named), mode=mode)
