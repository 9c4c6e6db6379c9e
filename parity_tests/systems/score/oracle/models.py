"""Score-based models in float64, from the SDEs' drift and diffusion alone.

Song et al. 2021, arXiv 2011.13456. The kernel's moments are not taken from the paper's closed forms: for a linear SDE
they are integrals (Sarkka & Solin 2019, "Applied stochastic differential equations", ch. 6), done here by quadrature:
coeff(t) = exp(int f), std(t)^2 = int g(s)^2 exp(2 int_s^t f) ds. A slip in a closed form shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

import numpy as np

Array = np.ndarray
NODES, WEIGHTS = np.polynomial.legendre.leggauss(120)


def _integral(f: Callable, low: float, high: float) -> float:
    middle, half = (low + high) / 2, (high - low) / 2
    return half * float(WEIGHTS @ f(middle + half * NODES))


class SDE:
    """dx = f(t) x dt + g(t) dw by name: "ve" (sigma), "vp" and "subvp" (beta_min, beta_max)."""

    def __init__(self, name: str, sigma: float = 25.0, beta_min: float = 0.1, beta_max: float = 20.0):
        self.name = name
        self.sigma = sigma
        self.beta_min = beta_min
        self.beta_max = beta_max

    def beta(self, t: Array) -> Array:
        """The rate of "vp" and "subvp" (eq. 32)."""
        return (1 - t) * self.beta_min + t * self.beta_max

    def beta_area(self, t: Array) -> Array:
        """The area under `beta` up to t: a trapezium."""
        return t * (self.beta_min + self.beta(t)) / 2

    def drift_coeff(self, t: Array) -> Array:
        """f."""
        t = np.asarray(t, np.float64)
        return np.zeros_like(t) if self.name == "ve" else -self.beta(t) / 2

    def diffusion_coeff(self, t: Array) -> Array:
        """g."""
        t = np.asarray(t, np.float64)
        if self.name == "ve":
            return np.power(self.sigma, t)
        share = 1.0 if self.name == "vp" else -np.expm1(-2 * self.beta_area(t))
        return np.sqrt(self.beta(t) * share)

    def marginal_prob_coeff(self, t: Array) -> Array:
        """exp of the integral of f."""
        each = [np.exp(_integral(self.drift_coeff, 0.0, float(time))) for time in np.ravel(t)]
        return np.array(each).reshape(np.shape(t))

    def marginal_prob_std(self, t: Array) -> Array:
        """The root of the variance's integral."""

        def one(time: float) -> float:
            total = _integral(self.drift_coeff, 0.0, time)

            def integrand(s: Array) -> Array:
                rest = np.array([total - _integral(self.drift_coeff, 0.0, float(v)) for v in s])
                return self.diffusion_coeff(s) ** 2 * np.exp(2 * rest)

            return float(np.sqrt(_integral(integrand, 0.0, time)))

        return np.array([one(float(time)) for time in np.ravel(t)]).reshape(np.shape(t))

    @property
    def prior_std(self) -> float:
        """Of x_1."""
        return float(self.marginal_prob_std(1.0)) if self.name == "ve" else 1.0

    def ratio(self, t: float) -> float:
        """Noise over signal."""
        return float(self.marginal_prob_std(t)) / float(self.marginal_prob_coeff(t))

    def flow_times(self, steps: int, eps: float) -> list[float]:
        """steps + 1 times of which ratio^(1/7) falls evenly (Karras et al. 2022, arXiv 2206.00364, eq. 5)."""
        from scipy.optimize import brentq

        ends = np.array([self.ratio(1.0), self.ratio(eps)]) ** (1 / 7)
        wanted = (ends[0] + np.arange(1, steps) / steps * (ends[1] - ends[0])) ** 7
        inner = [brentq(lambda t, r=r: np.log(self.ratio(t) / r), eps / 2, 1.0, xtol=1e-16, rtol=1e-14) for r in wanted]
        return [1.0, *inner, eps]


class StandIn:
    """The stand-in network: (bias + table[y] - gain x + mix x / (1 + x^2)) / (0.2 + std(t)^2), channel by channel."""

    def __init__(self, sde: SDE, weights: Mapping[str, Array]):
        self.sde, self.w = sde, {name: np.asarray(value, np.float64) for name, value in weights.items()}

    def spread(self, t: float) -> float:
        """What it is divided by."""
        return 0.2 + float(self.sde.marginal_prob_std(t)) ** 2

    def score(self, x: Array, t: float, y: Array | None = None) -> Array:
        """x (B, C, H, W) at one time t, classes y (B,)."""
        w = self.w
        value = w["bias"] - w["gain"] * x + w["mix"] * x / (1 + x**2)
        if y is not None:
            value = value + w["table"][y][:, :, None, None]
        return value / self.spread(t)

    def slope(self, x: Array, t: float) -> Array:
        """Its derivative, elementwise: no pixel sees another."""
        w = self.w
        return (-w["gain"] + w["mix"] * (1 - x**2) / (1 + x**2) ** 2) / self.spread(t)


