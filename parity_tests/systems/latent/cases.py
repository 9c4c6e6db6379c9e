"""Autoencoder and latent diffusion: statistics, layers, networks, training, chains decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from parity_tests.make import cases, computation
from portparity.arrays import given, normal
from portparity.backends import backend, leg
from portparity.case import Arrays, Case, Computation, Leg

from . import oracle

BOTH = ("graph", "pynative")


class Row(NamedTuple):
    """A module: kind, arguments, shapes of what it is called with, shape of what it gives, oracle."""

    kind: str
    arguments: Mapping
    calls: Mapping[str, tuple[int, ...]]
    output: tuple[int, ...]
    truth: str = ""  # a key of `TRUTHS`
    training: bool = False
    modes: tuple[str, ...] = ("pynative",)
    images: bool = False  # inputs in [0, 1] instead of normal ones


IMAGE = (3, 1, 16, 16)
LAYERS: dict[str, Row] = {
    "batch_norm_training": Row(
        "batch_norm", {"dim": 6}, {"x": (3, 6, 5, 7)}, (3, 6, 5, 7), "batch_norm", True, BOTH
    ),
    "batch_norm_evaluating": Row("batch_norm", {"dim": 6}, {"x": (3, 6, 5, 7)}, (3, 6, 5, 7), "batch_norm", modes=BOTH),
    "batch_norm_training_offset": Row(
        "batch_norm", {"dim": 6}, {"x": (4, 6, 3, 3)}, (4, 6, 3, 3), "batch_norm", True
    ),
    "lpips_fire": Row(
        "fire", {"dim": 8, "squeeze": 4, "expand": 6}, {"x": (2, 8, 5, 7)}, (2, 12, 5, 7), "fire", modes=BOTH
    ),
    "lpips_max_pool_ceil": Row(
        "max_pool", {"kernel": 3, "ceil": True}, {"x": (2, 4, 6, 9)}, (2, 4, 3, 4), "max_pool"
    ),
    "lpips_max_pool_ceil_fits": Row(
        "max_pool", {"kernel": 3, "ceil": True}, {"x": (2, 4, 7, 5)}, (2, 4, 3, 2), "max_pool"
    ),
    "lpips_max_pool": Row("max_pool", {"kernel": 3, "ceil": False}, {"x": (2, 4, 6, 9)}, (2, 4, 2, 4), "max_pool"),
    "lpips_unit_length": Row("unit_length", {}, {"x": (2, 8, 4, 6)}, (2, 8, 4, 6), "unit_length", modes=BOTH),
    "lpips_unit_length_zero_pixel": Row("unit_length", {}, {"x": (2, 8, 4, 6)}, (2, 8, 4, 6), "unit_length"),
}  # fmt: skip
NETWORKS: dict[str, Row] = {
    "autoencoder_training": Row(
        "autoencoder", {"channels": [4, 4, 4]}, {"x": IMAGE}, IMAGE, "autoencoder", True, BOTH, True
    ),
    "autoencoder_evaluating": Row(
        "autoencoder", {"channels": [4, 4, 4]}, {"x": IMAGE}, IMAGE, "autoencoder", images=True
    ),
    "autoencoder_wide": Row(
        "autoencoder", {"channels": [4, 8, 32]}, {"x": (2, 1, 28, 28)}, (2, 1, 28, 28), "autoencoder", True, images=True
    ),
    "autoencoder_rgb_not_square": Row(
        "autoencoder", {"channels": [3, 5, 2], "in_channels": 3}, {"x": (2, 3, 12, 18)}, (2, 3, 12, 18), "autoencoder",
        True, images=True,
    ),
    "lpips_squeeze": Row(
        "lpips", {"net": "squeeze"}, {"x": (2, 1, 28, 28), "y": (2, 1, 28, 28)}, (2,), "lpips", modes=BOTH, images=True
    ),
    "lpips_squeeze_rgb": Row(
        "lpips", {"net": "squeeze"}, {"x": (2, 3, 20, 33), "y": (2, 3, 20, 33)}, (2,), "lpips", images=True
    ),
    "lpips_alex": Row("lpips", {"net": "alex"}, {"x": (2, 3, 32, 40), "y": (2, 3, 32, 40)}, (2,), images=True),
}  # fmt: skip
POSITIVE = ("max_pool",)  # what they get comes from a ReLU


def shapes(kind: str, arguments: Mapping) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a module's parameters and running statistics, as PyTorch has them."""
    backend("torch")  # says so where PyTorch is not installed
    from .on_torch import module_shapes

    return module_shapes(kind, arguments)


