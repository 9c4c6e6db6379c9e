"""Tier 0, every table and formula, and tier 1, one reverse step, on a stand-in network: only mathematics counts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np

from parity_tests.make import cases, computation
from portparity.arrays import normal
from portparity.backends import leg
from portparity.case import Case

# fmt: off
SCHEDULES = {
    "linear": {"beta_schedule": "linear"},
    "linear_exact": {"beta_schedule": "linear", "schedule_fn_kwargs": {"beta_start": 1e-4, "beta_end": 0.02}},
    "scaled_linear": {
        "beta_schedule": "scaled_linear", "schedule_fn_kwargs": {"beta_start": 0.00085, "beta_end": 0.012}
    },
    "cosine": {"beta_schedule": "cosine"},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "sigmoid_given": {
        "beta_schedule": "sigmoid", "schedule_fn_kwargs": {"start": -2.5, "end": 2.0, "tau": 0.7}
    },
    "cosine_given": {"beta_schedule": "cosine", "schedule_fn_kwargs": {"s": 0.02}},
}
# fmt: on
TABLES = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)  # fmt: skip
OBJECTIVES = ("pred_noise", "pred_x0", "pred_v")
WEIGHTS = {
    "snr": {},
    "min_snr": {"min_snr_loss_weight": True},
    "p2": {"p2_loss_weight_gamma": 0.5},
    "min_snr_p2": {"min_snr_loss_weight": True, "p2_loss_weight_gamma": 1.0, "p2_loss_weight_k": 2.0},
}
METHODS = {  # name: (arguments, outputs)
    "q_sample": (("x_start", "t", "noise"), ("x_t",)),
    "predict_start_from_noise": (("x_t", "t", "noise"), ("x_start",)),
    "predict_noise_from_start": (("x_t", "t", "x_start"), ("noise",)),
    "predict_v": (("x_start", "t", "noise"), ("v",)),
    "predict_start_from_v": (("x_t", "t", "noise"), ("x_start",)),
    "q_posterior": (("x_start", "x_t", "t"), ("mean", "variance", "log_variance")),
}
T = 1000
TIMES = (0, 1, 2, T // 2, T - 1)
SHAPE = (2, 4, 4)  # channels, height, width of the stand-in's images


def affine_weights(rng: np.random.Generator, out_dim: int) -> dict[str, np.ndarray]:
    """Weights of the stand-in whose output leaves [-1, 1] often, so that clipping has something to do."""
    return {f"weight.{name}": (size * normal(rng, 1, out_dim, 1, 1)).astype(np.float32)
            for name, size in (("gain", 0.7), ("mix", 0.5), ("bias", 0.2))}  # fmt: skip


def step_inputs(rng: np.random.Generator, out_dim: int, self_cond: bool, times: tuple[int, ...]) -> dict:
    """x_t, noise, x_self_cond and the stand-in's weights, one image per time."""
    inputs = affine_weights(rng, out_dim) | {"t": np.array(times, np.int32)}
    inputs |= {name: normal(rng, len(times), *SHAPE) for name in ("x", "noise")}
    if self_cond:
        inputs["x_self_cond"] = normal(rng, len(times), *SHAPE)
    return inputs


def tier0(seed: int = 0) -> Iterator[Case]:
    """Every schedule, every table, SNR weights, q_sample, eps <-> x0 <-> v, posterior, DDIM times."""
    affine = (SHAPE[0], SHAPE[0], False)
    nothing = lambda rng: {}  # noqa: E731
    for (name, schedule), steps in product(SCHEDULES.items(), (T, 50)):
        diffusion = {"image_size": 4, "timesteps": steps, **schedule}
        made = computation(
            f"maths/{name}-T{steps}", "tables", {"affine": affine, "diffusion": diffusion}, nothing,
            truth="numpy", rule="ulp", seed=seed, neighbours=0,
        )  # fmt: skip
        yield from cases("0", made, *((f"{made.key}-{table}", (table,)) for table in TABLES))
    for objective, (name, options), schedule in product(OBJECTIVES, WEIGHTS.items(), ("cosine", "sigmoid")):
        diffusion = {"image_size": 4, "objective": objective, "beta_schedule": schedule, **options}
        made = computation(
            f"maths/loss_weight-{schedule}-{objective}-{name}", "tables", {"affine": affine, "diffusion": diffusion},
            nothing, truth="numpy", rule="ulp", seed=seed, neighbours=0,
        )  # fmt: skip
        yield from cases("0", made, (made.key, ("loss_weight",)))
    made = computation(
        "maths/ddim_times", "times", {"timesteps": T, "steps": list(range(1, T + 1))}, nothing,
        truth="numpy", rule="exact", neighbours=0,
    )  # fmt: skip
    yield from cases("0", made)

    def inputs(rng):
        found = {name: normal(rng, len(TIMES), *SHAPE) for name in ("x_start", "x_t", "noise")}
        return found | {"t": np.array(TIMES, np.int32)}

    for (name, (arguments, outputs)), schedule, mode in product(
        METHODS.items(), ("linear", "cosine", "sigmoid"), ("graph", "pynative")
    ):
        spec = {
            "affine": affine, "diffusion": {"image_size": 4, "beta_schedule": schedule},
            "method": name, "arguments": arguments, "outputs": outputs,
        }  # fmt: skip
        made = computation(
            f"maths/{name}-{schedule}-{mode}", "method", spec, inputs, truth="numpy", mode=mode, seed=seed,
            scales=leg("numpy", "method_scales", spec),
        )  # fmt: skip
        yield from cases("0", made, mode=mode)


