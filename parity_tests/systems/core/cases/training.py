"""Tier 4, training: losses and gradients, optimizers, clipping, averages, one synchronised step, free runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np

from parity_tests.make import amp_of, by, cases, computation, label_of, only_mindspore, shapes_of
from portparity.arrays import normal, weights
from portparity.backends import leg
from portparity.case import Arrays, Case, Computation

from .maths import OBJECTIVES, SHAPE, TIMES, affine_weights
from .nets import GROUP, SMALL

OFFSET = {"offset_noise_strength": 0.1}
LOSSES = {  # beside every objective x loss x variance x self-conditioning: name: (diffusion arguments, input)
    "min_snr": {"objective": "pred_noise", "min_snr_loss_weight": True},
    "min_snr_v": {"objective": "pred_v", "min_snr_loss_weight": True, "min_snr_gamma": 3},
    "p2": {"objective": "pred_noise", "p2_loss_weight_gamma": 1.0},
    "offset_noise": {"objective": "pred_noise", **OFFSET},
    "offset_noise_v": {"objective": "pred_v", **OFFSET},
    "not_normalised": {"objective": "pred_x0", "auto_normalize": False},
    "linear": {"objective": "pred_noise", "beta_schedule": "linear"},
}


def loss_inputs(rng: np.random.Generator, out_dim: int, offset: bool) -> Arrays:
    """Images in [0, 1], times from both ends and the middle, noise, the stand-in's weights."""
    batch = len(TIMES)
    found = affine_weights(rng, out_dim)
    found["img"] = rng.random((batch, *SHAPE), dtype=np.float32)
    found["img"][0, 0, 0, :2] = 0, 1  # the ends of the discretised likelihood
    found |= {"t": np.array(TIMES, np.int32), "noise": normal(rng, batch, *SHAPE)}
    if offset:
        found["offset_noise"] = normal(rng, batch, SHAPE[0])
    return found


def _loss(name: str, diffusion: Mapping, learned: bool, self_cond: bool, mode: str, seed: int) -> Iterator[Case]:
    out_dim = SHAPE[0] * (2 if learned else 1)
    diffusion = {"image_size": 4, "beta_schedule": "cosine", **diffusion}
    spec = {"affine": (SHAPE[0], out_dim, self_cond), "diffusion": diffusion, "self_cond": self_cond}
    exact = leg("numpy", "loss", spec)
    autograd = leg("torch", "loss", spec, dtype="float64")

    def truth(inputs: Arrays) -> Arrays:
        return {**autograd(inputs), **exact(inputs)}

    inputs = partial(loss_inputs, out_dim=out_dim, offset="offset_noise_strength" in diffusion)
    made = computation(f"training/loss-{name}-{mode}", "loss", spec, inputs, truth=truth, mode=mode, seed=seed)
    stem = made.key.removesuffix(f"-{mode}")
    named = ((f"{stem}-value-{mode}", ("loss",)), (f"{stem}-gradient-{mode}", ("grad.*",)))
    yield from cases("4", made, *named, mode=mode)


def losses(seed: int = 0) -> Iterator[Case]:
    """Every objective x loss x variance x self-conditioning, and the ways to weigh it."""
    for objective, kind, learned, self_cond in product(OBJECTIVES, ("l2", "l1"), (False, True), (False, True)):
        name = f"{objective}-{kind}-{'learned' if learned else 'fixed'}-{'selfcond' if self_cond else 'plain'}"
        mode = "graph" if self_cond else "pynative"
        yield from _loss(name, {"objective": objective, "loss_type": kind}, learned, self_cond, mode, seed)
    for name, diffusion in LOSSES.items():
        yield from _loss(name, diffusion, learned=False, self_cond=False, mode="pynative", seed=seed)


OPTIMIZERS = {
    "adam": ("adam", {"lr": 1e-3, "betas": [0.9, 0.99]}),
    "adam_slow_second_moment": ("adam", {"lr": 1e-3, "betas": [0.9, 0.999]}),
    "adam_large_eps": ("adam", {"lr": 1e-2, "betas": [0.0, 0.99], "eps": 1e-3}),  # and no first moment
    "adam_l2": ("adam", {"lr": 1e-3, "betas": [0.9, 0.99], "weight_decay": 0.1}),
    "adamw": ("adamw", {"lr": 1e-3, "betas": [0.9, 0.999]}),
    "adamw_strong_decay": ("adamw", {"lr": 1e-2, "betas": [0.9, 0.99], "weight_decay": 0.3}),
    "adam_rate": ("adam", {"lr": 1e-3, "betas": [0.9, 0.99]}),
    "adam_from_zero": ("adam", {"lr": 1e-3, "betas": [0.9, 0.999]}),  # no weight hides the update's last digits
}
STEPS = 20
LOSS_SCALE = 2.0**12


