"""Noise schedules and every table derived from them, in float64 numpy.

Tables are computed here once in double precision and cast to float32 once, where they enter a network: a cosine
schedule computed in float32 is off by a relative 1.4e-3 at T = 1000.

Notation (Ho et al., https://arxiv.org/abs/2006.11239): beta_t the variance added at step t (t = 0 ... T-1),
alpha_t = 1 - beta_t, abar_t the product of alphas up to and including t, snr_t = abar_t / (1 - abar_t).
"""

from __future__ import annotations

import inspect
import math

import numpy as np

from ..errors import UserError


def linear(timesteps: int, beta_start: float | None = None, beta_end: float | None = None) -> np.ndarray:
    """Evenly spaced betas (Ho et al., section 4): 1e-4 ... 0.02 times 1000/T, or exactly what is given."""
    if beta_start is None and beta_end is None:
        scale = 1000 / timesteps
        beta_start, beta_end = scale * 1e-4, scale * 0.02
    return np.linspace(
        1e-4 if beta_start is None else beta_start, 0.02 if beta_end is None else beta_end, timesteps, dtype=np.float64
    )


def scaled_linear(timesteps: int, beta_start: float = 0.00085, beta_end: float = 0.012) -> np.ndarray:
    """Evenly spaced roots of beta (Rombach et al., https://arxiv.org/abs/2112.10752, the released models)."""
    return np.linspace(beta_start**0.5, beta_end**0.5, timesteps, dtype=np.float64) ** 2


def _betas_of(alphas_cumprod: np.ndarray) -> np.ndarray:
    """Betas of abar(0) ... abar(T), each at most 0.999."""
    alphas_cumprod = alphas_cumprod / alphas_cumprod[0]
    return np.clip(1 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0, 0.999)


def cosine(timesteps: int, s: float = 0.008) -> np.ndarray:
    """abar(u) = cos^2((u + s) / (1 + s) * pi/2) (Nichol & Dhariwal, https://arxiv.org/abs/2102.09672, eq. 17)."""
    u = np.linspace(0, 1, timesteps + 1, dtype=np.float64)
    return _betas_of(np.cos((u + s) / (1 + s) * math.pi / 2) ** 2)


def sigmoid(timesteps: int, start: float = -3, end: float = 3, tau: float = 1) -> np.ndarray:
    """abar(u) between two points of a sigmoid (Jabri et al., https://arxiv.org/abs/2212.11972, figure 8)."""

    def s(x):
        return 1 / (1 + np.exp(-x / tau))

    u = np.linspace(0, 1, timesteps + 1, dtype=np.float64)
    return _betas_of((s(end) - s(u * (end - start) + start)) / (s(end) - s(start)))


BETA_SCHEDULES = {"linear": linear, "cosine": cosine, "sigmoid": sigmoid, "scaled_linear": scaled_linear}


def beta_schedule(name: str, timesteps: int, **kwargs) -> np.ndarray:
    """The betas of schedule ``name``: (T,) float64 in (0, 1). Raises UserError where the name or a value is wrong."""
    if name not in BETA_SCHEDULES:
        raise UserError(f"beta_schedule is {name!r}, expected one of: {', '.join(BETA_SCHEDULES)}")
    if timesteps < 1:
        raise UserError(f"timesteps is {timesteps}, expected at least 1")
    schedule = BETA_SCHEDULES[name]
    known = list(inspect.signature(schedule).parameters)[1:]
    unknown = sorted(set(kwargs) - set(known))
    if unknown:
        raise UserError(f"schedule_fn_kwargs has {unknown[0]!r}, but the {name} schedule takes: {', '.join(known)}")
    for key in ("beta_start", "beta_end"):
        if kwargs.get(key) is not None and not 0 < kwargs[key] < 1:
            raise UserError(f"schedule_fn_kwargs {key} is {kwargs[key]}, expected between 0 and 1")
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused below
            betas = schedule(timesteps, **kwargs)
    except (ZeroDivisionError, OverflowError):  # of a number the schedule divides by
        betas = np.full(1, np.nan)
    if not (np.isfinite(betas).all() and betas.min() > 0 and betas.max() < 1):
        raise UserError(
            f"the {name} schedule with {timesteps} steps gives betas from {betas.min():.4g} to {betas.max():.4g}, "
            "expected all in (0, 1); take more timesteps or give beta_start and beta_end in schedule_fn_kwargs"
        )
    return betas