def _reverse(name, method, outputs, objective, learned, self_cond, mode, seed, constants=None):
    out_dim = SHAPE[0] * (2 if learned else 1)
    more = {"p_sample": ("noise",)}.get(method, ())
    spec = {
        "affine": (SHAPE[0], out_dim, self_cond),
        "diffusion": {"image_size": 4, "objective": objective, "beta_schedule": "cosine"},
        "method": method, "outputs": outputs, "constants": constants or {},
        "arguments": ("x", "t", *more, *(("x_self_cond",) if self_cond else ())),
    }  # fmt: skip
    inputs = partial(step_inputs, out_dim=out_dim, self_cond=self_cond, times=TIMES)
    return computation(
        name, "method", spec, inputs, truth="numpy", mode=mode, seed=seed, scales=leg("numpy", "method_scales", spec)
    )


def _label(objective, learned, self_cond):
    return f"{objective}-{'learned' if learned else 'fixed'}-{'selfcond' if self_cond else 'plain'}"


def tier1(seed: int = 0) -> Iterator[Case]:
    """One reverse step: objective x variance x clip x self-conditioning x t, DDPM and DDIM."""
    for objective, learned, self_cond in product(OBJECTIVES, (False, True), (False, True)):
        label = _label(objective, learned, self_cond)
        for clip in (True, False):
            made = _reverse(
                f"step/p_mean_variance-{label}-{'clip' if clip else 'free'}", "p_mean_variance",
                ("mean", "variance", "log_variance", "x_start"), objective, learned, self_cond, "graph", seed,
                {"clip_denoised": clip},
            )  # fmt: skip
            yield from cases("1", made, *((f"{made.key}-t{t}", (f"*[[]t={t}]",)) for t in TIMES))
        for mode in ("graph", "pynative"):
            made = _reverse(
                f"step/p_sample-{label}-{mode}", "p_sample", ("x_prev", "x_start"), objective, learned, self_cond,
                mode, seed,
            )  # fmt: skip
            each = ((f"{made.key}-t{t}", (f"*[[]t={t}]",)) for t in TIMES)
            yield from cases("1", made, *each, mode=mode)
    for objective, (clip, rederive) in product(OBJECTIVES, ((False, False), (True, False), (True, True))):
        name = f"step/model_predictions-{objective}-{'clip' if clip else 'free'}-{'rederived' if rederive else 'as_is'}"
        made = _reverse(
            name, "model_predictions", ("pred_noise", "pred_x_start"), objective, mode="graph", seed=seed,
            learned=False, self_cond=False, constants={"clip_x_start": clip, "rederive_pred_noise": rederive},
        )  # fmt: skip
        yield from cases("1", made)
    for objective, self_cond, eta in product(OBJECTIVES, (False, True), (0.0, 0.5, 1.0)):
        yield from _ddim("ddim", objective, self_cond, eta, seed)
    for objective in OBJECTIVES:  # the option is about pred_noise alone, and must leave the others as they are
        yield from _ddim("ddim_as_is", objective, seed=seed, self_cond=False, eta=1.0, rederive_pred_noise=False)


def _ddim(kind, objective, self_cond, eta, seed, **options):
    pairs = ((999, 899), (500, 400), (2, 1), (1, 0), (0, -1))
    spec = {
        "affine": (SHAPE[0], SHAPE[0], self_cond), "pairs": pairs, "eta": eta,
        "diffusion": {"image_size": 4, "objective": objective, "beta_schedule": "cosine", **options},
    }  # fmt: skip
    made = computation(
        f"step/{kind}-{objective}-{'selfcond' if self_cond else 'plain'}-eta{eta:g}", "ddim_step", spec,
        partial(step_inputs, out_dim=SHAPE[0], self_cond=self_cond, times=(0, 0)), truth="numpy", seed=seed,
        scales=leg("numpy", "ddim_scales", spec),
    )  # fmt: skip
    return cases("1", made)
