"""The schedulers: tier 0 tables, times, variances and noising, tier 1 one step, tier 5 chains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product

import numpy as np

from parity_tests.make import cases, computation
from portparity.arrays import normal
from portparity.backends import leg
from portparity.case import Arrays, Case, Computation

SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace")
SPACINGS = {
    "linspace": {"timestep_spacing": "linspace"},
    "leading": {"timestep_spacing": "leading"},
    "leading_offset1": {"timestep_spacing": "leading", "steps_offset": 1},
    "trailing": {"timestep_spacing": "trailing", "steps_offset": 1},  # which is for "leading" alone
}
PREDICTIONS = ("epsilon", "sample", "v_prediction")
VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range")
LIMITS = {
    "clip": {"clip_sample_range": 0.8},
    "free": {"clip_sample": False},
    "threshold": {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 2.5},
}
ETAS = (0.0, 0.5, 1.0)
ZERO_SNR = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
TO_SMALLEST = {"final_sigmas_type": "sigma_min"}
KARRAS = {"use_karras_sigmas": True}
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}  # Stable Diffusion's
TEN = {"steps": 10}
OWN_BETAS = (np.linspace(0.002, 0.15, 40) ** 1.5).round(6).tolist()  # of no schedule that has a name
LEVELS = (  # scheduler, name, configuration, chain
    ("euler", "leading", {**LEADING, **TO_SMALLEST}, TEN),
    ("euler", "zero_snr", ZERO_SNR, TEN),
    ("euler", "karras", {**KARRAS, "timestep_spacing": "leading", "sigma_min": 0.05, "sigma_max": 9.0}, TEN),
    ("euler", "exponential", {"use_exponential_sigmas": True}, TEN),
    ("euler", "beta", {"use_beta_sigmas": True, **LEADING}, TEN),
    ("euler", "T50", {"num_train_timesteps": 50, **LEADING}, TEN),
    ("euler", "betas", {"trained_betas": OWN_BETAS, "num_train_timesteps": len(OWN_BETAS)}, {"steps": 7}),
    ("euler", "log_linear", {"interpolation_type": "log_linear"}, TEN),
    ("euler", "continuous", {"timestep_type": "continuous", "prediction_type": "v_prediction"}, TEN),
    ("euler", "own_timesteps", {}, {"timesteps": (900, 500.5, 33)}),
    ("euler", "own_sigmas", {}, {"sigmas": (9.0, 3.0, 1.0, 0.2, 0.0)}),
    ("ancestral", "leading", LEADING, TEN),
    ("ancestral", "betas", {"trained_betas": OWN_BETAS, "num_train_timesteps": len(OWN_BETAS)}, {"steps": 7}),
    ("dpm", "beta", {"use_beta_sigmas": True, **TO_SMALLEST, "beta_schedule": "linear"}, TEN),
    ("dpm", "betas", {"trained_betas": OWN_BETAS, "num_train_timesteps": len(OWN_BETAS)}, {"steps": 7}),
    ("dpm", "clipped-69", {"lambda_min_clipped": -5.1, "timestep_spacing": "trailing", "rescale_betas_zero_snr": True,
                           "prediction_type": "v_prediction"}, {"steps": 69}),
    ("dpm", "clipped-cosine", {"lambda_min_clipped": -3.0, "timestep_spacing": "trailing",
                               "beta_schedule": "squaredcos_cap_v2"}, {"steps": 31}),
    ("dpm", "karras", {**KARRAS, **TO_SMALLEST}, TEN),
    ("dpm", "lu", {"use_lu_lambdas": True}, TEN),
    ("dpm", "cosine", {**KARRAS, "beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}, {"steps": 9}),
    ("dpm", "clipped", {"lambda_min_clipped": -1.5, "timestep_spacing": "trailing"}, TEN),
    ("unipc", "karras", {**KARRAS, **TO_SMALLEST, "sigma_min": 0.05}, TEN),
    ("unipc", "exponential", {"use_exponential_sigmas": True}, TEN),
    ("unipc", "beta", {"use_beta_sigmas": True, **TO_SMALLEST, "sigma_max": 8.0}, TEN),
    ("unipc", "betas", {"trained_betas": OWN_BETAS, "num_train_timesteps": len(OWN_BETAS)}, {"steps": 7}),
)  # fmt: skip
WHOLE_TIMES = (
    ("pndm", "skip_prk", {"skip_prk_steps": True, "steps_offset": 1}, 900),
    ("pndm", "prk", {"timestep_spacing": "linspace"}, 900),
    ("dpm", "linspace", {}, 900),
    ("dpm", "leading", LEADING, 400),
    ("unipc", "trailing", {"timestep_spacing": "trailing"}, 45),  # beyond, diffusers has one time too many for some
)
WIDE = {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 2.5}
CHURN = {"s_churn": 5.0, "s_noise": 1.01, "s_tmin": 0.1, "s_tmax": 8.0}
SOLVER_CHAINS = (  # scheduler, name, configuration, chain
    ("euler", "epsilon", {}, {"steps": 30}),
    ("euler", "zero_snr", ZERO_SNR, TEN),
    ("euler", "sample", {"prediction_type": "sample", **LEADING, **TO_SMALLEST}, TEN),
    ("euler", "karras-churn", KARRAS, {**TEN, "options": CHURN}),
    ("euler", "log_linear-v-churn", {"interpolation_type": "log_linear", "prediction_type": "v_prediction"},
     {**TEN, "options": CHURN}),
    ("euler", "begin", LEADING, {**TEN, "begin": 4}),
    ("ancestral", "epsilon", {}, {"steps": 30}),
    ("ancestral", "zero_snr", ZERO_SNR, TEN),
    ("ancestral", "sample", {"prediction_type": "sample", **LEADING}, TEN),
    ("ancestral", "T50", {"num_train_timesteps": 50, **LEADING}, TEN),
    ("pndm", "betas", {"trained_betas": OWN_BETAS, "num_train_timesteps": len(OWN_BETAS), "skip_prk_steps": True},
     {"steps": 7}),
    ("pndm", "T50", {"num_train_timesteps": 50, "steps_offset": 1}, TEN),
    ("dpm", "T50", {"num_train_timesteps": 50, **KARRAS}, TEN),
    ("unipc", "T50", {"num_train_timesteps": 50, **LEADING}, TEN),
    ("pndm", "skip_prk", {"skip_prk_steps": True, "steps_offset": 1}, {"steps": 30}),
    ("pndm", "prk", {"timestep_spacing": "linspace"}, {"steps": 30}),
    ("pndm", "skip_prk-v", {"skip_prk_steps": True, "prediction_type": "v_prediction", "set_alpha_to_one": True,
                            "timestep_spacing": "trailing"}, TEN),
    ("pndm", "prk-v", {"prediction_type": "v_prediction", "steps_offset": 1}, TEN),
    ("pndm", "begin", {"skip_prk_steps": True, "steps_offset": 1}, {**TEN, "begin": 5}),
    ("dpm", "order1", {"solver_order": 1}, TEN),
    ("dpm", "order2", {}, {"steps": 30}),
    ("dpm", "order2-few", LEADING, TEN),
    ("dpm", "order3", {"solver_order": 3}, {"steps": 30}),
    ("dpm", "order3-few", {"solver_order": 3, "timestep_spacing": "trailing", **TO_SMALLEST}, TEN),
    ("dpm", "order3-not_lower", {"solver_order": 3, "lower_order_final": False, **TO_SMALLEST, **WIDE}, TEN),
    ("dpm", "heun", {"solver_type": "heun", "euler_at_final": True, "lower_order_final": False, **TO_SMALLEST}, TEN),
    ("dpm", "karras", {**KARRAS, **TO_SMALLEST}, {"steps": 20}),
    ("dpm", "zero_snr", ZERO_SNR, TEN),
    ("dpm", "begin", {"use_exponential_sigmas": True}, {**TEN, "begin": 4}),
    ("dpm", "learned", {"variance_type": "learned_range"}, TEN),
    ("dpm", "noise", {"algorithm_type": "dpmsolver", **TO_SMALLEST, **WIDE}, TEN),
    ("dpm", "noise-order3", {"algorithm_type": "dpmsolver", "solver_order": 3, "prediction_type": "sample",
                             **TO_SMALLEST}, TEN),
    ("dpm", "noise-heun", {"algorithm_type": "dpmsolver", "solver_type": "heun", "prediction_type": "v_prediction",
                           **TO_SMALLEST}, TEN),
    ("dpm", "sde", {"algorithm_type": "sde-dpmsolver++"}, TEN),
    ("dpm", "sde-heun", {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun", **WIDE}, TEN),
    ("dpm", "sde-order3", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}, TEN),
    ("dpm", "sde-noise", {"algorithm_type": "sde-dpmsolver", **TO_SMALLEST}, TEN),
    ("dpm", "sde-noise-heun", {"algorithm_type": "sde-dpmsolver", "solver_type": "heun", **TO_SMALLEST}, TEN),
    ("unipc", "order1", {"solver_order": 1}, TEN),
    ("unipc", "order2", {}, {"steps": 30}),
    ("unipc", "order2-bh1", {"solver_type": "bh1", **LEADING, **TO_SMALLEST}, TEN),
    ("unipc", "order3", {"solver_order": 3, **WIDE}, TEN),
    ("unipc", "order3-bh1", {"solver_order": 3, "solver_type": "bh1", "disable_corrector": [0, 3], **TO_SMALLEST}, TEN),
    ("unipc", "order3-not_lower", {"solver_order": 3, "lower_order_final": False, **TO_SMALLEST,
                                   "timestep_spacing": "trailing"}, TEN),
    ("unipc", "noise", {"predict_x0": False, **TO_SMALLEST, "prediction_type": "v_prediction"}, TEN),
    ("unipc", "noise-bh1", {"predict_x0": False, "solver_type": "bh1", **TO_SMALLEST}, TEN),
    ("unipc", "karras", {**KARRAS, "prediction_type": "sample"}, TEN),
    ("unipc", "begin", ZERO_SNR, {**TEN, "begin": 4}),
)  # fmt: skip
COMPILED_CHAINS = {("pndm", "prk-v"), ("unipc", "order3")}
SHAPE = (2, 3, 4, 4)  # batch, channels, height, width
GRAPHS = {  # of the steps, those that are compiled too: every kind of graph once
    "ddpm": {("fixed_small", "clip"), ("learned", "free"), ("learned_range", "threshold")},
    "ddim": {(False, "free"), (True, "threshold")},
}


def nothing(rng: np.random.Generator) -> Arrays:
    """No inputs."""
    return {}


def step_inputs(rng: np.random.Generator, learned: bool = False) -> Arrays:
    """x_t, noise and a network's output; a learned variance lies mostly, not always, in [-1, 1]."""
    found = {name: normal(rng, *SHAPE) for name in ("x", "noise", "output")}
    if learned:
        found["output"] = np.concatenate([found["output"], np.float32(0.6) * normal(rng, *SHAPE)], 1)
    return found


