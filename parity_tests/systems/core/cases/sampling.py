"""Tier 5, sampling chains on one noise tape; tier 6, state; tier 7, precision classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product

import numpy as np

from parity_tests.make import cases, computation, shapes_of
from portparity.arrays import normal, weights
from portparity.case import Arrays, Case, Computation
from portparity.classes import HALF, ROUNDED

from .maths import OBJECTIVES, SHAPE, affine_weights
from .nets import GROUP, SMALL, layer_computation, network_computation
from .training import resumed, run_computation


def tape_inputs(rng: np.random.Generator, arrays: int, batch: int, out_dim: int) -> Arrays:
    """The stand-in's weights, small enough that a chain does not explode, and a tape."""
    found = {name: np.float32(0.6) * value for name, value in affine_weights(rng, out_dim).items()}
    return found | {"tape": normal(rng, arrays, batch, *SHAPE)}


def unet_tape_inputs(rng: np.random.Generator, unet: Mapping, arrays: int, batch: int) -> Arrays:
    """A Unet's weights and a tape."""
    found = dict(weights(shapes_of("unet", unet), rng))
    return found | {"tape": normal(rng, arrays, batch, unet["channels"], 8, 8)}


def tier5(seed: int = 0) -> Iterator[Case]:
    """DDPM and DDIM chains, eta 0 and 1, every objective, with and without self-conditioning; interpolation."""
    for objective, learned, self_cond in product(OBJECTIVES, (False, True), (False, True)):
        out_dim = SHAPE[0] * (2 if learned else 1)
        label = f"{objective}-{'learned' if learned else 'fixed'}-{'selfcond' if self_cond else 'plain'}"
        common = {"affine": (SHAPE[0], out_dim, self_cond)}
        diffusion = {"image_size": 4, "objective": objective, "timesteps": 50, "beta_schedule": "cosine"}
        chains = [("ddpm", "ddpm", {}, diffusion, 50)]
        if not learned:
            for eta in (0.0, 1.0):
                longer = diffusion | {"timesteps": 200}
                chains.append((f"ddim_eta{eta:g}", "ddim", {"steps": 12, "eta": eta}, longer, 12))
        for name, sampler, arguments, diffusion_, arrays in chains:
            spec = {**common, "diffusion": diffusion_, "sampler": sampler, "arguments": arguments}
            made = computation(
                f"sampling/{name}-{label}", "chain", spec,
                partial(tape_inputs, arrays=arrays, batch=2, out_dim=out_dim),
                truth="numpy", rule="envelope", seed=seed,
            )  # fmt: skip
            yield from cases("5", made)
    short = {"sampling_timesteps": 12, "ddim_sampling_eta": 1.0}
    as_is = {**short, "objective": "pred_noise", "rederive_pred_noise": False}  # as the flowers recipes sample
    for name, more, arrays in (("ddpm", {}, 50), ("ddim", short, 12), ("ddim_as_is", as_is, 12)):
        diffusion = {"image_size": 4, "timesteps": 50, "beta_schedule": "cosine", **more}
        spec = {"affine": (SHAPE[0], SHAPE[0], False), "diffusion": diffusion, "sampler": "sample"}
        inputs = partial(tape_inputs, arrays=arrays, batch=2, out_dim=SHAPE[0])
        made = computation(f"sampling/sample-{name}", "chain", spec, inputs, truth="numpy", rule="envelope", seed=seed)
        yield from cases("5", made)
    spec = {
        "affine": (SHAPE[0], SHAPE[0], False), "t": 30, "lam": 0.3,
        "diffusion": {"image_size": 4, "timesteps": 50, "beta_schedule": "cosine"},
    }  # fmt: skip
    made = computation("sampling/interpolate", "interpolate", spec, _interpolation_inputs, truth="numpy", seed=seed)
    yield from cases("5", made)
    for name, sampler, arguments, arrays in (
        ("unet_ddpm_1000", "ddpm", {}, 1000), ("unet_ddim_50", "ddim", {"steps": 50, "eta": 0.0}, 50),
        ("unet_ddim_50_eta1", "ddim", {"steps": 50, "eta": 1.0}, 50),
    ):  # fmt: skip
        spec = {"unet": {**SMALL}, "diffusion": {"image_size": 8}, "sampler": sampler, "arguments": arguments}
        inputs = partial(unet_tape_inputs, unet=spec["unet"], arrays=arrays, batch=2)
        made = computation(
            f"sampling/{name}", "chain", spec, inputs, rule="envelope", seed=seed, neighbours=1, other_kernels=True
        )
        yield from cases("5", made)


