"""Tier 2, every layer alone, and tier 3, the whole network: forward and vector-Jacobian product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np

from parity_tests.make import amp_of, by, cases, computation, label_of, only_mindspore, shapes_of
from portparity.arrays import normal, weights
from portparity.backends import leg
from portparity.case import Arrays, Case, Computation, Leg

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

KERNELS: dict[str, tuple] = {  # more for the C++ kernels: widths that fill no vector, one image
    "conv7_grey": ("conv2d", {"dim_in": 1, "dim_out": 5, "kernel_size": 7, "padding": 3}, ("x",), (1, 7, 5)),
    "conv7_one_image": ("conv2d", {"dim_in": 6, "dim_out": 8, "kernel_size": 7, "padding": 3}, ("x",), (6, 4, 12)),
    "conv3_odd": ("conv2d", {"dim_in": 5, "dim_out": 3, "kernel_size": 3, "padding": 1}, ("x",), (5, 9, 7)),
    "conv3_one_image": ("conv2d", {"dim_in": 16, "dim_out": 32, "kernel_size": 3, "padding": 1}, ("x",), (16, 6, 10)),
    "conv3_no_bias": (
        "conv2d", {"dim_in": 3, "dim_out": 16, "kernel_size": 3, "padding": 1, "bias": False}, ("x",), (3, 5, 8)
    ),
    "conv3_square": ("conv2d", {"dim_in": 16, "dim_out": 16, "kernel_size": 3, "padding": 1}, ("x",), (16, 8, 8)),
    "conv1_grey": ("conv2d", {"dim_in": 8, "dim_out": 1, "kernel_size": 1}, ("x",), (8, 5, 9)),
    "conv1_odd": ("conv2d", {"dim_in": 5, "dim_out": 3, "kernel_size": 1, "bias": False}, ("x",), (5, 3, 7)),
    "conv4_stride2_odd": (
        "conv2d", {"dim_in": 3, "dim_out": 5, "kernel_size": 4, "stride": 2, "padding": 1}, ("x",), (3, 6, 10)
    ),
    "conv4_stride2_no_bias": (
        "conv2d", {"dim_in": 16, "dim_out": 16, "kernel_size": 4, "stride": 2, "padding": 1, "bias": False}, ("x",),
        (16, 8, 4),
    ),
    "weight_standardized_odd": (
        "weight_standardized_conv2d", {"dim_in": 3, "dim_out": 5, "kernel_size": 3, "padding": 1}, ("x",), (3, 4, 10)
    ),
    "linear_odd": ("linear", {"dim_in": 21, "dim_out": 37}, ("vector",), 21),
    "linear_wide": ("linear", {"dim_in": 130, "dim_out": 19}, ("vector",), 130),
    "block_rms_nan_pixel": ("block", {"dim": 3, "dim_out": 5, "norm": "rms"}, ("x", "scale", "shift"), (3, 9, 11)),
    "block_group_nan_pixel": ("block", {"dim": 3, "dim_out": 8, "norm": "group"}, ("x",), (3, 9, 11)),
    "linear_attention_nan_pixel": (
        "linear_attention", {"dim": 5, "heads": 3, "dim_head": 5, "norm": "rms"}, ("x",), (5, 5, 7)
    ),
    "attention_nan_pixel": ("attention", {"dim": 5, "heads": 3, "dim_head": 5, "norm": "rms"}, ("x",), (5, 5, 7)),
    "channel_layer_norm_nan_pixel": ("channel_layer_norm", {"dim": 5}, ("x",), (5, 3, 7)),
    "rms_norm_nan_pixel": ("rms_norm", {"dim": 5}, ("x",), (5, 3, 7)),
    "rms_norm_inf_pixel": ("rms_norm", {"dim": 5}, ("x",), (5, 3, 7)),
    "rms_norm_odd": ("rms_norm", {"dim": 5}, ("x",), (5, 3, 7)),
    "rms_norm_wide": ("rms_norm", {"dim": 35}, ("x",), (35, 9, 11)),
    "channel_layer_norm_odd": ("channel_layer_norm", {"dim": 5}, ("x",), (5, 3, 7)),
    "channel_layer_norm_wide": ("channel_layer_norm", {"dim": 35}, ("x",), (35, 9, 11)),
    "block_rms_odd": ("block", {"dim": 3, "dim_out": 5, "norm": "rms"}, ("x", "scale", "shift"), (3, 9, 11)),
    "block_rms_one_image": ("block", {"dim": 8, "dim_out": 21, "norm": "rms"}, ("x", "scale", "shift"), (8, 4, 6)),
    "block_group_wide": ("block", {"dim": 5, "dim_out": 40, "norm": "group"}, ("x", "scale", "shift"), (5, 9, 11)),
    "block_group_one_image": ("block", {"dim": 8, "dim_out": 8, "norm": "group"}, ("x", "scale", "shift"), (8, 4, 6)),
    "resnet_block_rms_odd": (
        "resnet_block", {"dim": 5, "dim_out": 7, "time_dim": 16, "norm": "rms"}, ("x", "t"), (5, 9, 11)
    ),
    "resnet_block_group_one_image": (
        "resnet_block", {"dim": 3, "dim_out": 16, "time_dim": 16, "norm": "group"}, ("x", "t"), (3, 5, 15)
    ),
    "linear_attention_odd": (
        "linear_attention", {"dim": 5, "heads": 3, "dim_head": 5, "norm": "rms"}, ("x",), (5, 5, 7)
    ),
    "linear_attention_pixels": (  # more than a chunk of 128, and the last is not full
        "linear_attention", {"dim": 6, "heads": 1, "dim_head": 20, "norm": "rms"}, ("x",), (6, 17, 19)
    ),
    "linear_attention_residual": (
        "linear_attention", {"dim": 8, "heads": 4, "dim_head": 32, "norm": "rms"}, ("x",), (8, 6, 8)
    ),
    "linear_attention_group_pixels": (
        "pre_norm_linear_attention", {"dim": 5, "heads": 3, "dim_head": 12, "norm": "group"}, ("x",), (5, 17, 19)
    ),
    "linear_attention_group_residual": (
        "pre_norm_linear_attention", {"dim": 8, "heads": 2, "dim_head": 16, "norm": "group"}, ("x",), (8, 4, 6)
    ),
    "attention_odd": ("attention", {"dim": 5, "heads": 3, "dim_head": 5, "norm": "rms"}, ("x",), (5, 5, 7)),
    "attention_pixels": (  # three blocks of 64 queries, the last of one
        "attention", {"dim": 6, "heads": 2, "dim_head": 20, "norm": "rms"}, ("x",), (6, 3, 43)
    ),
    "attention_residual": ("attention", {"dim": 8, "heads": 4, "dim_head": 32, "norm": "rms"}, ("x",), (8, 6, 8)),
    "attention_group_pixels": (
        "pre_norm_attention", {"dim": 5, "heads": 3, "dim_head": 12, "norm": "group"}, ("x",), (5, 9, 15)
    ),
    "downsample_conv": ("downsample", {"kind": "conv", "dim": 5, "dim_out": 7}, ("x",), (5, 4, 10)),
    "downsample_unshuffle_odd": ("downsample", {"kind": "unshuffle", "dim": 3, "dim_out": 5}, ("x",), (3, 4, 10)),
    "upsample_odd": ("upsample", {"dim": 5, "dim_out": 3}, ("x",), (5, 3, 7)),
    "block_dropout_odd": (
        "dropout_block", {"dim": 3, "dim_out": 5, "norm": "rms", "dropout": 0.3, "number": 2}, ("x", "key", "mask"),
        (3, 5, 7),
    ),
}  # fmt: skip
ALL_ROWS = ROWS | KERNELS
NO_KERNEL = (
    "activation",
    "sinusoidal_embedding",
    "fourier_embedding",
    "group_norm",
)  # the last has one in a block only
BY_KERNELS = tuple(name for name, row in ALL_ROWS.items() if row[0] not in NO_KERNEL)
SCALES = (0.02, 1, 30)
BATCH = 2
DIFFERENTIABLE = ("x", "t", "vector", "scale", "shift")


def _batch(name: str) -> int:
    return 1 if name.endswith("one_image") else BATCH


def _shrinks(name: str) -> float:
    """How much smaller the image becomes."""
    kind, arguments, _, _ = ALL_ROWS[name]
    return 0.5 if kind == "upsample" else 2 if kind == "downsample" else arguments.get("stride", 1)


def _output_shape(name: str) -> tuple[int, ...]:
    _, arguments, calls, shape = ALL_ROWS[name]
    if calls[0] == "x":
        shrink = _shrinks(name)
        width = arguments.get("dim_out", shape[0])
        return (_batch(name), width, int(shape[1] / shrink), int(shape[2] / shrink))
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
    kind, arguments, calls, shape = ALL_ROWS[name]
    batch = _batch(name)
    found = dict(weights(shapes_of(kind, arguments), rng))
    makers = {
        "x": lambda: np.float32(scale) * normal(rng, batch, *shape),
        "vector": lambda: np.float32(scale) * normal(rng, BATCH + 2, shape),
        "t": lambda: normal(rng, batch, arguments["time_dim"]),
        "scale": lambda: np.float32(0.5) * normal(rng, batch, arguments["dim_out"], 1, 1),
        "shift": lambda: np.float32(0.5) * normal(rng, batch, arguments["dim_out"], 1, 1),
        "time": lambda: np.array([0, 1, 500, 999], np.int32),
        "key": lambda: np.int32(rng.integers(-(2**31), 2**31)),
        "mask": lambda: dropout_mask(found["key"], arguments["number"], arguments["dropout"], _output_shape(name)),
        "fraction": lambda: np.array([0, 0.01, 0.5, 1], np.float32) * np.float32(scale),
    }
    for argument in calls:
        found[argument] = makers[argument]()
    if name.endswith("zero_pixel"):
        found["x"][0, :, 2, 3] = 0
    if name.endswith(("nan_pixel", "inf_pixel")):
        found["x"][0, 1, 2, 3] = np.float32(name[-9:-6])
    if name.endswith("offset"):  # a mean that is large against the deviation
        found["x"] += np.float32(1000 * scale)
    return found | {"cotangent": normal(rng, *_output_shape(name))}


def _scales_of(name: str) -> tuple[float, ...]:
    return (1,) if ALL_ROWS[name][2] == ("time",) else SCALES


def _with_residual(leg: Leg) -> Leg:
    """The same layer with its input added to its output."""

    def run(inputs: Arrays) -> Arrays:
        found = dict(leg(inputs))
        for name, more in (("y", "x"), ("grad.x", "cotangent")):
            found[name] = found[name] + inputs[more].astype(found[name].dtype)
        return found

    return run


def layer_computation(
    name: str,
    scale: float,
    mode: str,
    seed: int = 0,
    precision: str = "float32",
    level: str = "O0",
    kernels: bool = False,
) -> Computation:
    """One layer at one scale of its input; with ``kernels`` ours runs by the C++ kernels, channels last."""
    kind, arguments, calls, _ = ALL_ROWS[name]
    positions = [i for i, argument in enumerate(calls) if argument in DIFFERENTIABLE]
    label = label_of(precision, level)
    label += "-kernels" if kernels else ""
    spec = {"layer": kind, "arguments": arguments, "calls": calls, "differentiable": positions}
    residual = {"residual": True} if name.endswith("_residual") else {}
    made = computation(
        f"layers/{name}-scale{scale:g}{label}-{mode}", "layer", spec | residual | by(kernels),
        scales=leg("torch", "layer_scales", spec), inputs=partial(layer_inputs, name=name, scale=scale), mode=mode,
        seed=seed, precision=precision, rule="layers", mindspore=amp_of(precision, level),
        other_kernels=precision == "float32",
    )  # fmt: skip
    if residual:
        references = [_with_residual(run) for run in made.references]
        made = replace(made, truth=_with_residual(made.truth), references=references)
    return only_mindspore(made) if kernels else made


def tier2(seed: int = 0) -> Iterator[Case]:
    """Every block alone: forward and vector-Jacobian product with random cotangents, inputs of scale 0.02, 1 and 30."""
    names = [*((name, False) for name in ROWS), *((name, True) for name in BY_KERNELS)]
    for mode, (name, kernels) in product(("graph", "pynative"), names):
        if mode == "graph" and name not in ROWS:  # the kernels are the same there, and compiling takes its time
            continue
        for scale in _scales_of(name):
            made = layer_computation(name, scale, mode, seed, kernels=kernels)
            kind, _, calls, _ = ALL_ROWS[name]
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
    # Between 2022 and 2.3: each way to compute a block or an attention that neither of them has.
    "layout_1_7_1": ({**SMALL, "norm": "group-1.7.1"}, (4, 6), "pynative"),
    "layout_1_7_4": ({**SMALL, "norm": "group-1.7.4"}, (4, 6), "pynative"),
    "layout_1_9_0": ({**SMALL, "norm": "group-1.9.0"}, (4, 6), "pynative"),
}

KERNEL_GRAPHS = ("unet_2_3", "unet_2022")  # with the C++ kernels, what is compiled too


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
    name: str,
    mode: str,
    seed: int = 0,
    precision: str = "float32",
    level: str = "O0",
    convert: bool = False,
    kernels: bool = False,
) -> Computation:
    """A whole Unet, forward and backward.

    With ``convert`` ours gets its weights from `storage.convert`; with ``kernels`` it runs by the C++ kernels,
    without them never.
    """
    unet, image, _ = NETWORKS[name]
    label = label_of(precision, level)
    label += "-kernels" if kernels else ""
    inputs = partial(network_inputs, unet=unet, image=image, self_cond=not name.endswith("_none"))
    made = computation(
        f"state/converted-{name}" if convert else f"network/{name}{label}-{mode}", "network",
        {"unet": unet, **({"convert": True} if convert else {}), **by(kernels)}, inputs,
        scales=leg("torch", "network_scales", {"unet": unet}),
        mode=mode, seed=seed, precision=precision, rule="layers", mindspore=amp_of(precision, level),
    )  # fmt: skip
    return only_mindspore(made) if kernels else made


def tier3(seed: int = 0) -> Iterator[Case]:
    """Whole Unets, both layouts and every option: forward, gradient of the input, every parameter's gradient."""
    rows = [
        (name, mode, kernels)
        for kernels in (False, True)
        for name, (_, _, modes) in NETWORKS.items()
        for mode in (("graph", "pynative") if modes == "both" else (modes,))
        if not kernels or mode == "pynative" or name in KERNEL_GRAPHS
    ]
    for name, mode, kernels in rows:
        made = network_computation(name, mode, seed, kernels=kernels)
        stem = made.key.removesuffix(f"-{mode}")
        named = (("forward", "y"), ("vjp_input", "grad.x"), ("vjp_weights", "grad.weight.*"))
        yield from cases("3", made, *((f"{stem}-{part}-{mode}", (pattern,)) for part, pattern in named), mode=mode)
