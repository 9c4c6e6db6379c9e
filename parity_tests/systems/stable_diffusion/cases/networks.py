"""Tiers 2 and 3 of Stable Diffusion's networks: every block alone, and each network, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from parity_tests.make import by, cases, computation, only_mindspore, shapes_of
from portparity.arrays import normal, weights
from portparity.backends import leg
from portparity.case import Arrays, Case, Computation


class Row(NamedTuple):
    """A block or network: kind, arguments, shapes of what it is called with and of what it gives (one image)."""

    kind: str
    arguments: Mapping
    calls: Mapping[str, tuple[int, ...]]
    output: tuple[int, ...]
    modes: tuple[str, ...] = ("pynative",)


def _image(kind: str, arguments: Mapping, shape: tuple, output: tuple = (), modes=("pynative",), **more) -> Row:
    return Row(kind, arguments, {"x": shape, **more}, output or shape, modes)


BOTH = ("graph", "pynative")
OF_TIME = {"dim": 6, "dim_out": 4, "time_dim": 5, "groups": 2}
TRANSFORMER = {"dim": 6, "heads": 3, "context_dim": 5, "layers": 1, "groups": 2}
BLOCKS: dict[str, Row] = {
    "sd_timesteps": Row("sd_timesteps", {"dim": 8, "cos_first": True, "shift": 0}, {"t": ()}, (8,), BOTH),
    "sd_timesteps_ddpm": Row("sd_timesteps", {"dim": 8, "cos_first": False, "shift": 1}, {"t": ()}, (8,)),
    "sd_timestep_embedding": Row("sd_timestep_embedding", {"dim": 4, "dim_out": 6}, {"x": (4,)}, (6,)),
    "sd_resnet_block": _image("sd_resnet_block", {**OF_TIME, "eps": 1e-5}, (6, 3, 5), (4, 3, 5), BOTH, emb=(5,)),
    "sd_resnet_block_1e-6": _image("sd_resnet_block", {**OF_TIME, "eps": 1e-6}, (6, 3, 5), (4, 3, 5), emb=(5,)),
    "sd_resnet_block_plain": _image(
        "sd_resnet_block", {"dim": 4, "dim_out": 4, "time_dim": None, "groups": 2, "eps": 1e-6}, (4, 5, 3)
    ),
    "sd_downsample": _image("sd_downsample", {"dim": 3, "padding": 1}, (3, 5, 6), (3, 3, 3)),
    "sd_downsample_end": _image("sd_downsample", {"dim": 3, "padding": 0}, (3, 4, 6), (3, 2, 3)),
    "sd_downsample_end_odd": _image("sd_downsample", {"dim": 3, "padding": 0}, (3, 5, 7), (3, 2, 3)),
    "sd_upsample": _image("sd_upsample", {"dim": 3, "size": None}, (3, 2, 3), (3, 4, 6)),
    "sd_upsample_odd": _image("sd_upsample", {"dim": 3, "size": [3, 5]}, (3, 2, 3), (3, 3, 5)),
    "sd_attention_self": _image("sd_attention", {"dim": 6, "heads": 3}, (7, 6)),
    "sd_attention_cross": _image("sd_attention", {"dim": 6, "heads": 2, "context_dim": 5}, (7, 6), context=(4, 5)),
    "sd_image_attention": _image("sd_image_attention", {"dim": 4, "heads": 1, "groups": 2, "eps": 1e-6}, (4, 3, 5)),
    "sd_image_attention_heads": _image(
        "sd_image_attention", {"dim": 6, "heads": 3, "groups": 2, "eps": 1e-5}, (6, 3, 5)
    ),
    "sd_geglu": _image("sd_geglu", {"dim": 4, "dim_out": 6}, (5, 4), (5, 6)),
    "sd_feed_forward": _image("sd_feed_forward", {"dim": 4}, (5, 4)),
    "sd_transformer": _image("sd_transformer", {**TRANSFORMER, "linear": False}, (6, 3, 4), (), BOTH, context=(5, 5)),
    "sd_transformer_linear": _image("sd_transformer", {**TRANSFORMER, "linear": True}, (6, 3, 4), context=(5, 5)),
}
SMALL = {"widths": [4, 8], "layers": 1, "groups": 2}
STABLE = {**SMALL, "heads": [4, 2], "context_dim": 6, "attends": [True, False], "linear": False, "depth": 1}
DDPM = {
    **SMALL, "head_width": 2, "attends": [True, False], "eps": 1e-5, "padding": 1, "cos_first": True, "shift": 0
}  # fmt: skip
NETWORKS: dict[str, Row] = {
    "sd_autoencoder": _image("autoencoder_kl", SMALL, (3, 10, 6), (), BOTH, noise=(4, 5, 3)),
    "sd_moments": _image("autoencoder_kl_moments", SMALL, (3, 7, 6), (8, 3, 3)),
    "sd_unet": _image("conditional_unet", STABLE, (4, 7, 6), (), BOTH, t=(), context=(5, 6)),
    "sd_unet_2": _image(
        "conditional_unet", {**STABLE, "heads": [2, 4], "attends": [True, True], "linear": True}, (4, 6, 5),
        t=(), context=(5, 6),
    ),
    "sd_unconditional": _image("unconditional_unet", DDPM, (3, 5, 6), t=()),
    "sd_unconditional_cifar10": _image(
        "unconditional_unet",
        {**DDPM, "head_width": None, "attends": [False, True], "eps": 1e-6, "padding": 0, "cos_first": False,
         "shift": 1},
        (3, 8, 6), (), BOTH, t=(),
    ),
}  # fmt: skip
WITHOUT_KERNELS = ("sd_timesteps", "sd_timestep_embedding")
COMPILED_BY_KERNELS = ("sd_unconditional_cifar10",)
FORWARD_ONLY = ("sd_timesteps",)  # nothing in it is trained
BATCH = 3


def inputs_of(rng: np.random.Generator, row: Row, scale: float) -> Arrays:
    """Weights of which none is 0 or 1, what the block is called with, and a cotangent."""
    found = {}
    for name, value in weights(shapes_of(row.kind, row.arguments), rng).items():
        is_gain = value.ndim == 1 and name.endswith("weight")
        found[name] = 1 + np.float32(0.2) * value if is_gain else value
    if row.kind == "autoencoder_kl_moments":  # logarithms beyond what they are held within
        found["weight.quant_conv.bias"][4:6] = -60, 50
    for argument, shape in row.calls.items():
        if argument == "t":
            found[argument] = np.array([3, 417, 981], np.float32)
        else:
            found[argument] = np.float32(scale if argument == "x" else 1) * normal(rng, BATCH, *shape)
    return found | {"cotangent": normal(rng, BATCH, *row.output)}


def computation_of(tier: str, name: str, row: Row, scale: float, mode: str, seed: int, kernels: bool) -> Computation:
    """One block or network at one scale of its image; with ``kernels`` ours runs by the C++ kernels."""
    calls = list(row.calls)
    kind, what = ("layer", "layer") if tier == "layers" else ("sd_network", "net")
    spec = {
        what: row.kind, "arguments": row.arguments, "calls": calls,
        "differentiable": [i for i, argument in enumerate(calls) if argument != "t"],
    }  # fmt: skip
    label = f"-scale{scale:g}" if tier == "layers" else ""
    made = computation(
        f"{tier}/{name}{label}{'-kernels' if kernels else ''}-{mode}", kind, spec | by(kernels),
        partial(inputs_of, row=row, scale=scale), scales=leg("torch", f"{kind}_scales", spec), mode=mode, seed=seed,
        rule="layers", other_kernels=tier == "layers",
    )  # fmt: skip
    return only_mindspore(made) if kernels else made


def _named(made: Computation, tier: str, mode: str, backward: bool) -> Iterator[Case]:
    stem = made.key.removesuffix(f"-{mode}")
    named = [(f"{stem}-forward-{mode}", ("y",))]
    if backward:
        named.append((f"{stem}-vjp-{mode}", ("grad.*",)))
    yield from cases(tier, made, *named, mode=mode)


def tier2(seed: int = 0) -> Iterator[Case]:
    """Every block alone; small images tell one eps from another."""
    for name, row in BLOCKS.items():
        runs = [(mode, 1, False) for mode in row.modes]
        if row.kind not in WITHOUT_KERNELS:
            runs.append(("pynative", 1, True))
        if row.kind in ("sd_resnet_block", "sd_image_attention", "sd_transformer"):
            runs += [("pynative", 0.002, False), ("pynative", 0.002, True)]
        for mode, scale, kernels in runs:
            made = computation_of("layers", name, row, scale, mode, seed, kernels)
            yield from _named(made, "2", mode, row.kind not in FORWARD_ONLY)


def tier3(seed: int = 0) -> Iterator[Case]:
    """Each network, some compiled too, and one with the C++ kernels: in PyNative tier "peers" has all with them."""
    for name, row in NETWORKS.items():
        runs = [(mode, False) for mode in row.modes]
        if name in COMPILED_BY_KERNELS:
            runs.append(("graph", True))
        for mode, kernels in runs:
            made = computation_of("network", name, row, 1, mode, seed, kernels)
            yield from _named(made, "3", mode, True)