def gradient_inputs(rng: np.random.Generator, from_zero: bool = False) -> Arrays:
    """Weights, and gradients that span 1e-9 to 1e-1, alike on every side."""
    found = {}
    for name, shape in (("a", (9, 8)), ("b", (17,))):
        size = 10.0 ** rng.uniform(-9, -1, shape)
        found[f"weight.{name}"] = ((0.0 if from_zero else 0.1) * rng.standard_normal(shape)).astype(np.float32)
        found[f"gradient.{name}"] = (size * rng.standard_normal((STEPS, *shape))).astype(np.float32)
    return found


# name, a tenth of the gradients' norm, the norm that is allowed
CLIPPED = (("clips", 1.0, 1.0), ("leaves", 1e-3, 1.0), ("zero", 0.0, 1.0), ("tiny", 1e-6, 1e-6), ("inf", np.inf, 1.0))


def clip_inputs(rng: np.random.Generator, size: float) -> Arrays:
    """Gradients of a global norm around ``size`` times 10; where that is infinite, one of them is."""
    if np.isinf(size):
        found = clip_inputs(rng, 1.0)
        found["gradient.a"][3, 4] = np.inf
        return found
    return {f"gradient.{name}": np.float32(size) * normal(rng, *shape) for name, shape in (("a", (9, 8)), ("b", (17,)))}


def optimizers(seed: int = 0) -> Iterator[Case]:
    """Optimizers on equal gradients, and clipping."""
    for (name, (kind, arguments)), mode, kernels in product(OPTIMIZERS.items(), ("graph", "pynative"), (False, True)):
        shown = [1, 2, STEPS]
        spec = {"optimizer": kind, "arguments": arguments, "steps": STEPS, "shown": shown, **by(kernels)}
        if name == "adam_rate":  # another learning rate at every step
            spec["rates"] = [1e-2 / (i + 1) for i in range(STEPS)]
        inputs = partial(gradient_inputs, from_zero=name.endswith("from_zero"))
        label = f"kernels-{mode}" if kernels else mode
        made = computation(f"training/{name}-{label}", "optimizer", spec, inputs, truth="numpy", mode=mode, seed=seed)
        named = ((f"training/{name}-step{i}-{label}", (f"*[[]step={i}]",)) for i in shown)
        yield from cases("4", only_mindspore(made) if kernels else made, *named, mode=mode)
    for name, size, max_norm in CLIPPED:
        inputs = partial(clip_inputs, size=size)
        made = computation(f"training/clip-{name}", "clip", {"max_norm": max_norm}, inputs, truth="numpy", seed=seed)
        yield from cases("4", made)


AVERAGES = {
    "ema": {"beta": 0.995, "update_after_step": 100, "update_every": 10},
    "ema_early": {"beta": 0.9, "update_after_step": 3, "update_every": 2, "power": 0.75, "min_value": 0.1},
    "ema_limits": {"beta": 0.6, "update_after_step": 3, "update_every": 2, "inv_gamma": 2.0, "min_value": 0.4},
}


def averages(seed: int = 0) -> Iterator[Case]:
    """The moving average through its warm-up, and what a swap puts into the model."""
    for name, arguments in AVERAGES.items():
        full = {"inv_gamma": 1.0, "power": 2 / 3, "min_value": 0.0, **arguments}
        every, after = full["update_every"], full["update_after_step"]
        shown = [1, 2, every, every + 1, after + 1, after + 1 + every, after + 1 + 5 * every]
        inputs = partial(_weights_in_time, calls=max(shown))
        made = computation(
            f"training/{name}", "ema", {"arguments": full, "shown": sorted(set(shown))}, inputs, truth="numpy",
            seed=seed,
        )  # fmt: skip
        yield from cases("4", made, *((f"training/{name}-call{i}", (f"*[[]call={i}]",)) for i in sorted(set(shown))))


def _weights_in_time(rng: np.random.Generator, calls: int) -> Arrays:
    return {"w": normal(rng, 1, 33) + 0.1 * np.cumsum(normal(rng, calls, 33), axis=0, dtype=np.float32)}


def training_inputs(
    rng: np.random.Generator, unet: Mapping, count: int, batch: int, side: int, steps_total: int, images=None
) -> Arrays:
    """Weights and ``count`` batches with their draws."""
    channels = unet["channels"]
    found = dict(weights(shapes_of("unet", unet), rng))
    shape = (count, batch, channels, side, side)
    found["img"] = rng.random(shape, dtype=np.float32) if images is None else images(rng, shape)
    found |= {"t": rng.integers(0, steps_total, (count, batch)).astype(np.int32), "noise": normal(rng, *shape)}
    if unet.get("self_condition"):
        found["self_cond"] = np.arange(count) % 2 == 1
    return found


