"""Every scheduler that mindone exports and diffusers has too, with its main options: chains that are to be the same.

Written down before any was judged. Left out: `AmusedScheduler` (it draws by multinomial and Gumbel's noise in one
step, and the two packages draw those from other generators) and `ConsistencyDecoderScheduler` (diffusers does not
export it). KDPM2 as it is and UniPC of order 3 are in `bugs`: they were known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .pairs import MINDONE, Pair, _of, x

Options = Mapping[str, Any]
CHAINS = "parity_tests.foreign.chains"


def pair_of(
    name: str, begin: Options | None = None, step: Options | None = None, steps: int = 10, **config: Any
) -> Pair:
    """A scheduler of diffusers and mindone's, from the first sample to the last."""
    begin, step = begin or {}, step or {}
    tokens = "_of_tokens" if name == "VQDiffusionScheduler" else ""

    def chain() -> Any:
        return _of(CHAINS, "Chain")(name, config, begin, step, steps)

    def original() -> Any:
        return _of(CHAINS, "OriginalOfTokens" if tokens else "Original")(chain())

    def port() -> Any:
        return _of(CHAINS, f"port{tokens}")(chain())

    words = [name, *(f"{key} {value}" for key, value in {**config, **begin, **step}.items())]
    return Pair(", ".join(words), f"{MINDONE} (schedulers)", original, port, {"sample": x(2, 3, 4, 4)})


def each(name: str, *options: Options, **always: Any) -> Iterable[Pair]:
    """The scheduler with each of these; "begin" and "step" among them are arguments of set_timesteps and step."""
    return [pair_of(name, **{**always, **some}) for some in options]


PLAIN: Options = {}
V, SAMPLE, FLOW = ({"prediction_type": kind} for kind in ("v_prediction", "sample", "flow_prediction"))
LEADING, TRAILING = {"timestep_spacing": "leading", "steps_offset": 1}, {"timestep_spacing": "trailing"}
LINSPACE = {"timestep_spacing": "linspace"}
KARRAS, EXPONENTIAL, BETA = ({f"use_{kind}_sigmas": True} for kind in ("karras", "exponential", "beta"))
SCALED, COSINE = {"beta_schedule": "scaled_linear"}, {"beta_schedule": "squaredcos_cap_v2"}
ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
THRESHOLD = {"thresholding": True, "sample_max_value": 1.5}
UNCLIPPED = {"clip_sample": False}
RANGE = {"clip_sample_range": 2.0}
SIGMAS = (KARRAS, EXPONENTIAL, BETA)
FLOW_SIGMAS = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
SHIFTED = {**FLOW_SIGMAS, "use_dynamic_shifting": True, "begin": {"mu": 0.8}}
SIGMA_MIN = {"final_sigmas_type": "sigma_min"}
FIRST, THIRD = {"solver_order": 1}, {"solver_order": 3}
LOWER, NOT_LOWER = {"lower_order_final": True}, {"lower_order_final": False}
HEUN, EULER_AT_END = {"solver_type": "heun"}, {"euler_at_final": True}
LEARNED, LEARNED_RANGE = {"variance_type": "learned"}, {"variance_type": "learned_range"}
CHURN = {"step": {"s_churn": 3.0, "s_noise": 1.01}}
ETA = {"step": {"eta": 0.7}}
CLIPPED_OUTPUT = {"step": {"use_clipped_model_output": True}}
CLIPPED_LAMBDA = {"lambda_min_clipped": -5.1, "beta_schedule": "squaredcos_cap_v2"}
CURVES = (SCALED, COSINE)
USUAL = (PLAIN, V, SAMPLE, *CURVES)
OF_DDIM = (*USUAL, LEADING, TRAILING, LINSPACE, ZERO_SNR, UNCLIPPED, RANGE, {"set_alpha_to_one": False})
OF_DDPM = (
    *USUAL, {"beta_schedule": "sigmoid"}, LEADING, TRAILING, LINSPACE, ZERO_SNR, UNCLIPPED, RANGE, THRESHOLD, LEARNED,
    LEARNED_RANGE, *({"variance_type": kind} for kind in ("fixed_small_log", "fixed_large", "fixed_large_log")),
    {"begin": {"timesteps": [900, 500, 300, 20, 0]}},
)  # fmt: skip
OF_SIGMAS = (*USUAL, LEADING, TRAILING, *SIGMAS)
OF_DPM = (*OF_SIGMAS, THRESHOLD, FIRST, THIRD, HEUN, FLOW_SIGMAS, LEARNED_RANGE, CLIPPED_LAMBDA)
ALGORITHMS = ("dpmsolver", "sde-dpmsolver", "sde-dpmsolver++")
OTHER_ALGORITHMS = tuple({"algorithm_type": kind, "final_sigmas_type": "sigma_min"} for kind in ALGORITHMS)
OTHER_ALGORITHMS_BY_HEUN = tuple({**kind, "solver_type": "heun"} for kind in OTHER_ALGORITHMS)
INVERSE_ALGORITHMS = tuple({"algorithm_type": kind} for kind in ALGORITHMS)
EDM = (
    PLAIN, V, {"sigma_schedule": "exponential"}, SIGMA_MIN, {"sigma_data": 1.0, "sigma_max": 40.0, "rho": 5.0},
)  # fmt: skip

