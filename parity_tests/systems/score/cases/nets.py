"""Tiers 2 and 3 of the score networks: every new layer alone, and each network, forward and vector-Jacobian product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from parity_tests.make import amp_of, by, cases, computation, label_of, only_mindspore, shapes_of
from portparity.arrays import normal, weights
from portparity.backends import leg
from portparity.case import Arrays, Case, Computation


class Row(NamedTuple):
    """A layer: its kind and arguments, the shapes of what it is called with, and of what it gives (one image)."""

    kind: str
    arguments: Mapping
    calls: Mapping[str, tuple[int, ...]]
    output: tuple[int, ...]
    batch: int = 2


def _tconv(dim_in, dim_out, kernel, image, output, batch=2, **options) -> Row:
    arguments = {"dim_in": dim_in, "dim_out": dim_out, "kernel_size": kernel, **options}
    return Row("conv_transpose2d", arguments, {"x": (dim_in, *image)}, (dim_out, *output), batch)


def _conv(dim_in, dim_out, kernel, image, output, batch=2, **options) -> Row:
    arguments = {"dim_in": dim_in, "dim_out": dim_out, "kernel_size": kernel, **options}
    return Row("conv2d", arguments, {"x": (dim_in, *image)}, (dim_out, *output), batch)


def _stage(groups, dim, image, batch=2) -> Row:
    calls = {"x": (dim, *image), "shift": (dim,)}
    return Row("time_stage", {"groups": groups, "dim": dim}, calls, (dim, *image), batch)


ROWS: dict[str, Row] = {
    "tconv3_stride2": _tconv(8, 12, 3, (4, 5), (9, 11), stride=2, bias=False),
    "tconv3_stride2_output_padding": _tconv(8, 12, 3, (4, 5), (10, 12), stride=2, output_padding=1, bias=False),
    "tconv3_stride2_output_size": _tconv(8, 12, 3, (4, 5), (10, 11), stride=2, output_size=[10, 11], bias=False),
    "tconv3": _tconv(12, 1, 3, (6, 7), (8, 9)),
    "conv3_valid": _conv(3, 8, 3, (9, 8), (7, 6), bias=False),
    "conv3_stride2_valid": _conv(8, 12, 3, (9, 8), (4, 3), stride=2, bias=False),
    "gaussian_fourier": Row("gaussian_fourier", {"embed_dim": 16}, {"t": ()}, (16,), 4),
    "layer_norm": Row("layer_norm", {"dim": 12}, {"x": (5, 12)}, (5, 12)),
    "linear_no_bias": Row("linear_of_sequence", {"dim_in": 24, "dim_out": 10, "bias": False}, {"x": (7, 24)}, (7, 10)),
    "embedding": Row("embedding", {"count": 5, "dim": 6}, {"labels": ()}, (6,), 7),
    "time_stage_4_groups": _stage(4, 8, (6, 5)),
    "time_stage_32_groups": _stage(32, 64, (5, 3)),
    "self_attention": Row("cross_attention", {"embed_dim": 8, "hidden_dim": 12}, {"x": (10, 12)}, (10, 12)),
    "self_attention_4_heads": Row(
        "cross_attention", {"embed_dim": 8, "hidden_dim": 12, "num_heads": 4}, {"x": (10, 12)}, (10, 12)
    ),
    "cross_attention": Row(
        "cross_attention", {"embed_dim": 8, "hidden_dim": 12, "context_dim": 6},
        {"x": (10, 12), "context": (3, 6)}, (10, 12),
    ),
    "cross_attention_4_heads": Row(
        "cross_attention", {"embed_dim": 8, "hidden_dim": 12, "context_dim": 6, "num_heads": 4},
        {"x": (10, 12), "context": (3, 6)}, (10, 12),
    ),
    "transformer_block": Row(
        "transformer_block", {"hidden_dim": 8, "context_dim": 6}, {"x": (10, 8), "context": (1, 6)}, (10, 8)
    ),
    "spatial_transformer": Row(
        "spatial_transformer", {"hidden_dim": 8, "context_dim": 6, "num_heads": 2},
        {"x": (8, 3, 4), "context": (3, 6)}, (8, 3, 4),
    ),
}  # fmt: skip

KERNELS: dict[str, Row] = {  # more for the C++ kernels: widths that fill no vector, odd sides, one image
    "tconv3_stride2_odd": _tconv(5, 3, 3, (3, 4), (7, 10), stride=2, output_size=[7, 10], bias=False),
    "tconv3_stride2_bias": _tconv(3, 7, 3, (2, 5), (6, 12), stride=2, output_padding=1),
    "tconv3_one_image": _tconv(64, 32, 3, (5, 2), (12, 6), 1, stride=2, output_padding=1, bias=False),
    "tconv3_grey": _tconv(5, 1, 3, (7, 4), (9, 6)),
    "tconv3_rgb_wide": _tconv(35, 3, 3, (4, 5), (9, 12), 3, stride=2, output_size=[9, 12]),
    "tconv4_padding": _tconv(6, 5, 4, (4, 3), (8, 6), stride=2, padding=1),
    "conv3_valid_grey": _conv(1, 32, 3, (9, 8), (7, 6), bias=False),
    "conv3_stride2_valid_odd": _conv(5, 3, 3, (8, 11), (3, 5), stride=2),
    "conv3_stride2_valid_one_image": _conv(32, 64, 3, (26, 12), (12, 5), 1, stride=2, bias=False),
    "conv3_stride2_padding": _conv(3, 5, 3, (9, 8), (5, 4), stride=2, padding=1),
    "conv1_stride2": _conv(3, 5, 1, (9, 8), (5, 4), stride=2),
    "self_attention_square": Row("cross_attention", {"embed_dim": 8, "hidden_dim": 8}, {"x": (10, 8)}, (10, 8)),
    "self_attention_square_3_heads": Row(
        "cross_attention", {"embed_dim": 15, "hidden_dim": 15, "num_heads": 3}, {"x": (77, 15)}, (77, 15), 1
    ),
    "layer_norm_wide": Row("layer_norm", {"dim": 131}, {"x": (67, 131)}, (67, 131)),
    "time_stage_1_group": _stage(1, 5, (3, 7)),
    "time_stage_instance": _stage(32, 32, (9, 11)),
    "time_stage_odd": _stage(3, 21, (13, 7), 1),
    "time_stage_batch": _stage(4, 12, (9, 11), 5),  # enough images for a task each, of two chunks of pixels
    "time_stage_wide": _stage(32, 256, (2, 2), 5),
}
BY_KERNELS = (
    "conv_transpose2d", "conv2d", "time_stage", "linear_of_sequence", "layer_norm", "cross_attention",
    "transformer_block", "spatial_transformer",
)  # fmt: skip
ALL_ROWS = ROWS | KERNELS
SCALES = (0.02, 1, 30)
DIFFERENTIABLE = ("x", "shift", "context")


def score_weights(kind: str, arguments: Mapping, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """As `portparity.arrays.weights`; gains of these networks' norms near 1, frequencies of their own scale."""
    found = {}
    for name, value in weights(shapes_of(kind, arguments), rng).items():
        is_gain = value.ndim == 1 and name.endswith("weight")
        found[name] = 1 + np.float32(0.2) * value if is_gain else value * np.float32(30 if name.endswith(".W") else 1)
    return found


