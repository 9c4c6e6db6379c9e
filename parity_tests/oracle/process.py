"""The diffusion process itself, without a model: the forward process, its posterior, and eps <-> x_0 <-> v."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .schedules import gaussian_product, tables

Array = np.ndarray


def as_float64(x: ArrayLike) -> Array:
    """``x`` as a float64 array."""
    return np.asarray(x, np.float64)


class Process:
    """The process with these ``betas`` (T,). Images are (B, C, H, W), t is (B,) int in 0 ... T-1."""

    def __init__(self, betas: ArrayLike):
        self.tables = tables(betas)
        self.num_timesteps = len(self.tables["betas"])
        spread = self.tables["sqrt_one_minus_alphas_cumprod"]
        self._variance_of_prior = np.concatenate([[0.0], spread[:-1] ** 2])  # 1 - abar_{t-1}, not by subtraction

    def at(self, table: str, t: ArrayLike) -> Array:
        """The values (B, 1, 1, 1) of a table at the steps ``t`` (B,)."""
        t = np.asarray(t)
        if t.ndim != 1 or t.dtype.kind not in "iu" or not ((t >= 0) & (t < self.num_timesteps)).all():
            raise ValueError(f"t must be (B,) integers in 0..{self.num_timesteps - 1}, got {t!r}")
        return self.tables[table][t].reshape(-1, 1, 1, 1)

    def signal_and_noise(self, t: ArrayLike) -> tuple[Array, Array]:
        """sqrt(abar) and sqrt(1 - abar): the cosine and the sine of PD's angle."""
        return self.at("sqrt_alphas_cumprod", t), self.at("sqrt_one_minus_alphas_cumprod", t)

    def q_sample(self, x_start: ArrayLike, t: ArrayLike, noise: ArrayLike) -> Array:
        """x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps; DDPM eq. 4."""
        signal, spread = self.signal_and_noise(t)
        return signal * as_float64(x_start) + spread * as_float64(noise)

    def predict_start_from_noise(self, x_t: ArrayLike, t: ArrayLike, noise: ArrayLike) -> Array:
        """x_0 = (x_t - sqrt(1 - abar) eps) / sqrt(abar); DDPM eq. 4 solved for x_0."""
        signal, spread = self.signal_and_noise(t)
        return (as_float64(x_t) - spread * as_float64(noise)) / signal

    def predict_noise_from_start(self, x_t: ArrayLike, t: ArrayLike, x0: ArrayLike) -> Array:
        """eps = (x_t - sqrt(abar) x_0) / sqrt(1 - abar); DDPM eq. 4 solved for eps."""
        signal, spread = self.signal_and_noise(t)
        return (as_float64(x_t) - signal * as_float64(x0)) / spread

    def predict_v(self, x_start: ArrayLike, t: ArrayLike, noise: ArrayLike) -> Array:
        """v = sqrt(abar) eps - sqrt(1 - abar) x_0; PD sec. 4 and appendix D."""
        signal, spread = self.signal_and_noise(t)
        return signal * as_float64(noise) - spread * as_float64(x_start)

    def predict_start_from_v(self, x_t: ArrayLike, t: ArrayLike, v: ArrayLike) -> Array:
        """x_0 = sqrt(abar) x_t - sqrt(1 - abar) v; PD appendix D."""
        signal, spread = self.signal_and_noise(t)
        return signal * as_float64(x_t) - spread * as_float64(v)

    def q_posterior(self, x_start: ArrayLike, x_t: ArrayLike, t: ArrayLike) -> tuple[Array, Array, Array]:
        """Mean (B, C, H, W), variance and clipped log-variance (B, 1, 1, 1) of q(x_{t-1} | x_t, x_0); DDPM eq. 6.

        Bayes: the prior of x_{t-1} given x_0 times the likelihood N(x_t / sqrt(alpha), beta / alpha) of x_t. At t = 0
        the prior is a point, x_0 itself.
        """
        beta = self.at("betas", t)
        mean, variance = gaussian_product(
            np.sqrt(self.at("alphas_cumprod_prev", t)) * as_float64(x_start),
            self._variance_of_prior[np.asarray(t)].reshape(-1, 1, 1, 1),
            as_float64(x_t) / np.sqrt(1 - beta),
            beta / (1 - beta),
        )
        return mean, variance, np.log(np.maximum(variance, 1e-20))