class Preconditioned:
    """A stand-in within Karras et al.'s preconditioning (arXiv 2206.00364, eq. 7), through the denoiser.

    D = mean + skip (x / coeff - mean) + out F, with the skip that is best for Gaussian data and the deviation that is
    left as ``out``; then the score is (coeff D - x) / std^2 (eq. 3). The stand-in gives F / std.
    """

    def __init__(self, net: StandIn, sde: SDE, sigma_data: float, data_mean: float):
        self.net = net
        self.sde = sde
        self.sigma_data = sigma_data
        self.mean = data_mean

    def numbers(self, t: float) -> tuple[float, float, float, float, float]:
        """coeff, std, c_in (of x), c_skip and c_out (of x_0's scale)."""
        coeff, std = float(self.sde.marginal_prob_coeff(t)), float(self.sde.marginal_prob_std(t))
        sigma = std / coeff
        both = sigma**2 + self.sigma_data**2
        skip, out = self.sigma_data**2 / both, sigma * self.sigma_data / np.sqrt(both)
        return coeff, std, 1 / (coeff * np.sqrt(both)), skip, out

    def score(self, x: Array, t: float, y: Array | None = None) -> Array:
        """As the stand-in's."""
        coeff, std, scale, skip, out = self.numbers(t)
        f = std * self.net.score(scale * (x - coeff * self.mean), t, y)
        denoised = self.mean + skip * (x / coeff - self.mean) + out * f
        return (coeff * denoised - x) / std**2

    def slope(self, x: Array, t: float) -> Array:
        """Its derivative, elementwise."""
        coeff, std, scale, skip, out = self.numbers(t)
        f = std * scale * self.net.slope(scale * (x - coeff * self.mean), t)
        return (skip - 1 + coeff * out * f) / std**2


