"""Noise schedules, the tables derived from them, loss weights and DDIM's coefficients."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray


def _linear(timesteps: int, beta_start: float | None = None, beta_end: float | None = None) -> Array:
    """DDPM sec. 4, stretched to other lengths: 1e-4 to 0.02 times 1000/T; an end that is given is taken as it is."""
    first = 1e-4 * 1000 / timesteps if beta_start is None else beta_start
    last = 0.02 * 1000 / timesteps if beta_end is None else beta_end
    return np.linspace(first, last, timesteps)


def _scaled_linear(timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Array:
    """Latent diffusion (arXiv 2112.10752): linear in sqrt(beta)."""
    return np.linspace(np.sqrt(beta_start), np.sqrt(beta_end), timesteps) ** 2


def _cosine(timesteps: int, s: float = 0.008) -> Array:
    """IDDPM eq. 17: abar_i ~ cos^2(a_i), a_i = (i/T + s)/(1 + s) pi/2; beta_i = 1 - abar_{i+1}/abar_i <= 0.999.

    With c = pi/2 - a, 1 - sin^2(c')/sin^2(c) = sin(c - c') sin(c + c') / sin^2(c): no difference of near equals.
    """
    step = np.pi / 2 / (1 + s) / timesteps
    left = np.arange(timesteps, 0, -1)  # c = left * step
    return np.minimum(np.sin(step) * np.sin((2 * left - 1) * step) / np.sin(left * step) ** 2, 0.999)


def _sigmoid(timesteps: int, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Array:
    """Jabri et al. 2022 (arXiv 2212.11972, Algorithm 1): abar(u) ~ sigmoid(e) - sigmoid(z(u)); beta <= 0.999.

    z runs from start/tau to e = end/tau. As sigmoid(a) - sigmoid(b) = sinh((a-b)/2) / (2 cosh(a/2) cosh(b/2)),
    beta_i = 1 - abar_{i+1}/abar_i = [sigmoid(z_{i+1}) - sigmoid(z_i)] / [sigmoid(e) - sigmoid(z_i)] is a product.
    """
    width, left = (end - start) / tau, np.arange(timesteps, 0, -1) / timesteps  # left: the part of the way to go
    half_later = (end / tau - width * (left - 1 / timesteps)) / 2
    beta = np.sinh(width / timesteps / 2) * np.cosh(end / tau / 2) / (np.sinh(width * left / 2) * np.cosh(half_later))
    return np.clip(beta, 0, 0.999)


SCHEDULES = {"linear": _linear, "scaled_linear": _scaled_linear, "cosine": _cosine, "sigmoid": _sigmoid}


def beta_schedule(name: str, timesteps: int, **kwargs: float) -> Array:
    """betas (T,) of the schedule ``name``, one of `SCHEDULES`.

    ``kwargs``: linear and scaled_linear beta_start, beta_end; cosine s; sigmoid start, end, tau.
    """
    return SCHEDULES[name](int(timesteps), **kwargs)


def gaussian_product(mean1: Array, variance1: Array, mean2: Array, variance2: Array) -> tuple[Array, Array]:
    """Mean and variance of N(mean1, variance1) N(mean2, variance2), normalised; one of the variances may be 0."""
    total = variance1 + variance2
    return mean1 * (variance2 / total) + mean2 * (variance1 / total), variance1 * variance2 / total


def _log_one_minus_exp(y: Array) -> Array:
    """log(1 - e^y), y < 0, exact at both ends."""
    return np.where(y > -np.log(2), np.log(-np.expm1(y)), np.log1p(-np.exp(y)))


def tables(betas: ArrayLike) -> dict[str, Array]:
    """Every table of the diffusion process (all (T,)), by its usual name. ValueError unless 0 <= beta < 1.

    DDPM eq. 4: abar_t = prod (1 - beta), here exp(sum log1p(-beta)), so that 1 - abar = -expm1(...) is exact too.
    DDPM eq. 6-7: q(x_{t-1} | x_t, x_0) by Bayes: the prior N(sqrt(abar_{t-1}) x_0, 1 - abar_{t-1}) times the
    likelihood of x_t, which as a function of x_{t-1} is N(x_t / sqrt(alpha), beta / alpha).
    """
    betas = np.asarray(betas, np.float64)
    if not ((betas >= 0) & (betas < 1)).all():
        raise ValueError(f"betas must lie in [0, 1), got {betas.min()} to {betas.max()}")
    log_alpha = np.log1p(-betas)
    log_abar = np.cumsum(log_alpha)
    log_abar_prev = np.concatenate([[0.0], log_abar[:-1]])
    of_prior, of_likelihood = 0.0 - np.expm1(log_abar_prev), np.expm1(-log_alpha)  # the two variances
    coef1, variance = gaussian_product(np.exp(log_abar_prev / 2), of_prior, np.float64(0), of_likelihood)
    coef2, _ = gaussian_product(np.float64(0), of_prior, np.exp(-log_alpha / 2), of_likelihood)
    return {
        "betas": betas,
        "alphas_cumprod": np.exp(log_abar),
        "alphas_cumprod_prev": np.exp(log_abar_prev),
        "sqrt_alphas_cumprod": np.exp(log_abar / 2),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(-np.expm1(log_abar)),
        "log_one_minus_alphas_cumprod": _log_one_minus_exp(log_abar),
        "sqrt_recip_alphas_cumprod": np.exp(-log_abar / 2),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(np.expm1(-log_abar)),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": coef1,
        "posterior_mean_coef2": coef2,
    }


# min(snr, gamma) over snr, 1 and snr + 1, written in abar: snr = abar / (1 - abar), so 1 / (snr + 1) = 1 - abar
WEIGHTS = {
    "pred_noise": lambda abar, gamma: np.minimum(1.0, gamma * (1 - abar) / abar),
    "pred_x0": lambda abar, gamma: np.minimum(abar / (1 - abar), gamma),
    "pred_v": lambda abar, gamma: np.minimum(abar, gamma * (1 - abar)),
}


def loss_weight(
    alphas_cumprod: ArrayLike,
    objective: str,
    min_snr_loss_weight: bool = False,
    min_snr_gamma: float = 5,
    p2_loss_weight_gamma: float = 0.0,
    p2_loss_weight_k: float = 1,
) -> Array:
    """The weight (T,) of each step's loss: min-SNR (sec. 3.4; not truncated unless asked) times P2 (eq. 8).

    pred_noise min(snr, gamma)/snr, pred_x0 min(snr, gamma), pred_v min(snr, gamma)/(snr + 1); P2 is (k + snr)^-gamma.
    """
    abar = np.asarray(alphas_cumprod, np.float64)
    weight = WEIGHTS[objective](abar, min_snr_gamma if min_snr_loss_weight else np.inf)
    return weight * ((1 - abar) / (p2_loss_weight_k * (1 - abar) + abar)) ** p2_loss_weight_gamma


def ddim_times(timesteps: int, sampling_timesteps: int) -> Array:
    """The S+1 times of DDIM (DDIM sec. 4.2), int64, from T-1 down to -1: x_time -> x_time_next for each neighbours.

    They are torch.linspace(-1, T-1, S+1) in float32, truncated toward zero; float32 decides which integers, so its
    rule is kept: step = float32(T / S), each point rounded once, the first half counted from -1, the rest from T-1.
    """
    points, last = sampling_timesteps + 1, timesteps - 1
    step = float(np.float32(timesteps / sampling_timesteps))
    i = np.arange(points)
    exact = np.where(i < points // 2, -1 + i * step, last - (points - 1 - i) * step)
    return exact.astype(np.float32).astype(np.int64)[::-1].copy()


def ddim_coefficients(
    alphas_cumprod: ArrayLike, time: ArrayLike, time_next: ArrayLike, eta: float
) -> tuple[Array, Array, Array]:
    """(of_x0, of_eps, of_noise) of DDIM eq. 12 with sigma = eta * eq. 16, shaped as ``time``; abar is 1 at time -1.

    With ratio = a/a', sigma^2 = eta^2 (1 - ratio)(1 - a')/(1 - a). For 1 - a' - sigma^2 put
    1 - a = (1 - ratio) + ratio (1 - a'): then it is (1 - a') [(1 - eta^2)(1 - ratio) + ratio (1 - a')] / (1 - a).
    """
    abar = np.asarray(alphas_cumprod, np.float64)
    time, time_next = np.asarray(time), np.asarray(time_next)
    now, later = abar[time], np.where(time_next < 0, 1.0, abar[time_next])
    drop, ratio = (later - now) / later, now / later  # drop = 1 - ratio
    of_eps = np.sqrt((1 - later) * ((1 - eta**2) * drop + ratio * (1 - later)) / (1 - now))
    return np.sqrt(later), of_eps, eta * np.sqrt(drop * (1 - later) / (1 - now))