def _interpolation_inputs(rng: np.random.Generator) -> Arrays:
    found = dict(tape_inputs(rng, 40, 2, SHAPE[0]))
    return found | {name: rng.random((2, *SHAPE), dtype=np.float32) for name in ("x1", "x2")}


ROUND_TRIPS = {
    "2_3": {**SMALL}, "2022": {**SMALL, **GROUP}, "three_stages": {**SMALL, "dim_mults": [1, 2, 4], "channels": 3},
    "full_attention": {**SMALL, "full_attn": [True, False]}, "fourier": {**SMALL, "learned_sinusoidal_cond": True},
}  # fmt: skip


def tier6(seed: int = 0) -> Iterator[Case]:
    """PyTorch -> MindSpore -> PyTorch bit for bit; a resumed run equals one that was never interrupted."""
    for name, unet in ROUND_TRIPS.items():
        made = computation(
            f"state/roundtrip-{name}", "roundtrip", {"unet": unet},
            lambda rng, unet=unet: weights(shapes_of("unet", unet), rng), truth="numpy", rule="exact", neighbours=0,
            seed=seed,
        )  # fmt: skip
        yield from cases("6", made)
    for name in ("unet_2_3", "unet_2022"):
        made = network_computation(name, "pynative", seed, convert=True)
        yield from cases("6", made, (made.key, ("y",)), mode="pynative")
    made = resumed(seed)
    named = (("log", ("loss", "grad_norm")), ("weights", ("weight.*",)), ("averages", ("average.*",)))
    yield from cases("6", made, *((f"{made.key}-{name}", patterns) for name, patterns in named), mode="pynative")


# Not the weight-standardised blocks: their eps is another in half precision, so float64 is no oracle of them.
HALF_LAYERS = ("conv3", "conv4_stride2", "linear", "block_rms", "resnet_block_rms", "linear_attention", "attention")


CLASSES = (*product(HALF, ("O1", "O2")), *((name, "O0") for name in ROUNDED))  # (precision, level)
# Adam's first step is the sign of the gradient, which half precision cannot tell where it is small; with an eps of the
# gradients' size it is nearly the gradient.
SMOOTH = {"lr": 0.1, "eps": 0.1}
ONE_STEP = (("one_step_2_3", {**SMALL}, {}), ("one_step_2022", {**SMALL, **GROUP}, {"objective": "pred_noise"}))


def tier7(seed: int = 0) -> Iterator[Case]:
    """Every other precision class, judged against PyTorch's own in it; modes and devices run through every tier.

    Layers and networks forward and backward, and a training step. TF32 and HF32 want a device and a switch.
    """
    for precision, level in CLASSES:
        for name in HALF_LAYERS:
            yield from _forward_and_vjp(layer_computation(name, 1, "pynative", seed, precision, level))
        for name in ("unet_2_3", "unet_2022"):
            yield from _forward_and_vjp(network_computation(name, "pynative", seed, precision, level))
        for name, unet, diffusion in ONE_STEP:
            made = run_computation(
                name, unet, diffusion, 1, mode="pynative", seed=seed, precision=precision, level=level,
                arguments=SMOOTH,
            )  # fmt: skip
            stem = _stem(made)
            named = ((f"{stem}-loss", ("loss", "grad_norm")), (f"{stem}-weights", ("weight.*",)))
            yield from cases("7", made, *named, mode="pynative")
    yield from loss_scales(seed)


def _stem(made: Computation) -> str:
    return "modes/" + made.key.removesuffix("-pynative").partition("/")[2]


def _forward_and_vjp(made: Computation) -> Iterator[Case]:
    stem = _stem(made)
    yield from cases("7", made, (f"{stem}-forward", ("y",)), (f"{stem}-vjp", ("grad.*",)), mode="pynative")


LOSS_SCALES = {  # as torch.amp.GradScaler takes them
    "defaults": {"init_scale": 2.0**16, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000},
    "short_interval": {"init_scale": 3.0, "growth_factor": 2.0, "backoff_factor": 0.125, "growth_interval": 3},
    "every_step": {"init_scale": 2.0**-3, "growth_factor": 4.0, "backoff_factor": 0.25, "growth_interval": 1},
}


def loss_scales(seed: int = 0) -> Iterator[Case]:
    """The dynamic loss scale against PyTorch's GradScaler, step by step, bit for bit."""
    for (name, arguments), mode in product(LOSS_SCALES.items(), ("graph", "pynative")):
        made = computation(
            f"modes/loss_scale-{name}-{mode}", "loss_scale", {"arguments": arguments},
            lambda rng: {"finite": rng.random(60) < 0.75}, truth="numpy", mode=mode, seed=seed, rule="exact",
            neighbours=0,
        )  # fmt: skip
        yield from cases("7", made, mode=mode)