def state(shapes: Mapping[str, tuple[int, ...]], rng: np.random.Generator, prefix: str = "weight.") -> Arrays:
    """Values that hide nothing: no gain is 1, no bias or mean 0, no running variance 1, no distance negative."""
    found = {}
    for name, shape in shapes.items():
        value = normal(rng, *shape)
        if name.endswith("running_var"):
            value = 0.5 + rng.random(shape, dtype=np.float32)
        elif name.endswith("weight") and len(shape) == 1:
            value = 1 + 0.2 * value
        elif name.startswith("lin"):
            value = np.abs(value) / shape[1]
        elif len(shape) > 1:
            fan_in = np.prod(shape[1:])
            value = value * np.sqrt((2 if "features." in name else 1) / fan_in)
        else:
            value = 0.1 * value
        found[prefix + name] = value.astype(np.float32)
    return found


def module_inputs(rng: np.random.Generator, name: str, row: Row, scale: float) -> Arrays:
    """A module's weights, what it is called with and a cotangent."""
    found = dict(state(shapes(row.kind, row.arguments), rng))
    for argument, shape in row.calls.items():
        value = rng.random(shape, dtype=np.float32) if row.images else np.float32(scale) * normal(rng, *shape)
        found[argument] = np.abs(value) if row.kind in POSITIVE else value
    if name.endswith("zero_pixel"):
        found["x"][0, :, 2, 3] = 0
    if name.endswith("offset"):  # a mean that is large against the deviation
        found["x"] += np.float32(100 * scale)
    return found | {"cotangent": normal(rng, *row.output)}


def _batch_norm(row: Row, inputs: Arrays) -> Arrays:
    y, mean, variance = oracle.batch_norm(inputs["x"], given(inputs, "weight"), row.training)
    return {"y": y, "running.running_mean": mean, "running.running_var": variance}


def _autoencoder(row: Row, inputs: Arrays) -> Arrays:
    _, y, running = oracle.autoencoder(inputs["x"], given(inputs, "weight"), row.training)
    return {"y": y, **{f"running.{name}": value for name, value in running.items()}}


TRUTHS = {
    "batch_norm": _batch_norm,
    "autoencoder": _autoencoder,
    "fire": lambda row, inputs: {"y": oracle.fire(inputs["x"], given(inputs, "weight"))},
    "max_pool": lambda row, inputs: {"y": oracle.max_pool(inputs["x"], **row.arguments)},
    "unit_length": lambda row, inputs: {"y": oracle.unit_length(inputs["x"])},
    "lpips": lambda row, inputs: {"y": oracle.lpips_squeeze(inputs["x"], inputs["y"], given(inputs, "weight"))},
}


def truth_of(row: Row, spec: Mapping) -> Leg:
    """PyTorch in double for the gradients, the oracle for what is computed."""
    autograd = leg("torch", "module", spec, dtype="float64")
    return lambda inputs: {**autograd(inputs), **(TRUTHS[row.truth](row, inputs) if row.truth else {})}


def module_computation(tier: str, name: str, row: Row, scale: float, mode: str, seed: int) -> Computation:
    """One module in one mode."""
    spec = {
        "module": row.kind, "arguments": row.arguments, "calls": list(row.calls), "training": row.training,
        "differentiable": [len(row.calls) - 1],
    }  # fmt: skip
    label = "" if tier == "network" else f"-scale{scale:g}"
    return computation(
        f"{tier}/{name}{label}-{mode}", "module", spec, partial(module_inputs, name=name, row=row, scale=scale),
        truth=truth_of(row, spec), scales=leg("torch", "module_scales", spec), mode=mode, seed=seed, rule="layers",
        other_kernels=True,
    )  # fmt: skip


def _module_cases(tier: str, name: str, row: Row, scale: float, mode: str, seed: int) -> Iterator[Case]:
    made = module_computation({"2": "layers", "3": "network"}[tier], name, row, scale, mode, seed)
    stem = made.key.removesuffix(f"-{mode}")
    named = [(f"{stem}-forward-{mode}", ("y",)), (f"{stem}-vjp-{mode}", ("grad.*",))]
    if row.kind in ("batch_norm", "autoencoder"):
        named.append((f"{stem}-running-{mode}", ("running.*",)))
    yield from cases(tier, made, *named, mode=mode)