def digits(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Real handwritten digits in [0, 1], drawn with replacement."""
    from sklearn.datasets import load_digits

    images = (load_digits().images / 16).astype(np.float32)
    return images[rng.integers(0, len(images), shape[:2])][:, :, None]


def run_computation(
    name: str, unet: Mapping, diffusion: Mapping, steps: int, *, batch: int = 4, accumulate: int = 1,
    optimizer: str = "adam", rule: str = "layers", mode: str = "graph", seed: int = 0, ema: Mapping | None = None,
    neighbours: int = 2, other_kernels: bool = False, images=None, precision: str = "float32", level: str = "O0",
    arguments: Mapping | None = None,
) -> Computation:  # fmt: skip
    """``steps`` of training from equal weights, batches, times and noise; float16 at a loss scale that fits."""
    spec = {
        "unet": unet, "diffusion": {"image_size": 8, **diffusion}, "steps": steps, "optimizer": optimizer,
        "arguments": {"lr": 1e-3, "betas": [0.9, 0.99], **(arguments or {})}, "max_grad_norm": 1.0,
        "accumulate": accumulate,
        **({"ema": ema} if ema else {}), **({"loss_scale": LOSS_SCALE} if precision == "float16" else {}),
    }  # fmt: skip
    inputs = partial(
        training_inputs, unet=unet, count=steps * accumulate, batch=batch, side=8,
        steps_total=diffusion.get("timesteps", 1000), images=images,
    )  # fmt: skip
    return computation(
        f"training/{name}{label_of(precision, level)}-{mode}", "train", spec, inputs, rule=rule, mode=mode, seed=seed,
        neighbours=neighbours, other_kernels=other_kernels, precision=precision, mindspore=amp_of(precision, level),
    )  # fmt: skip


def resumed(seed: int = 0) -> Computation:
    """A MindSpore run that was stopped, saved and gone on with, against the one that never was: bit for bit."""
    ema = {"beta": 0.9, "update_after_step": 1, "update_every": 2}
    whole = run_computation("resume", {**SMALL}, {"objective": "pred_noise"}, 6, mode="pynative", seed=seed, ema=ema)
    spec = {**whole.spec, "kind": "resume", "interrupt": 4, "rule": "exact"}
    uninterrupted = leg("mindspore", "train", spec, mode="pynative")
    interrupted = leg("mindspore", "resume", spec, mode="pynative")
    return replace(
        whole, key="state/resume", truth=uninterrupted, references=(uninterrupted,), rule="exact", spec=spec,
        candidates={"mindspore": interrupted},
    )  # fmt: skip


ONE_STEP = {
    "one_step_2_3": ({**SMALL}, {}, {}),
    "one_step_2022": ({**SMALL, **GROUP}, {"objective": "pred_noise", "loss_type": "l1"}, {}),
    "one_step_accumulated": ({**SMALL}, {"objective": "pred_noise"}, {"accumulate": 3}),
    "one_step_learned_variance": ({**SMALL, "learned_variance": True}, {"objective": "pred_noise"}, {}),
    "one_step_adamw": ({**SMALL}, {"objective": "pred_x0"}, {"optimizer": "adamw"}),
}


def free_run(seed: int = 0, steps: int = 200) -> Computation:
    """The same ``steps`` of training on digits in both frameworks, each on its own weights from the second step on."""
    unet = {**SMALL}
    ema = {"beta": 0.995, "update_after_step": 20, "update_every": 10}
    return run_computation(
        f"digits_{steps}_steps", unet, {}, steps, batch=16, rule="envelope", seed=seed, ema=ema, images=digits,
        neighbours=1, other_kernels=True,
    )  # fmt: skip


def tier4(seed: int = 0) -> Iterator[Case]:
    """Everything that changes a weight."""
    yield from losses(seed)
    yield from optimizers(seed)
    yield from averages(seed)
    for name, (unet, diffusion, more) in ONE_STEP.items():
        mode = "graph" if name == "one_step_2_3" else "pynative"
        # Adam's first step is the sign of the gradient where that is large against eps, so its error has a heavy tail.
        made = run_computation(name, unet, diffusion, 1, mode=mode, seed=seed, neighbours=4, other_kernels=True, **more)
        stem = f"training/{name}"
        named = ((f"{stem}-loss-{mode}", ("loss", "grad_norm")), (f"{stem}-weights-{mode}", ("weight.*",)))
        yield from cases("4", made, *named, mode=mode)
    made = free_run(seed)
    named = ((f"{made.key}-loss", ("loss",)), (f"{made.key}-gradient_norm", ("grad_norm",)))
    yield from cases("4", made, *named)