def diffusion_tables(betas: np.ndarray) -> dict[str, np.ndarray]:
    """Every table of the diffusion process, (T,) float64 each, under its usual name (Ho et al., eqs. 4 to 7)."""
    betas = np.asarray(betas, dtype=np.float64)
    alphas = 1 - betas
    abar = np.cumprod(alphas)
    abar_prev = np.append(1.0, abar[:-1])
    variance = betas * (1 - abar_prev) / (1 - abar)
    return {
        "betas": betas,
        "alphas_cumprod": abar,
        "alphas_cumprod_prev": abar_prev,
        "sqrt_alphas_cumprod": np.sqrt(abar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - abar),
        "log_one_minus_alphas_cumprod": np.log(1 - abar),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / abar),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / abar - 1),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(abar_prev) / (1 - abar),
        "posterior_mean_coef2": (1 - abar_prev) * np.sqrt(alphas) / (1 - abar),
    }


def check_tables(tables: dict[str, np.ndarray], name: str, timesteps: int) -> None:
    """Raises UserError where a table of schedule ``name`` is not finite in float32, or no step has a loss."""
    for key, table in tables.items():
        with np.errstate(all="ignore"):
            bad = np.flatnonzero(~np.isfinite(table.astype(np.float32)))
        if len(bad):
            raise UserError(
                f"the {name} schedule with {timesteps} steps makes {key} {table[bad[0]]:.4g} at t={bad[0]}, expected "
                "finite numbers; change timesteps, schedule_fn_kwargs, min_snr_gamma or p2_loss_weight_gamma"
            )
    if not tables["loss_weight"].astype(np.float32).any():
        raise UserError("the loss weight is 0 at every t; raise min_snr_gamma or lower p2_loss_weight_gamma")


# What the loss on each objective is multiplied by, from snr and the (possibly clipped) snr
# (Hang et al., https://arxiv.org/abs/2303.09556, section 3.4; without clipping every row is the loss on eps).
OBJECTIVE_WEIGHT = {
    "pred_noise": lambda snr, clipped: clipped / snr,
    "pred_x0": lambda snr, clipped: clipped,
    "pred_v": lambda snr, clipped: clipped / (snr + 1),
}


def loss_weight(
    alphas_cumprod: np.ndarray,
    objective: str,
    *,
    min_snr_loss_weight: bool = False,
    min_snr_gamma: float = 5,
    p2_loss_weight_gamma: float = 0.0,
    p2_loss_weight_k: float = 1,
) -> np.ndarray:
    """Weight of the loss at each t: the min-SNR term times (k + snr)^-gamma, (T,) float64.

    The second factor is P2 weighting (Choi et al., https://arxiv.org/abs/2204.00227, eq. 8).
    """
    abar = np.asarray(alphas_cumprod, dtype=np.float64)
    snr = abar / (1 - abar)
    clipped = np.minimum(snr, min_snr_gamma) if min_snr_loss_weight else snr
    return OBJECTIVE_WEIGHT[objective](snr, clipped) * (p2_loss_weight_k + snr) ** -p2_loss_weight_gamma