class ScoreModel:
    """What a score network is used for: loss, guided score, samplers, likelihood. Class ``num_classes`` is none."""

    def __init__(self, net: StandIn, sde: SDE, num_classes: int = 0):
        self.net = net
        self.sde = sde
        self.num_classes = num_classes

    def loss(self, x: Array, t: Array, z: Array, y: Array | None = None, dropped: Array | None = None) -> float:
        """Mean over images of |std score + z|^2 (eq. 7, weighted by std^2), or with Karras et al.'s weight."""
        total = 0.0
        for i, time in enumerate(t):
            coeff, std = float(self.sde.marginal_prob_coeff(time)), float(self.sde.marginal_prob_std(time))
            label = None if y is None else np.array([self.num_classes if dropped is not None and dropped[i] else y[i]])
            noise = z[i : i + 1].astype(np.float64)
            clean = x[i : i + 1].astype(np.float64)
            noised = coeff * clean + std * noise
            score = self.net.score(noised, float(time), label)
            if isinstance(self.net, Preconditioned):  # |D - x_0|^2 / c_out^2 (Karras et al., eq. 8)
                denoised = (noised + std**2 * score) / coeff
                total += float(((denoised - clean) ** 2).sum()) / self.net.numbers(float(time))[-1] ** 2
            else:
                total += float(((std * score + noise) ** 2).sum())
        return total / len(t)

    def score(self, x: Array, t: float, y: Array | None = None, scale: float = 1.0) -> Array:
        """(1 + w) s_class - w s_none, scale = 1 + w (Ho & Salimans 2022, arXiv 2207.12598, eq. 6)."""
        of_class = self.net.score(x, t, y)
        if y is None or scale == 1:
            return of_class
        w = scale - 1
        return (1 + w) * of_class - w * self.net.score(x, t, np.full_like(y, self.num_classes))

    def reverse_step(self, x: Array, t: float, dt: float, z: Array | None, y=None, scale: float = 1.0) -> Array:
        """Euler-Maruyama on eq. 6, backwards in time; without noise where z is None."""
        g = float(self.sde.diffusion_coeff(t))
        drift = float(self.sde.drift_coeff(t)) * x - g**2 * self.score(x, t, y, scale)
        return x - drift * dt + (0 if z is None else g * np.sqrt(dt) * z.astype(np.float64))

    def corrector(
        self, x: Array, t: float, dt: float, snr: float, z: Array, y=None, scale: float = 1.0, norm: str = "image"
    ) -> Array:
        """Algorithms 4 and 5, with each image's norms or their means over the batch."""
        score, z = self.score(x, t, y, scale), z.astype(np.float64)
        lengths = [np.sqrt((v.reshape(len(v), -1) ** 2).sum(axis=1)) for v in (z, score)]
        if norm == "batch":
            lengths = [np.full(len(x), v.mean()) for v in lengths]
        alpha = max(0.0, 1 + 2 * float(self.sde.drift_coeff(t)) * dt)
        size = (2 * alpha * (snr * lengths[0] / lengths[1]) ** 2)[:, None, None, None]
        return x + size * score + np.sqrt(2 * size) * z

    def flow(self, x: Array, t: float, y=None, scale: float = 1.0) -> Array:
        """The right side of the probability-flow ODE (eq. 13)."""
        g = float(self.sde.diffusion_coeff(t))
        return float(self.sde.drift_coeff(t)) * x - g**2 * self.score(x, t, y, scale) / 2

    def heun_step(self, x: Array, now: float, after: float, y=None, scale: float = 1.0) -> Array:
        """One step of Heun's method on it."""
        first = self.flow(x, now, y, scale)
        return x + (after - now) * (first + self.flow(x + (after - now) * first, after, y, scale)) / 2

    def divergence(self, x: Array, t: float, probe: Array) -> Array:
        """probe^T (d flow / dx) probe, (B,) (eq. 40)."""
        g = float(self.sde.diffusion_coeff(t))
        jacobian = float(self.sde.drift_coeff(t)) - g**2 * self.net.slope(x, t) / 2
        return (jacobian * probe.astype(np.float64) ** 2).reshape(len(x), -1).sum(axis=1)

    def denoised(self, x: Array, t: float, y=None, scale: float = 1.0) -> Array:
        """x_0's mean given x_t (Tweedie's formula: Efron 2011)."""
        std = float(self.sde.marginal_prob_std(t))
        return (x + std**2 * self.score(x, t, y, scale)) / float(self.sde.marginal_prob_coeff(t))

    def chain(
        self, sampler: str, tape: Iterable[Array], *, steps: int = 10, eps: float = 1e-3, y=None, scale: float = 1.0,
        denoise: bool = False, snr: float = 0.16, norm: str = "image", rtol: float = 1e-5, atol: float = 1e-5,
    ) -> list[Array]:  # fmt: skip
        """The states of a sampler, x_1 first; of "ode" the first and the last."""
        tape = iter(tape)
        x = self.sde.prior_std * next(tape).astype(np.float64)
        states = [x]
        if sampler == "ode":
            from scipy.integrate import solve_ivp

            def right(t: float, v: Array) -> Array:
                return self.flow(v.reshape(x.shape), t, y, scale).ravel()

            found = solve_ivp(right, (1.0, eps), x.ravel(), method="RK45", rtol=rtol, atol=atol)
            return [x, found.y[:, -1].reshape(x.shape)]
        if sampler == "heun":
            for now, after in pairwise(self.sde.flow_times(steps, eps)):
                x = self.heun_step(x, now, after, y, scale)
                states.append(x)
            return states
        times = 1 - np.arange(steps) * (1 - eps) / (steps - 1)
        dt = (1 - eps) / (steps - 1)
        for i, t in enumerate(times):
            if sampler == "pc":
                x = self.corrector(x, t, dt, snr, next(tape), y, scale, norm)
            last = i == steps - 1
            if last and denoise:
                x = self.denoised(x, t, y, scale)
            else:
                x = self.reverse_step(x, t, dt, None if last else next(tape), y, scale)
            states.append(x)
        return states

    def log_likelihood(self, x: Array, probe: Array, *, steps: int, eps: float) -> Array:
        """log p_0(x) (B,) in nats (eq. 39), by Heun's method."""
        x = x.astype(np.float64)
        total = np.zeros(len(x))
        for now, after in pairwise(self.sde.flow_times(steps, eps)[::-1]):
            guess = x + (after - now) * self.flow(x, now)
            total += (after - now) * (self.divergence(x, now, probe) + self.divergence(guess, after, probe)) / 2
            x = self.heun_step(x, now, after)
        z = x.reshape(len(x), -1) / self.sde.prior_std
        return total - 0.5 * (z**2 + np.log(2 * np.pi)).sum(axis=1) - z.shape[1] * np.log(self.sde.prior_std)