def tape_inputs(rng: np.random.Generator, arrays: int, learned: bool) -> Arrays:
    """The stand-in of chains, small enough that none explodes, and a tape."""
    channels = SHAPE[1] * (2 if learned else 1)
    found = {
        "gain": np.float32(0.4) * normal(rng, 1, channels, 1, 1),
        "bias": np.float32(0.1) * normal(rng, 1, channels, 1, 1),
    }
    return found | {"tape": normal(rng, arrays, *SHAPE)}


def _tables(seed: int) -> Iterator[Case]:
    for schedule, rescale in product(SCHEDULES, (False, True)):
        spec = {"scheduler": "ddpm", "config": {"beta_schedule": schedule, "rescale_betas_zero_snr": rescale}}
        made = computation(
            f"maths/scheduler_tables-{schedule}{'-zero_snr' if rescale else ''}", "scheduler_tables", spec, nothing,
            truth="numpy", rule="ulp", seed=seed, neighbours=0,
        )  # fmt: skip
        yield from cases("0", made)


def _times(seed: int) -> Iterator[Case]:
    for (name, options), total in product(SPACINGS.items(), (1000, 37)):
        most = total - 1 if "steps_offset" in options else total  # as many as fit
        spec = {"scheduler": "ddim", "config": {"num_train_timesteps": total, **options}}
        spec["all_steps"] = list(range(1, most + 1))
        made = computation(
            f"maths/scheduler_times-{name}-T{total}", "scheduler_times", spec, nothing, truth="numpy", rule="exact",
            seed=seed, neighbours=0,
        )  # fmt: skip
        yield from cases("0", made)