STATISTICS = {"net": {"channels": [3, 4, 4, 4], "embed_dim": 4, "text_dim": 4, "num_classes": 2},
              "autoencoder": {"channels": [2, 2, 3]}, "side": 26}  # fmt: skip


def _latents(rng: np.random.Generator) -> Arrays:
    """Latents whose channels differ in mean and deviation."""
    z = normal(rng, 50, 3, 9, 9) * np.float32([0.1, 1, 7])[:, None, None] + np.float32([-3, 0.5, 20])[:, None, None]
    return {"z": z}


def _statistics_truth(inputs: Arrays) -> Arrays:
    z = np.asarray(inputs["z"], np.float64)
    mean, variance = oracle.channel_statistics(z)
    scalar_mean, scalar_variance = oracle.channel_statistics(z.reshape(1, 1, -1, 1))
    columns = (None, slice(None), None, None)
    return {
        "mean": mean, "std": np.sqrt(variance), "scalar_mean": scalar_mean[0],
        "scalar_std": np.sqrt(scalar_variance[0]),
        "normalised": (z - mean[columns]) / np.sqrt(variance)[columns],
    }  # fmt: skip


def _deviated(inputs: Arrays) -> Arrays:
    """The operand of z - mean, over the deviation."""
    z = np.asarray(inputs["z"], np.float64)
    return {"normalised": np.abs(z) / np.sqrt(oracle.channel_statistics(z)[1])[None, :, None, None]}


def tier0(seed: int = 0) -> Iterator[Case]:
    """The statistics of latents, and latents normalised by them."""
    made = computation(
        "maths/latent_statistics", "latent_statistics", STATISTICS, _latents, truth=_statistics_truth, seed=seed,
        mode="pynative", scales=_deviated,
    )  # fmt: skip
    yield from cases("0", made, mode="pynative")


def _pair(rng: np.random.Generator) -> Arrays:
    x = rng.random((2, 1, 28, 30), dtype=np.float32)
    return {"x": x, "y": np.clip(x + np.float32(0.05) * normal(rng, *x.shape), 0, 1)}


def _gradient_loss_truth(inputs: Arrays) -> Arrays:
    value, gradient = oracle.gradient_loss(inputs["x"], inputs["y"])
    return {"loss": np.float64(value), "grad.y": gradient}


def tier2(seed: int = 0) -> Iterator[Case]:
    """Batch normalisation, the parts of LPIPS, the gradient loss."""
    for name, row in LAYERS.items():
        for mode in row.modes:
            for scale in (1,) if mode == "graph" else (0.02, 1, 30):
                yield from _module_cases("2", name, row, scale, mode, seed)
    for mode in BOTH:
        made = computation(
            f"layers/gradient_loss-{mode}", "gradient_loss", {}, _pair, truth=_gradient_loss_truth, mode=mode, seed=seed
        )
        yield from cases("2", made, mode=mode)


def tier3(seed: int = 0) -> Iterator[Case]:
    """The autoencoder and the networks of LPIPS."""
    for name, row in NETWORKS.items():
        for mode in row.modes:
            yield from _module_cases("3", name, row, 1, mode, seed)


def _training(perceptual: str) -> dict:
    return {
        "arguments": {"channels": [4, 4, 4]}, "side": 20, "perceptual": perceptual, "weight": 0.5,
        "adam": {"lr": 1e-2, "betas": [0.9, 0.99]}, "max_grad_norm": 1.0,
    }  # fmt: skip


def training_inputs(rng: np.random.Generator, spec: Mapping, steps: int | None, batch: int) -> Arrays:
    """Weights and smooth pictures in [0, 1]: one batch, or ``steps`` of them."""
    found = dict(state(shapes("autoencoder", spec["arguments"]), rng))
    if spec["perceptual"] == "lpips":
        found |= state(shapes("lpips", {"net": "squeeze"}), rng, "weight.lpips.")
    shape = (*([steps] if steps else []), batch, 1, spec["side"], spec["side"])
    return found | {"img": rng.random(shape, dtype=np.float32)}