SCHEDULERS: tuple[Pair, ...] = (
    *each("DDIMScheduler", *OF_DDIM, THRESHOLD, ETA, CLIPPED_OUTPUT),
    *each("DDIMParallelScheduler", *OF_DDIM, THRESHOLD, ETA),
    *each("DDIMInverseScheduler", *USUAL, LEADING, TRAILING, ZERO_SNR, UNCLIPPED, {"set_alpha_to_one": False}),
    *each("CogVideoXDDIMScheduler", *USUAL, {"beta_schedule": "linear"}, LINSPACE, TRAILING, ZERO_SNR, ETA,
          {"snr_shift_scale": 1.0}),
    *each("CogVideoXDPMScheduler", *USUAL, {"beta_schedule": "linear"}, LINSPACE, TRAILING, ZERO_SNR,
          {"snr_shift_scale": 1.0}),
    *each("DDPMScheduler", *OF_DDPM),
    *each("DDPMParallelScheduler", *OF_DDPM),
    *each("DDPMWuerstchenScheduler", PLAIN, {"scaler": 2.0}, {"scaler": 0.5, "s": 0.02}),
    *each("UnCLIPScheduler", PLAIN, SAMPLE, UNCLIPPED, RANGE, LEARNED_RANGE),
    *each("PNDMScheduler", PLAIN, V, *CURVES, LINSPACE, TRAILING, {"set_alpha_to_one": True}, steps=20),
    *each("PNDMScheduler", PLAIN, V, LEADING, LINSPACE, TRAILING, skip_prk_steps=True, steps=12),
    *each("IPNDMScheduler", PLAIN),
    *each("LMSDiscreteScheduler", *OF_SIGMAS, {"step": {"order": 2}}),
    *each("EulerDiscreteScheduler", *OF_SIGMAS, ZERO_SNR, CHURN, SIGMA_MIN, {"interpolation_type": "log_linear"},
          {"timestep_type": "continuous", "sigma_min": 0.002, "sigma_max": 80.0, **KARRAS, **V},
          {"begin": {"sigmas": [12.0, 5.0, 1.5, 0.4, 0.1]}},
          {"begin": {"timesteps": [999, 700, 400, 100, 1]}}),
    *each("EulerAncestralDiscreteScheduler", PLAIN, V, *CURVES, LEADING, TRAILING, ZERO_SNR),
    *each("HeunDiscreteScheduler", *OF_SIGMAS, {"clip_sample": True},
          {"begin": {"timesteps": [999, 700, 400, 100, 1]}}),
    *each("KDPM2DiscreteScheduler", V, *CURVES, LEADING, TRAILING, *SIGMAS),
    *each("KDPM2AncestralDiscreteScheduler", PLAIN, V, *CURVES, LEADING, TRAILING, *SIGMAS),
    *each("DPMSolverSDEScheduler", PLAIN, V, *CURVES, LEADING, TRAILING, *SIGMAS, {"step": {"s_noise": 0.9}}),
    *each("DPMSolverMultistepScheduler", *OF_DPM, *OTHER_ALGORITHMS, *OTHER_ALGORITHMS_BY_HEUN, ZERO_SNR, SIGMA_MIN,
          NOT_LOWER, EULER_AT_END, SHIFTED, {"use_lu_lambdas": True}, {**THIRD, **OTHER_ALGORITHMS[0]}, LINSPACE,
          {"begin": {"timesteps": [999, 700, 400, 100, 1]}}),
    *each("DPMSolverMultistepInverseScheduler", *OF_DPM, *INVERSE_ALGORITHMS, NOT_LOWER, EULER_AT_END),
    *each("DPMSolverSinglestepScheduler", *USUAL, *SIGMAS, THRESHOLD, FIRST, THIRD, HEUN, FLOW_SIGMAS, SHIFTED,
          LEARNED_RANGE, CLIPPED_LAMBDA, LOWER, SIGMA_MIN, OTHER_ALGORITHMS[0], OTHER_ALGORITHMS[2],
          {**THIRD, **LOWER},
          {**OTHER_ALGORITHMS[0], **THIRD}),
    *each("EDMEulerScheduler", *EDM, CHURN),
    *each("EDMDPMSolverMultistepScheduler", *EDM, FIRST, THIRD, HEUN, THRESHOLD, NOT_LOWER, EULER_AT_END,
          {"algorithm_type": "sde-dpmsolver++"}),
    *each("CosineDPMSolverMultistepScheduler", PLAIN, {"sigma_schedule": "karras"}, HEUN, FIRST, SIGMA_MIN,
          {"prediction_type": "epsilon"}),
    *each("DEISMultistepScheduler", *OF_SIGMAS, THRESHOLD, FIRST, THIRD, FLOW_SIGMAS, SHIFTED, NOT_LOWER),
    *each("UniPCMultistepScheduler", *OF_SIGMAS, THRESHOLD, FIRST, FLOW_SIGMAS, SHIFTED, NOT_LOWER, ZERO_SNR,
          SIGMA_MIN, {"solver_type": "bh1"}, {"predict_x0": False}, {"disable_corrector": [0, 1]}),
    *each("SASolverScheduler", *USUAL, LEADING, TRAILING, *SIGMAS, THRESHOLD, FLOW_SIGMAS, NOT_LOWER,
          {"predictor_order": 1, "corrector_order": 1}, {"predictor_order": 3, "corrector_order": 3},
          {"algorithm_type": "noise_prediction"}),
    *each("LCMScheduler", *USUAL, THRESHOLD, {"clip_sample": True}, ZERO_SNR, {"timestep_scaling": 3.0},
          {"original_inference_steps": 100, "set_alpha_to_one": False}, steps=4),
    *each("CMStochasticIterativeScheduler", PLAIN, {"clip_denoised": False}, {"s_noise": 0.9, "sigma_max": 40.0}),
    *each("SCMScheduler", PLAIN, {"sigma_data": 1.0}, steps=4, begin={"intermediate_timesteps": None}),
    *each("SCMScheduler", {"begin": {"max_timesteps": 1.5, "intermediate_timesteps": 1.0}}, steps=2),
    *each("FlowMatchEulerDiscreteScheduler", PLAIN, {"shift": 3.0}, {"invert_sigmas": True}, {"shift_terminal": 0.1},
          *SIGMAS, {"use_dynamic_shifting": True, "begin": {"mu": 0.8}}, {"stochastic_sampling": True},
          {"use_dynamic_shifting": True, "time_shift_type": "linear", "begin": {"mu": 0.8}},
          {"begin": {"sigmas": [1.0, 0.7, 0.4, 0.1]}, "steps": 4}),
    *each("FlowMatchHeunDiscreteScheduler", PLAIN, {"shift": 3.0}, CHURN),
    *each("RePaintScheduler", PLAIN, {"eta": 1.0}, UNCLIPPED, *CURVES, {"beta_schedule": "sigmoid"},
          begin={"jump_length": 3, "jump_n_sample": 2}),
    *each("VQDiffusionScheduler", {"num_vec_classes": 6}, {"num_vec_classes": 6, "alpha_cum_end": 1e-4}),
)  # fmt: skip