def _variances(seed: int) -> Iterator[Case]:
    rows = [("ddpm", kind, {"variance_type": kind}, steps) for kind in VARIANCES[:4] for steps in (1000, 30)]
    rows += [("ddim", "one", {}, 50), ("ddim", "first", {"set_alpha_to_one": False}, 50)]
    for scheduler, name, options, steps in rows:
        spec = {"scheduler": scheduler, "config": {"beta_schedule": "scaled_linear", **options}, "steps": steps}
        made = computation(
            f"maths/scheduler_variance-{scheduler}-{name}-S{steps}", "scheduler_variance", spec, nothing,
            truth="numpy", rule="ulp", seed=seed, neighbours=0,
        )  # fmt: skip
        yield from cases("0", made)


def _noising(seed: int) -> Iterator[Case]:
    def inputs(rng: np.random.Generator) -> Arrays:
        found = {name: normal(rng, 5, *SHAPE[1:]) for name in ("x_start", "noise")}
        return found | {"t": np.array((0, 1, 2, 500, 999), np.int32)}

    rows = [(name, {"beta_schedule": name}) for name in SCHEDULES]
    rows.append(("zero_snr", {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True}))
    for name, config in rows:
        made = computation(
            f"maths/scheduler_noising-{name}", "scheduler_noising", {"scheduler": "ddim", "config": config}, inputs,
            truth="numpy", mode="pynative", seed=seed,
        )  # fmt: skip
        yield from cases("0", made, mode="pynative")