def layer_inputs(rng: np.random.Generator, name: str, scale: float) -> Arrays:
    """What a layer is called with, its weights and a cotangent; the image has the given ``scale``."""
    row = ALL_ROWS[name]
    found = score_weights(row.kind, row.arguments, rng)
    for argument, shape in row.calls.items():
        if argument == "t":
            found[argument] = np.linspace(0, 1, row.batch, dtype=np.float32) * np.float32(scale)
        elif argument == "labels":
            found[argument] = rng.integers(0, row.arguments["count"], row.batch, dtype=np.int32)
        else:
            found[argument] = np.float32(scale if argument == "x" else 1) * normal(rng, row.batch, *shape)
    return found | {"cotangent": normal(rng, row.batch, *row.output)}


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
    row = ALL_ROWS[name]
    calls = list(row.calls)
    positions = [i for i, argument in enumerate(calls) if argument in DIFFERENTIABLE]
    label = label_of(precision, level) + ("-kernels" if kernels else "")
    spec = {"layer": row.kind, "arguments": row.arguments, "calls": calls, "differentiable": positions}
    made = computation(
        f"layers/{name}-scale{scale:g}{label}-{mode}", "layer", spec | by(kernels),
        scales=leg("torch", "layer_scales", spec), inputs=partial(layer_inputs, name=name, scale=scale), mode=mode,
        seed=seed, precision=precision, rule="layers", mindspore=amp_of(precision, level),
        other_kernels=precision == "float32",
    )  # fmt: skip
    return only_mindspore(made) if kernels else made


