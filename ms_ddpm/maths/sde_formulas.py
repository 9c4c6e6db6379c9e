"""The stochastic differential equations that turn an image into noise, and what is known of them in closed form.

Song et al., "Score-based generative modeling through stochastic differential equations",
https://arxiv.org/abs/2011.13456: dx = f(x, t) dt + g(t) dw for t from 0 to 1, with f(x, t) = drift_coeff(t) x. Then
p(x_t | x_0) = N(marginal_prob_coeff(t) x_0, marginal_prob_std(t)^2 I), eq. 29.

Every formula is written once, for numbers and arrays in float64 (`HOST`) and for whatever else `Maths` is made of:
`nn.sde` computes the same ones in compiled graphs. Near t = 0, 1 - exp(-B) in float32 would have lost all digits, so
everything goes through expm1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Maths(NamedTuple):
    """What the formulas are computed with."""

    number: Callable  # float -> a constant
    exp: Callable
    expm1: Callable  # of arguments <= 0
    sqrt: Callable


class Formulas(NamedTuple):
    """An SDE as functions of t; each gives an array of t's shape."""

    marginal_prob_coeff: Callable
    marginal_prob_std: Callable
    drift_coeff: Callable
    diffusion_coeff: Callable


HOST = Maths(float, np.exp, np.expm1, np.sqrt)


def ve_formulas(maths: Maths, sigma: float) -> Formulas:
    """dx = sigma^t dw, so x_t = x_0 + sqrt((sigma^(2t) - 1) / (2 ln sigma)) z.

    The variance-exploding SDE (eq. 9) of the variance (sigma^(2t) - 1) / (2 ln sigma); the paper's own choice in
    appendix C is sigma_min^2 (sigma_max / sigma_min)^(2t), which does not begin at 0.
    """
    _, exp, expm1, sqrt = maths
    log_sigma, twice = maths.number(math.log(sigma)), maths.number(2 * math.log(sigma))

    def coeff(t):
        return t * 0 + 1

    def std(t):
        return sqrt(-expm1(-(twice * t)) * exp(twice * t) / twice)

    def drift(t):
        return t * 0

    def diffusion(t):
        return exp(log_sigma * t)

    return Formulas(coeff, std, drift, diffusion)


def _beta(maths: Maths, beta_min: float, beta_max: float) -> tuple[Callable, Callable]:
    """beta(t), and its integral from 0 to t (eq. 32)."""
    least, more, half = maths.number(beta_min), maths.number(beta_max - beta_min), maths.number(0.5)

    def beta(t):
        return least + more * t

    def integral(t):
        return t * (least + half * more * t)

    return beta, integral


def vp_formulas(maths: Maths, beta_min: float, beta_max: float) -> Formulas:
    """dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw (eq. 11), beta linear in t: DDPM in continuous time."""
    _, exp, expm1, sqrt = maths
    half = maths.number(0.5)
    beta, integral = _beta(maths, beta_min, beta_max)

    def coeff(t):
        return exp(-(half * integral(t)))

    def std(t):
        return sqrt(-expm1(-integral(t)))

    def drift(t):
        return -(half * beta(t))

    def diffusion(t):
        return sqrt(beta(t))

    return Formulas(coeff, std, drift, diffusion)


def subvp_formulas(maths: Maths, beta_min: float, beta_max: float) -> Formulas:
    """dx = -beta(t) x / 2 dt + sqrt(beta(t) (1 - exp(-2 B(t)))) dw (eq. 12), B the integral of beta.

    Its variance (1 - exp(-B))^2 is never above VP's.
    """
    _, exp, expm1, sqrt = maths
    half, two = maths.number(0.5), maths.number(2.0)
    beta, integral = _beta(maths, beta_min, beta_max)

    def coeff(t):
        return exp(-(half * integral(t)))

    def std(t):
        return -expm1(-integral(t))

    def drift(t):
        return -(half * beta(t))

    def diffusion(t):
        return sqrt(beta(t) * -expm1(-(two * integral(t))))

    return Formulas(coeff, std, drift, diffusion)


def ve_time_of_ratio(ratio: np.ndarray, sigma: float) -> np.ndarray:
    """The t at which the variance-exploding SDE has ``ratio`` = std / coeff."""
    twice = 2 * math.log(sigma)
    return np.log1p(twice * ratio**2) / twice


def time_of_integral(integral: np.ndarray, beta_min: float, beta_max: float) -> np.ndarray:
    """B = beta_min t + (beta_max - beta_min) t^2 / 2 solved for t, without a difference."""
    more = beta_max - beta_min
    return 2 * integral / (beta_min + np.sqrt(beta_min**2 + 2 * more * integral))


def vp_integral_of_ratio(ratio: np.ndarray) -> np.ndarray:
    """B of ``ratio`` = std / coeff, from ratio^2 = exp(B) - 1."""
    return np.log1p(ratio**2)


def subvp_integral_of_ratio(ratio: np.ndarray) -> np.ndarray:
    """B of ``ratio`` = std / coeff, from ratio = 2 sinh(B / 2)."""
    return 2 * np.arcsinh(ratio / 2)


def normal_logp(z: np.ndarray, std: float) -> np.ndarray:
    """Log-density (B,) of z (B, ...) under N(0, std^2 I), in nats, float64."""
    z = np.asarray(z, np.float64).reshape(len(z), -1)
    variance = std**2
    return -0.5 * (z.shape[1] * math.log(2 * math.pi * variance) + (z**2).sum(axis=1) / variance)
