"""diffusers' schedulers in float64: the process of `process.Process` between any two of its times.

Flawed: Lin et al. 2023, arXiv 2305.08891. Imagen: Saharia et al. 2022, arXiv 2205.11487. OpenAI: improved-diffusion's
ModelVarType.LEARNED, whose output is a log-variance. A step's posterior is a product of two Gaussians here, the
quantile numpy's, the schedules quotients without a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from parity_tests.oracle.process import as_float64
from parity_tests.oracle.schedules import beta_schedule, ddim_coefficients, gaussian_product

Array = np.ndarray
DEFAULTS = {
    "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": None, "variance_type": "fixed_small", "clip_sample": True, "prediction_type": "epsilon",
    "thresholding": False, "dynamic_thresholding_ratio": 0.995, "clip_sample_range": 1.0, "sample_max_value": 1.0,
    "timestep_spacing": "leading", "steps_offset": 0, "rescale_betas_zero_snr": False, "set_alpha_to_one": True,
}  # fmt: skip


def _laplace(timesteps: int) -> Array:
    """abar = (1 + 1/snr)^(-1/2); snr = (2u + 1e-6)^(-1/2) up to u = 1/2, then (2 (1 - u) + 1e-6)^(1/2)."""
    u = np.arange(timesteps + 1) / timesteps
    inverse_snr = np.where(u <= 0.5, 2 * u + 1e-6, 1 / (2 * (1 - u) + 1e-6)) ** 0.5
    log_abar = -0.5 * np.log1p(inverse_snr)
    return np.minimum(-np.expm1(np.diff(log_abar)), 0.999)


def betas_of(config: Mapping[str, Any]) -> Array:
    """(T,) betas of a configuration."""
    config = DEFAULTS | dict(config)
    total, ends = config["num_train_timesteps"], {name: config[name] for name in ("beta_start", "beta_end")}
    name = config["beta_schedule"]
    if config["trained_betas"] is not None:
        betas = as_float64(config["trained_betas"])
    elif name == "sigmoid":  # 1 / (1 + e^-z) = (1 + tanh(z / 2)) / 2
        share = (1 + np.tanh(np.linspace(-3, 3, total))) / 2
        betas = ends["beta_start"] * (1 - share) + ends["beta_end"] * share
    elif name == "laplace":
        betas = _laplace(total)
    else:
        name, ends = ("cosine", {}) if name == "squaredcos_cap_v2" else (name, ends)
        betas = beta_schedule(name, total, **ends)
    if not config["rescale_betas_zero_snr"]:
        return betas
    root = np.exp(np.cumsum(np.log1p(-betas)) / 2)
    ratio = np.append(root[0], (root[1:] - root[-1]) / (root[:-1] - root[-1]))  # of neighbours, shift taken in
    return (1 - ratio) * (1 + ratio)


def times_of(config: Mapping[str, Any], steps: int) -> list[int]:
    """Flawed, table 2, as float64 has it: halves to even, and numpy's own ways of spacing."""
    config = DEFAULTS | dict(config)
    total, spacing = config["num_train_timesteps"], config["timestep_spacing"]
    if spacing == "leading":
        return [config["steps_offset"] + (total // steps) * i for i in range(steps - 1, -1, -1)]
    if spacing == "linspace":
        gap = (total - 1) / max(steps - 1, 1)
        return [round(gap * i) for i in range(steps - 1, -1, -1)]
    gap = (total - total / steps) - total
    return [round(total + gap * i) - 1 for i in range(steps)]


class Scheduler:
    """Either scheduler in float64; ``kind`` is "ddpm" or "ddim"."""

    def __init__(self, kind: str, config: Mapping[str, Any]):
        self.kind, self.config = kind, DEFAULTS | dict(config)
        self.betas = betas_of(config)
        with np.errstate(divide="ignore"):  # a last beta of 1: abar is 0
            self.abar = np.exp(np.cumsum(np.log1p(-self.betas)))
        self.steps, self.times = None, list(range(len(self.betas)))[::-1]

    def set_timesteps(self, steps: int | None = None, timesteps: list[int] | None = None) -> None:
        """Times by the spacing, or those given."""
        self.steps = steps
        self.times = list(timesteps) if steps is None else times_of(self.config, steps)

    def later(self, time: int) -> int:
        """Where a step from ``time`` leads; negative: behind the last."""
        if self.kind == "ddim" and self.steps is not None:
            return time - len(self.betas) // self.steps
        return (self.times + [-1])[self.times.index(time) + 1]

    def angle(self, t: ArrayLike) -> tuple[Array, Array]:
        """sqrt(abar) and sqrt(1 - abar)."""
        abar = self.abar[np.asarray(t)]
        return np.sqrt(abar), np.sqrt(1 - abar)

    def noised(self, x_start: Array, noise: Array, t: Array) -> tuple[Array, Array]:
        """x_t and v."""
        signal, spread = (part.reshape(-1, 1, 1, 1) for part in self.angle(t))
        return signal * x_start + spread * noise, signal * noise - spread * x_start

    def _start(self, output: Array, x: Array, time: int) -> tuple[Array, Array, Array]:
        """x_0 and eps before any limit, and the magnitude of x_0's larger operand."""
        signal, spread = self.angle(time)
        match self.config["prediction_type"]:
            case "epsilon":
                return (x - spread * output) / signal, output, np.maximum(abs(x), spread * abs(output)) / signal
            case "sample":
                return output, (x - signal * output) / spread, abs(output)
        x_start, eps = signal * x - spread * output, spread * x + signal * output
        return x_start, eps, np.maximum(signal * abs(x), spread * abs(output))

    def _limit(self, x_start: Array) -> tuple[Array, Array]:
        """x_0 as it is used, and what it was divided by."""
        size = abs(x_start).reshape(len(x_start), -1)
        if not self.config["thresholding"]:
            most = self.config["clip_sample_range"] if self.config["clip_sample"] else np.inf
            return np.clip(x_start, -most, most), np.ones((len(x_start), 1, 1, 1))
        s = np.quantile(size, self.config["dynamic_thresholding_ratio"], axis=1)
        s = np.minimum(np.maximum(s, 1.0), self.config["sample_max_value"]).reshape(-1, 1, 1, 1)
        return np.clip(x_start / s, -1, 1), s

    def variances(self, time: int, later: int) -> tuple[float, float]:
        """beta-tilde and beta of a step."""
        now, before = self.abar[time], self.abar[later] if later >= 0 else self.final
        if self.kind == "ddim":
            return float(self._ddim(time, later, 1.0)[2] ** 2), float(1 - now / before)
        alpha = now / before
        small = gaussian_product(0.0, 1 - before, 0.0, (1 - alpha) / alpha)[1] if alpha else 1 - before
        return max(float(small), 1e-20), float(1 - alpha)

    @property
    def final(self) -> float:
        """abar behind the last step."""
        return 1.0 if self.kind == "ddpm" or self.config["set_alpha_to_one"] else float(self.abar[0])

    def _ddim(self, time: int, later: int, eta: float) -> list[float]:
        pair = np.array([self.abar[time], self.abar[later] if later >= 0 else self.final])
        return [float(part[0]) for part in ddim_coefficients(pair, np.array([0]), np.array([1]), eta)]

    def step(
        self, output: Array, time: int, x: Array, noise: Array, eta: float = 0.0, clipped: bool = False
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """{"prev", "start"} of a step, and the magnitudes of their larger operands."""
        output, x, noise = map(as_float64, (output, x, noise))
        raw = None
        if self.kind == "ddpm" and self.config["variance_type"].startswith("learned"):
            output, raw = np.split(output, 2, axis=1)
        free, eps, operand = self._start(output, x, time)
        x_start, divisor = self._limit(free)
        operand = np.where(abs(x_start) == abs(free / divisor), operand / divisor, np.maximum(abs(x_start), 0))
        if self.config["thresholding"]:  # s comes from a value of x_0 and carries its error to all
            operand = np.maximum(operand, abs(x_start) * np.maximum(1, operand))
        later = self.later(time)
        if self.kind == "ddpm":
            prev, terms = self._ancestral(x_start, operand, x, noise, raw, time, later)
        else:
            signal, spread = self.angle(time)
            if clipped:
                eps, of_eps = (x - signal * x_start) / spread, np.maximum(abs(x), signal * operand) / spread
            else:
                of_eps = np.maximum(abs(x), abs(output)) / spread
            a, b, c = self._ddim(time, later, eta)
            prev, terms = a * x_start + b * eps + c * noise, (a * operand, b * of_eps, c * abs(noise))
        return {"prev": prev, "start": x_start}, {"prev": np.maximum.reduce(terms), "start": operand}

    def _ancestral(self, x_start, operand, x, noise, raw, time, later):
        before = self.abar[later] if later >= 0 else 1.0
        alpha = self.abar[time] / before
        if alpha:
            of_x = gaussian_product(0.0, 1 - before, 1 / np.sqrt(alpha), (1 - alpha) / alpha)[0]
            of_start = gaussian_product(np.sqrt(before), 1 - before, 0.0, (1 - alpha) / alpha)[0]
        else:
            of_start, of_x = np.sqrt(before), 0.0  # x_t says nothing: the prior alone
        small, large = self.variances(time, later)
        kind, log_size = self.config["variance_type"], 1.0
        if kind == "learned":
            sigma, log_size = np.exp(raw / 2), np.maximum(1, abs(raw))
        elif kind == "learned_range":
            v = (raw + 1) / 2
            sigma = large ** (v / 2) * small ** ((1 - v) / 2)
            log_size = np.maximum(1, np.maximum(abs(v * np.log(large)), abs((1 - v) * np.log(small))) / 2)
        else:
            sigma = np.sqrt(large if "large" in kind else small)
        sigma = sigma if time > 0 else 0.0
        terms = (of_start * operand, of_x * abs(x), sigma * log_size * abs(noise))
        return of_start * x_start + of_x * x + sigma * noise, terms