def _autoencoder_losses(seed: int) -> Iterator[Case]:
    mode = "pynative"  # the runs below compile it
    for perceptual in ("gradient", "none", "lpips"):
        spec = _training(perceptual)
        made = computation(
            f"training/autoencoder_loss-{perceptual}-{mode}", "autoencoder_loss", spec,
            partial(training_inputs, spec=spec, steps=None, batch=3), mode=mode, seed=seed, rule="layers",
            scales=leg("torch", "autoencoder_loss_scales", spec), other_kernels=True,
        )  # fmt: skip
        stem = made.key.removesuffix(f"-{mode}")
        named = ((f"{stem}-value-{mode}", ("loss",)), (f"{stem}-gradient-{mode}", ("grad.*",)))
        yield from cases("4", made, *named, mode=mode)


def _autoencoder_runs(seed: int) -> Iterator[Case]:
    spec = _training("gradient")
    # Every step's gradient of a bias before a batch normalisation is rounding alone, whose sign Adam takes.
    spec["adam"] = {**spec["adam"], "eps": 1e-3}
    for steps, mode, rule in ((1, "pynative", "layers"), (12, "graph", "envelope")):
        made = computation(
            f"training/autoencoder-{steps}_steps-{mode}", "train_autoencoder", spec,
            partial(training_inputs, spec=spec, steps=steps, batch=4), mode=mode, seed=seed, rule=rule, neighbours=4,
            other_kernels=True,
        )  # fmt: skip
        stem = made.key.removesuffix(f"-{mode}")
        named = [(f"{stem}-loss-{mode}", ("loss", "grad_norm"))]
        if steps == 1:
            named += [(f"{stem}-weights-{mode}", ("weight.*",)), (f"{stem}-running-{mode}", ("running.*",))]
        else:
            named += [(f"{stem}-running-{mode}", ("running.*",))]
        yield from cases("4", made, *named, mode=mode)


SMALL = {
    "net": {"channels": [2, 4, 8, 8], "embed_dim": 8, "text_dim": 6, "num_classes": 3},
    "autoencoder": {"channels": [3, 4, 2]}, "side": 28,
}  # fmt: skip


def latent_inputs(rng: np.random.Generator, batch: int, arrays: int = 0) -> Arrays:
    """Weights of both networks and statistics; a batch with its draws, or a tape."""
    found = dict(state(shapes("latent_net", SMALL["net"]), rng, "weight.net."))
    found |= state(shapes("autoencoder", SMALL["autoencoder"]), rng, "weight.autoencoder.")
    found |= {"mean": np.array([-0.7, 0.4], np.float32), "std": np.array([0.9, 1.6], np.float32)}
    found["labels"] = np.arange(batch, dtype=np.int32) % 3
    if arrays:
        return found | {"tape": normal(rng, arrays, batch, 2, 10, 10)}
    found |= {name: normal(rng, batch, 2, 10, 10) for name in ("z", "noise")}
    return found | {"t": np.linspace(0.01, 1, batch).astype(np.float32)}


def tier4(seed: int = 0) -> Iterator[Case]:
    """Training of the autoencoder, running statistics included, and the loss of latent diffusion."""
    yield from _autoencoder_losses(seed)
    yield from _autoencoder_runs(seed)
    for mode in BOTH:
        made = computation(
            f"training/latent_loss-{mode}", "latent_loss", SMALL, partial(latent_inputs, batch=4), mode=mode, seed=seed,
            rule="layers", other_kernels=True,
        )  # fmt: skip
        named = (
            (f"training/latent_loss-value-{mode}", ("loss",)),
            (f"training/latent_loss-gradient-{mode}", ("grad.*",)),
        )
        yield from cases("4", made, *named, mode=mode)


def tier5(seed: int = 0) -> Iterator[Case]:
    """Chains in latent space, decoded."""
    for sampler, steps, arrays in (("euler", 12, 12), ("heun", 6, 1)):
        made = computation(
            f"sampling/latent_{sampler}", "latent_chain", {**SMALL, "sampler": sampler, "steps": steps},
            partial(latent_inputs, batch=2, arrays=arrays), rule="envelope", seed=seed, other_kernels=True,
        )  # fmt: skip
        yield from cases("5", made)


PRODUCTS = dict.fromkeys(("autoencoder_loss", "train_autoencoder", "latent_loss", "latent_chain"), "")
WITHOUT_PRODUCTS = ("batch_norm", "max_pool", "unit_length")
SMALL_SET = (  # what parity_tests/bundles holds of it
    "training/latent_loss-pynative",
    "layers/batch_norm_training-scale1-pynative",
    "network/autoencoder_training-pynative",
    "training/autoencoder_loss-gradient-pynative",
)
