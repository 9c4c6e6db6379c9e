"""The three SDEs of Song et al. 2021, https://arxiv.org/abs/2011.13456, as functions of t in [0, 1].

dx = f(x, t) dt + g(t) dw with f(x, t) = drift_coeff(t) x, and p(x_t | x_0) = N(marginal_prob_coeff(t) x_0,
marginal_prob_std(t)^2 I) (eq. 29). t is a tensor (B,), and so is what they give, in t's dtype. expm1(u) = e^u - 1: near
t = 0 the difference of two numbers close to 1 would have no digits left.
"""

import math

import torch
from torch import Tensor


class VESDE:
    """dx = sigma^t dw: x_t = x_0 + std(t) z, std(t)^2 the integral of sigma^(2s) ds from 0 to t."""

    def __init__(self, sigma: float = 25.0) -> None:
        self.sigma = sigma
        self.prior_std = math.sqrt((sigma**2 - 1) / (2 * math.log(sigma)))

    def marginal_prob_coeff(self, t: Tensor) -> Tensor:
        """What multiplies x_0."""
        return torch.ones_like(t)

    def marginal_prob_std(self, t: Tensor) -> Tensor:
        """sqrt((sigma^(2t) - 1) / (2 ln sigma))."""
        return torch.sqrt(torch.expm1(2 * math.log(self.sigma) * t) / (2 * math.log(self.sigma)))

    def drift_coeff(self, t: Tensor) -> Tensor:
        """f(x, t) = 0."""
        return torch.zeros_like(t)

    def diffusion_coeff(self, t: Tensor) -> Tensor:
        """g(t) = sigma^t."""
        return self.sigma**t


class VPSDE:
    """dx = -beta(t)/2 x dt + sqrt(beta(t)) dw   (eq. 11), with B(t) the integral of beta from 0 to t."""

    prior_std = 1.0

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        self.beta_min = beta_min
        self.beta_max = beta_max

    def beta(self, t: Tensor) -> Tensor:
        """beta_min + t (beta_max - beta_min)."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def B(self, t: Tensor) -> Tensor:
        """The integral of beta."""
        return self.beta_min * t + 0.5 * t**2 * (self.beta_max - self.beta_min)

    def marginal_prob_coeff(self, t: Tensor) -> Tensor:
        """exp(-B/2)."""
        return torch.exp(-0.5 * self.B(t))

    def marginal_prob_std(self, t: Tensor) -> Tensor:
        """sqrt(1 - exp(-B))."""
        return torch.sqrt(-torch.expm1(-self.B(t)))

    def drift_coeff(self, t: Tensor) -> Tensor:
        """f(x, t) / x = -beta/2."""
        return -0.5 * self.beta(t)

    def diffusion_coeff(self, t: Tensor) -> Tensor:
        """g = sqrt(beta)."""
        return torch.sqrt(self.beta(t))


class SubVPSDE(VPSDE):
    """The same drift, and less noise (eq. 12): x_t's variance is at most VP's."""

    def marginal_prob_std(self, t: Tensor) -> Tensor:
        """1 - exp(-B)."""
        return -torch.expm1(-self.B(t))

    def diffusion_coeff(self, t: Tensor) -> Tensor:
        """g = sqrt(beta (1 - exp(-2B)))."""
        return torch.sqrt(self.beta(t) * -torch.expm1(-2 * self.B(t)))


def flow_times(sde: VESDE, steps: int, eps: float) -> list[float]:
    """steps + 1 times from 1 to eps; std/coeff^(1/7) falls evenly (Karras et al., https://arxiv.org/abs/2206.00364)."""

    def ratio(t: float) -> float:
        t = torch.tensor(t, dtype=torch.float64)
        return float(sde.marginal_prob_std(t) / sde.marginal_prob_coeff(t))

    def time_of(wanted: float) -> float:  # by bisection
        low, high = 0.0, 1.0
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if ratio(middle) < wanted else (low, middle)
        return high

    first, last = ratio(1.0) ** (1 / 7), ratio(eps) ** (1 / 7)
    inner = [time_of((first + i / steps * (last - first)) ** 7) for i in range(1, steps)]
    return [1.0, *inner, eps]


SDES = {"ve": VESDE, "vp": VPSDE, "subvp": SubVPSDE}