def _levels(seed: int) -> Iterator[Case]:
    for scheduler, name, options, chain in LEVELS:
        spec = {"scheduler": scheduler, "config": {**STABLE, **options}, **chain}
        made = computation(
            f"maths/scheduler_levels-{scheduler}-{name}", "scheduler_levels", spec, nothing, truth="numpy",
            mode="pynative", seed=seed, neighbours=0,
        )  # fmt: skip
        yield from cases("0", made, mode="pynative")
    for scheduler, name, options, most in WHOLE_TIMES:
        spec = {"scheduler": scheduler, "config": options, "all_steps": [*range(4, 40), *range(40, most, 37)]}
        made = computation(
            f"maths/scheduler_times-{scheduler}-{name}", "scheduler_times", spec, nothing, truth="numpy", rule="exact",
            seed=seed, neighbours=0,
        )  # fmt: skip
        yield from cases("0", made)


def tier0(seed: int = 0) -> Iterator[Case]:
    """Every schedule with and without zero terminal SNR, every spacing at every number of steps, variances, noising."""
    for make in (_tables, _times, _variances, _noising, _levels):
        yield from make(seed)


def step_computation(key: str, spec: Mapping, mode: str, seed: int) -> Computation:
    """One step at each of ``spec["times"]``."""
    learned = spec["config"].get("variance_type", "").startswith("learned")
    return computation(
        key, "scheduler_step", spec, partial(step_inputs, learned=learned), truth="numpy", mode=mode, seed=seed,
        scales=leg("numpy", "scheduler_step_scales", spec),
    )  # fmt: skip


def ddpm_rows() -> Iterator[tuple[str, dict, bool]]:
    """(name, spec, whether it is compiled too) of every DDPM step."""
    for prediction, variance, (limit, options) in product(PREDICTIONS, VARIANCES, LIMITS.items()):
        config = {"prediction_type": prediction, "variance_type": variance, **options}
        spec = {"scheduler": "ddpm", "config": config, "steps": 20, "times": (950, 500, 50, 0)}
        compiled = prediction == "v_prediction" and (variance, limit) in GRAPHS["ddpm"]
        yield f"{prediction}-{variance}-{limit}", spec, compiled
    last = {"config": {"steps_offset": 1, "variance_type": "fixed_large"}, "steps": 10, "times": (901, 1)}
    zero = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    own = {"config": {"variance_type": "learned_range"}, "timesteps": (999, 990, 400, 7), "times": (999, 990, 400, 7)}
    every = {"config": {"beta_schedule": "squaredcos_cap_v2"}, "times": (999, 500, 2, 1, 0)}
    for name, spec in (
        ("last_step_to_x0", last), ("zero_snr", {"config": zero, "steps": 30, "times": (999, 499)}),
        ("own_timesteps", own), ("without_set_timesteps", every),
    ):  # fmt: skip
        yield name, {"scheduler": "ddpm", **spec}, False


