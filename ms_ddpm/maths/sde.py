"""The stochastic differential equations that turn an image into noise, and what is known of them in closed form.

Song et al., "Score-based generative modeling through stochastic differential equations",
https://arxiv.org/abs/2011.13456: dx = f(x, t) dt + g(t) dw for t from 0 to 1, with f(x, t) = drift_coeff(t) x. Then
p(x_t | x_0) = N(marginal_prob_coeff(t) x_0, marginal_prob_std(t)^2 I), eq. 29.

Every formula is written once and works on both sides: given numpy arrays or numbers it computes in float64, given a
MindSpore tensor (inside compiled graphs too) it gives the tensor's own dtype, float32 to the last digits: near t = 0,
1 - exp(-B) in float32 would have lost them all, so everything goes through expm1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from mindspore import Tensor, ops

from ..errors import UserError, quoted
from ..ops.elementary import wide, wide_constant
from ..ops.expm1 import expm1
from ..storage.fingerprint import remembers


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
GRAPH = Maths(wide_constant, ops.exp, expm1, ops.sqrt)


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


def _either(on_host: Callable, in_graph: Callable) -> Callable:
    """One function of t for arrays (in float64) and for tensors (inside, in the device's exact precision)."""

    def of_time(t):
        if isinstance(t, Tensor):
            return ops.cast(in_graph(wide(t)), t.dtype)
        return on_host(np.asarray(t, np.float64))

    return of_time


class SDE:
    """An SDE of the table `SDES`.

    The four functions of t (B,) or a number, from 0 to 1: ``marginal_prob_coeff`` (what multiplies x_0),
    ``marginal_prob_std``, ``drift_coeff`` (f(x, t) = drift_coeff(t) x), ``diffusion_coeff`` (g). numpy in, float64 out;
    tensor in, tensor of its dtype out, also in graphs. ``prior_std``: the standard deviation of x_1, of mean 0.
    """

    prior_std: float

    def __init__(self, formulas: Callable[..., Formulas], **arguments: float):
        for name, on_host, in_graph in zip(
            Formulas._fields, formulas(HOST, **arguments), formulas(GRAPH, **arguments), strict=True
        ):
            setattr(self, name, _either(on_host, in_graph))
        self.arguments = arguments

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value:g}' for name, value in self.arguments.items())})"

    def same_as(self, other: SDE) -> bool:
        """Whether both are of one kind with the same numbers."""
        return type(self) is type(other) and self.arguments == other.arguments

    def noise_ratio(self, t: np.ndarray) -> np.ndarray:
        """marginal_prob_std / marginal_prob_coeff: noise over signal, float64; it grows with t."""
        return self.marginal_prob_std(t) / self.marginal_prob_coeff(t)

    def time_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """The t of a `noise_ratio`, float64."""
        raise NotImplementedError

    def prior_logp(self, z: np.ndarray) -> np.ndarray:
        """Log-density (B,) of z (B, ...) under the prior N(0, prior_std^2 I), in nats, float64."""
        z = np.asarray(z, np.float64).reshape(len(z), -1)
        variance = self.prior_std**2
        return -0.5 * (z.shape[1] * math.log(2 * math.pi * variance) + (z**2).sum(axis=1) / variance)


@remembers()
class VESDE(SDE):
    """Variance exploding: see `ve_formulas`. Raises UserError unless sigma is above 1."""

    def __init__(self, sigma: float = 25.0):
        if not 1 < sigma < math.inf:
            raise UserError(f"sigma is {quoted(sigma)}, expected above 1: noise that grows with t (default 25)")
        super().__init__(ve_formulas, sigma=float(sigma))
        self.prior_std = float(self.marginal_prob_std(1.0))

    def time_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """See `SDE`."""
        twice = 2 * math.log(self.arguments["sigma"])
        return np.log1p(twice * np.asarray(ratio, np.float64) ** 2) / twice


@remembers()
class _VariancePreserving(SDE):
    formulas: Callable[..., Formulas]
    prior_std = 1.0

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        if not 0 < beta_min <= beta_max < math.inf:
            raise UserError(
                f"beta_min and beta_max are {quoted(beta_min)} and {quoted(beta_max)}, "
                "expected 0 < beta_min <= beta_max; the paper's: 0.1 and 20"
            )
        super().__init__(type(self).formulas, beta_min=float(beta_min), beta_max=float(beta_max))

    def integral_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """B of a `noise_ratio`."""
        raise NotImplementedError

    def time_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """See `SDE`: B = beta_min t + (beta_max - beta_min) t^2 / 2 solved for t, without a difference."""
        integral = self.integral_of_ratio(np.asarray(ratio, np.float64))
        least, more = self.arguments["beta_min"], self.arguments["beta_max"] - self.arguments["beta_min"]
        return 2 * integral / (least + np.sqrt(least**2 + 2 * more * integral))


class VPSDE(_VariancePreserving):
    """Variance preserving: see `vp_formulas`. Raises UserError unless 0 < beta_min <= beta_max."""

    formulas = staticmethod(vp_formulas)

    def integral_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """ratio^2 = exp(B) - 1."""
        return np.log1p(ratio**2)


class SubVPSDE(_VariancePreserving):
    """Sub-variance preserving: see `subvp_formulas`. Raises UserError unless 0 < beta_min <= beta_max."""

    formulas = staticmethod(subvp_formulas)

    def integral_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """ratio = 2 sinh(B / 2)."""
        return 2 * np.arcsinh(ratio / 2)


SDES: dict[str, type[SDE]] = {"ve": VESDE, "vp": VPSDE, "subvp": SubVPSDE}