def tier2(seed: int = 0) -> Iterator[Case]:
    """Every layer alone: forward and vector-Jacobian product, inputs of scale 0.02, 1 and 30.

    Compiled at one scale; the kernels' further rows in pynative alone, where they are the same.
    """
    rows = [(name, mode, False) for mode in ("graph", "pynative") for name in ROWS]
    rows += [(name, "pynative", True) for name, row in ALL_ROWS.items() if row.kind in BY_KERNELS]
    for name, mode, kernels in rows:
        row = ALL_ROWS[name]
        for scale in SCALES if mode == "pynative" and "labels" not in row.calls else (1,):
            made = layer_computation(name, scale, mode, seed, kernels=kernels)
            stem = made.key.removesuffix(f"-{mode}")
            named = [(f"{stem}-forward-{mode}", ("y",))]
            if row.kind != "gaussian_fourier":  # nothing in it is trained
                named.append((f"{stem}-vjp-{mode}", ("grad.*",)))
            yield from cases("2", made, *named, mode=mode)


WIDTHS = {"channels": [32, 32, 32, 64], "embed_dim": 16}
CONDITIONAL = {**WIDTHS, "text_dim": 8, "num_classes": 5}
LATENT = {"channels": [3, 4, 8, 8], "embed_dim": 16, "text_dim": 8, "num_classes": 5}
NETWORKS: dict[str, tuple[str, Mapping, tuple[int, int, int], str]] = {  # name: (network, arguments, image, modes)
    "score_concat": ("score_unet", WIDTHS, (1, 28, 28), "both"),
    "score_add": ("score_unet", {**WIDTHS, "skips": "add"}, (1, 28, 28), "pynative"),
    "score_rgb_not_square": ("score_unet", {**WIDTHS, "in_channels": 3}, (3, 23, 26), "pynative"),
    "score_whole": ("score_unet", {**WIDTHS, "whole": True}, (1, 20, 23), "pynative"),
    "score_conditional_whole": ("conditional_score_unet", {**CONDITIONAL, "whole": True}, (1, 17, 18), "pynative"),
    "score_conditional": ("conditional_score_unet", CONDITIONAL, (1, 28, 28), "both"),
    "score_conditional_heads": (
        "conditional_score_unet", {**CONDITIONAL, "num_heads": 4, "null_class": True, "in_channels": 2}, (2, 24, 29),
        "pynative",
    ),
    "score_latent": ("latent_score_unet", LATENT, (3, 10, 10), "both"),
    "score_latent_whole": ("latent_score_unet", {**LATENT, "whole": True}, (3, 10, 12), "both"),
    "score_latent_heads": (
        "latent_score_unet", {**LATENT, "num_heads": 2, "null_class": True}, (3, 11, 14), "pynative"
    ),
}  # fmt: skip
KERNEL_GRAPHS = ("score_concat", "score_conditional")  # with the C++ kernels, what is compiled too


def network_inputs(rng: np.random.Generator, name: str) -> Arrays:
    """Weights, a noised image, times, classes where the network takes them, and a cotangent."""
    kind, arguments, image, _ = NETWORKS[name]
    found = score_weights(kind, arguments, rng)
    found |= {"x": normal(rng, 2, *image), "t": np.array([0.003, 0.9], np.float32)}
    if "num_classes" in arguments:
        found["labels"] = np.array([arguments["num_classes"] - (not arguments.get("null_class")), 1], np.int32)
    return found | {"cotangent": normal(rng, 2, *image)}


def network_computation(
    name: str, mode: str, seed: int = 0, precision: str = "float32", level: str = "O0", kernels: bool = False
) -> Computation:
    """A whole score network, forward and backward; its weights come by `ms_ddpm.storage.convert`."""
    kind, arguments, _, _ = NETWORKS[name]
    label = label_of(precision, level) + ("-kernels" if kernels else "")
    spec = {"net": kind, "arguments": arguments, "convert": True}
    made = computation(
        f"network/{name}{label}-{mode}", "score_network", spec | by(kernels), partial(network_inputs, name=name),
        scales=leg("torch", "score_network_scales", spec), mode=mode, seed=seed, precision=precision, rule="layers",
        mindspore=amp_of(precision, level),
    )  # fmt: skip
    return only_mindspore(made) if kernels else made


def tier3(seed: int = 0) -> Iterator[Case]:
    """Each score network: forward, gradient of the input, every parameter's gradient."""
    for kernels in (False, True):
        for name, (_, _, _, modes) in NETWORKS.items():
            for mode in ("graph", "pynative") if modes == "both" else (modes,):
                if kernels and mode == "graph" and name not in KERNEL_GRAPHS:
                    continue
                made = network_computation(name, mode, seed, kernels=kernels)
                stem = made.key.removesuffix(f"-{mode}")
                named = (("forward", "y"), ("vjp_input", "grad.x"), ("vjp_weights", "grad.weight.*"))
                yield from cases("3", made, *((f"{stem}-{part}-{mode}", (out,)) for part, out in named), mode=mode)