def ddim_rows() -> Iterator[tuple[str, dict, bool]]:
    """(name, spec, whether it is compiled too) of every DDIM step."""
    for prediction, eta, clipped, (limit, options) in product(PREDICTIONS, ETAS, (False, True), LIMITS.items()):
        spec = {"scheduler": "ddim", "config": {"prediction_type": prediction, **options}, "steps": 20}
        spec |= {"times": (950, 500, 50, 0), "options": {"eta": eta, "use_clipped_model_output": clipped}}
        compiled = (prediction, eta) == ("v_prediction", 0.5) and (clipped, limit) in GRAPHS["ddim"]
        yield f"{prediction}-eta{eta:g}-{'rederived' if clipped else 'plain'}-{limit}", spec, compiled
    first = {"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}
    zero = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    for name, config, more in (
        ("final_first", first, {"steps": 20, "times": (951, 1)}),
        ("zero_snr", zero, {"steps": 30, "times": (999, 499)}),
        ("own_timesteps", {}, {"timesteps": (999, 990, 400, 7), "times": (999, 990, 400, 7)}),
        ("linspace", {"timestep_spacing": "linspace"}, {"steps": 30, "times": (999, 517, 0)}),
    ):
        yield name, {"scheduler": "ddim", "config": config, "options": {"eta": 0.7}, **more}, False


def tier1(seed: int = 0) -> Iterator[Case]:
    """A step: DDPM prediction x variance x limit; DDIM prediction x eta x eps derived again or not x limit."""
    for scheduler, rows in (("ddpm", ddpm_rows()), ("ddim", ddim_rows())):
        for name, spec, compiled in rows:
            for mode in ("pynative", "graph") if compiled else ("pynative",):
                made = step_computation(f"step/scheduler_{scheduler}-{name}-{mode}", spec, mode, seed)
                yield from cases("1", made, mode=mode)


def chain_rows() -> Iterator[tuple[str, dict, str]]:
    """(name, spec, mode) of every chain."""
    for prediction in PREDICTIONS:
        config = {"prediction_type": prediction, "timestep_spacing": "trailing"}
        yield f"ddpm-{prediction}", {"scheduler": "ddpm", "config": config, "steps": 40}, "pynative"
        for eta in ETAS[::2]:
            spec = {"scheduler": "ddim", "config": {"prediction_type": prediction}, "steps": 20}
            yield f"ddim-{prediction}-eta{eta:g}", {**spec, "options": {"eta": eta}}, "pynative"
    spec = {"scheduler": "ddpm", "config": {"variance_type": "learned_range", **LIMITS["threshold"]}, "steps": 30}
    yield "ddpm-learned_range-threshold", spec, "graph"
    own = {"timesteps": (999, 800, 640, 333, 90, 20, 4), "options": {"eta": 1.0, "use_clipped_model_output": True}}
    config = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    yield "ddim-own_timesteps", {"scheduler": "ddim", "config": config, **own}, "graph"
    for scheduler, name, options, chain in SOLVER_CHAINS:
        mode = "graph" if (scheduler, name) in COMPILED_CHAINS else "pynative"
        yield f"{scheduler}-{name}", {"scheduler": scheduler, "config": {**STABLE, **options}, **chain}, mode


def tier5(seed: int = 0) -> Iterator[Case]:
    """Chains from one noise tape."""
    for name, spec, mode in chain_rows():
        learned = "learned" in spec["config"].get("variance_type", "")
        arrays = (spec.get("steps") or len(spec["timesteps"])) + (2 if "begin" in spec else 0)
        made = computation(
            f"sampling/scheduler_{name}", "scheduler_chain", spec, partial(tape_inputs, arrays=arrays, learned=learned),
            truth="numpy", mode=mode, rule="envelope", seed=seed,
        )  # fmt: skip
        yield from cases("5", made, mode=mode)


SMALL_SET = (  # what parity_tests/bundles holds of it
    "step/scheduler_ddpm-epsilon-learned_range-clip-pynative",
    "step/scheduler_ddim-v_prediction-eta1-rederived-threshold-pynative",
)
