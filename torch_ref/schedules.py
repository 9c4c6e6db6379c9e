"""Noise schedules and every table that follows from them, in float64 numpy.

Symbols of Ho et al. 2020 (https://arxiv.org/abs/2006.11239): beta_t, alpha_t = 1 - beta_t, and abar_t, the product of
the alphas up to t, with which q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I) (eq. 4). t = 0 here is the paper's 1.
"""

from collections.abc import Callable

import numpy as np
import torch


def linear(timesteps: int, beta_start: float | None = None, beta_end: float | None = None) -> np.ndarray:
    """Ho et al., section 4: beta from 1e-4 to 0.02 for T = 1000; scaled by 1000 / T unless an end is given."""
    scale = 1000 / timesteps if beta_start is None and beta_end is None else 1.0
    start = 1e-4 if beta_start is None else beta_start
    end = 0.02 if beta_end is None else beta_end
    return np.linspace(scale * start, scale * end, timesteps)


def scaled_linear(timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> np.ndarray:
    """Linear in sqrt(beta): the schedule of latent diffusion (Rombach et al. 2021, https://arxiv.org/abs/2112.10752)."""
    return np.linspace(beta_start**0.5, beta_end**0.5, timesteps) ** 2


def cosine(timesteps: int, s: float = 0.008) -> np.ndarray:
    """Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672, eq. 17: abar = f(u)/f(0), f = cos^2((u+s)/(1+s)π/2)."""
    u = np.linspace(0, 1, timesteps + 1)
    return betas_of(np.cos((u + s) / (1 + s) * np.pi / 2) ** 2)


def sigmoid(timesteps: int, start: float = -3, end: float = 3, tau: float = 1) -> np.ndarray:
    """Jabri et al. 2022 (https://arxiv.org/abs/2212.11972); Chen 2023 (https://arxiv.org/abs/2301.10972), Algorithm 1.

    abar(u) = (s(end) - s(start + u (end - start))) / (s(end) - s(start)), with s(z) = 1 / (1 + exp(-z / tau)).
    """

    def s(z: float | np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-np.asarray(z) / tau))

    u = np.linspace(0, 1, timesteps + 1)
    return betas_of((s(end) - s(start + u * (end - start))) / (s(end) - s(start)))


def betas_of(f: np.ndarray) -> np.ndarray:
    """beta_t = 1 - abar_t / abar_{t-1}, at most 0.999 (Nichol & Dhariwal, section 3.2), from T + 1 values ~ abar."""
    return np.clip(1 - f[1:] / f[:-1], 0, 0.999)


BETA_SCHEDULES: dict[str, Callable[..., np.ndarray]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
    "sigmoid": sigmoid,
}


def beta_schedule(name: str, timesteps: int, **kwargs: float) -> np.ndarray:
    """The betas (T,) of schedule ``name``; all of them lie in (0, 1), or this is a ValueError."""
    if name not in BETA_SCHEDULES:
        raise ValueError(f"beta_schedule is {name!r}, expected one of: {', '.join(BETA_SCHEDULES)}")
    betas = BETA_SCHEDULES[name](timesteps, **kwargs)
    if not ((betas > 0) & (betas < 1)).all():
        raise ValueError(f"{name} betas run from {betas.min():g} to {betas.max():g}, expected inside (0, 1)")
    return betas


def diffusion_tables(betas: np.ndarray) -> dict[str, np.ndarray]:
    """Everything the equations index by t, each (T,) float64, under its usual name. abar_{-1} = 1: x_0 has no noise."""
    alphas = 1 - betas
    abar = np.cumprod(alphas)
    abar_prev = np.append(1.0, abar[:-1])
    posterior_variance = betas * (1 - abar_prev) / (1 - abar)  # beta-tilde, Ho et al. eq. 7
    return {
        "betas": betas,
        "alphas_cumprod": abar,
        "alphas_cumprod_prev": abar_prev,
        "sqrt_alphas_cumprod": np.sqrt(abar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - abar),
        "log_one_minus_alphas_cumprod": np.log(1 - abar),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / abar),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / abar - 1),
        "posterior_variance": posterior_variance,
        "posterior_log_variance_clipped": np.log(np.maximum(posterior_variance, 1e-20)),  # it is 0 at t = 0
        "posterior_mean_coef1": betas * np.sqrt(abar_prev) / (1 - abar),  # of x_0, eq. 7
        "posterior_mean_coef2": (1 - abar_prev) * np.sqrt(alphas) / (1 - abar),  # of x_t, eq. 7
    }


# Squared errors of one network in three currencies: SNR |x_0 error|^2 = |eps error|^2 = SNR / (SNR + 1) |v error|^2
# (Salimans & Ho 2022, https://arxiv.org/abs/2202.00512, section 4), so a weight w on x_0 is w / divisor on the target.
SNR_DIVISORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pred_noise": lambda snr: snr,
    "pred_x0": np.ones_like,
    "pred_v": lambda snr: snr + 1,
}


def loss_weight(
    abar: np.ndarray,
    objective: str,
    *,
    min_snr_loss_weight: bool = False,
    min_snr_gamma: float = 5,
    p2_loss_weight_gamma: float = 0.0,
    p2_loss_weight_k: float = 1,
) -> np.ndarray:
    """The weight (T,) of an image's loss at each t.

    SNR = abar / (1 - abar) (Kingma et al. 2021, https://arxiv.org/abs/2107.00630, eq. 2), or min(SNR, gamma) (Hang et
    al. 2023, https://arxiv.org/abs/2303.09556, section 3.4), in the currency of the objective's target; times
    (k + SNR)^-gamma (P2: Choi et al. 2022, https://arxiv.org/abs/2204.00227, section 3).
    """
    snr = abar / (1 - abar)
    clipped = np.minimum(snr, min_snr_gamma) if min_snr_loss_weight else snr
    return clipped / SNR_DIVISORS[objective](snr) * (p2_loss_weight_k + snr) ** -p2_loss_weight_gamma


def ddim_times(timesteps: int, steps: int) -> list[int]:
    """The S + 1 times T-1 ... -1 of a DDIM chain, -1 meaning x_0, on PyTorch's own float32 grid (numpy's differs)."""
    return torch.linspace(-1, timesteps - 1, steps=steps + 1).int().tolist()[::-1]