def ddim_times(timesteps: int, sampling_timesteps: int) -> list[int]:
    """The S + 1 times of a DDIM chain, from T-1 down to -1 (Song et al., https://arxiv.org/abs/2010.02502).

    linspace(-1, T-1, S+1) truncated to int, in float32 by PyTorch's rule (from both ends to the middle, one rounding an
    operation): numpy's grid differs from it for one S in seven, and a chain on other times is another chain.
    """
    if not 1 <= sampling_timesteps <= timesteps:
        raise UserError(f"sampling_timesteps is {sampling_timesteps}, expected 1 to timesteps ({timesteps})")
    f32 = np.float32
    n = sampling_timesteps + 1
    first, last, step = f32(-1), f32(timesteps - 1), f32(timesteps) / f32(sampling_timesteps)
    i = np.arange(n, dtype=np.float32)
    times = np.where(i < n // 2, first + i * step, last - (f32(n - 1) - i) * step)
    return [int(time) for time in times[::-1]]


# --- huggingface/diffusers' schedulers: their schedules, spacings and steps -------------------------------------------


def sigmoid_betas(timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> np.ndarray:
    """Betas, not abar, on a sigmoid from -6 to 6 (GeoDiff, https://arxiv.org/abs/2203.02923): diffusers' "sigmoid"."""
    z = np.linspace(-6, 6, timesteps, dtype=np.float64)
    return (beta_end - beta_start) / (1 + np.exp(-z)) + beta_start


def laplace(timesteps: int) -> np.ndarray:
    """diffusers' "laplace": log-SNR = -sign(1/2 - u) log(1 - 2 |1/2 - u|) / 2, abar the root of its logistic function.

    The paper (Hang & Gu, https://arxiv.org/abs/2407.03297) has that root for sqrt(abar): this abar is larger than
    the paper's, and abar(1) = 0.03 instead of 0.001. It is kept, as networks were trained with it.
    """
    u = np.linspace(0, 1, timesteps + 1, dtype=np.float64)
    log_snr = -0.5 * np.copysign(1, 0.5 - u) * np.log(1 - 2 * np.abs(0.5 - u) + 1e-6)
    return _betas_of(np.sqrt(1 / (1 + np.exp(-log_snr))))


SCHEDULER_BETAS = {  # diffusers' names: (T, beta_start, beta_end) -> betas; nothing scales with T
    "linear": linear,
    "scaled_linear": scaled_linear,
    "squaredcos_cap_v2": lambda timesteps, beta_start, beta_end: cosine(timesteps),
    "sigmoid": sigmoid_betas,
    "laplace": lambda timesteps, beta_start, beta_end: laplace(timesteps),
}


def zero_terminal_snr(betas: np.ndarray) -> np.ndarray:
    """Betas whose last abar is 0 and whose first is as before (Lin et al., https://arxiv.org/abs/2305.08891, Alg. 1).

    sqrt(abar) is moved down until its last value is 0 and stretched until its first is back; the last beta is 1.
    """
    root = np.sqrt(np.cumprod(1 - np.asarray(betas, np.float64)))
    if len(root) < 2:
        raise UserError("rescale_betas_zero_snr with 1 timestep: expected at least 2, the first of which keeps its SNR")
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    abar = root**2
    return 1 - abar / np.append(1.0, abar[:-1])


def _linspace(timesteps: int, steps: int) -> np.ndarray:
    return np.round(np.linspace(0, timesteps - 1, steps))[::-1]


def _leading(timesteps: int, steps: int) -> np.ndarray:
    return (np.arange(steps) * (timesteps // steps))[::-1]


def _trailing(timesteps: int, steps: int) -> np.ndarray:
    # The cut matters: np.arange gives one time more, the -1, for 62 of 1000 numbers of steps.
    return np.round(np.arange(timesteps, 0, -timesteps / steps))[:steps] - 1


SPACINGS = {"linspace": _linspace, "leading": _leading, "trailing": _trailing}  # names of Lin et al., table 2


def spaced_times(timesteps: int, steps: int, spacing: str, offset: int = 0) -> list[int]:
    """The ``steps`` times at which a chain calls the network, descending; diffusers' `set_timesteps`.

    "linspace": evenly from T-1 to 0, both included. "leading": multiples of T // steps, plus ``offset``. "trailing":
    back from T-1 by T / steps. Halves are rounded to even. Raises UserError where one would leave 0 ... T-1.
    """
    if not 1 <= steps <= timesteps:
        raise UserError(f"num_inference_steps is {steps}, expected 1 to num_train_timesteps ({timesteps})")
    times = [int(time) for time in SPACINGS[spacing](timesteps, steps)]
    if spacing == "leading":
        times = [time + offset for time in times]
    if times[0] >= timesteps:
        raise UserError(
            f"steps_offset {offset} with {steps} steps makes the first timestep {times[0]}, expected at most "
            f"{timesteps - 1}; take fewer steps"
        )
    return times


def posterior_row(abar: float, abar_next: float) -> tuple[float, float, float, float]:
    """Of a DDPM step from a time with ``abar`` to an earlier one: (of x_0, of x_t, beta-tilde, beta).

    Ho et al., eq. 7, for any two times: alpha = abar / abar', beta = 1 - alpha.
    """
    alpha = abar / abar_next
    of_start = math.sqrt(abar_next) * (1 - alpha) / (1 - abar)
    of_sample = math.sqrt(alpha) * (1 - abar_next) / (1 - abar)
    return of_start, of_sample, (1 - abar_next) / (1 - abar) * (1 - alpha), 1 - alpha


def ddim_row(abar: float, abar_next: float, eta: float) -> tuple[float, float, float]:
    """Of a DDIM step: what multiplies x_0, eps and noise (Song et al., https://arxiv.org/abs/2010.02502, eq. 12, 16).

    sigma = eta sqrt((1 - abar/abar') (1 - abar') / (1 - abar)).
    """
    sigma = eta * math.sqrt((1 - abar / abar_next) * (1 - abar_next) / (1 - abar))
    return math.sqrt(abar_next), math.sqrt(max(1 - abar_next - sigma**2, 0.0)), sigma
