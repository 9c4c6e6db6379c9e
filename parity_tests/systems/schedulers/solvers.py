"""The few-step schedulers in float64: every multistep weight is an integral of a polynomial, taken numerically.

In y = x / sqrt(abar) and lambda = -log sigma the equations are, with u from the step's beginning,

    x_0:  dy = (x_0 - y) du        x_0, SDE:  dy = 2 (x_0 - y) du + sqrt(2) sigma dw
    eps:  dy = -sigma eps du       eps, SDE:  dy = -2 sigma eps du + sqrt(2) sigma dw

so that a step's weights are integrals of exp(-u), or the like, times the polynomial through the answers (Lu et al.,
arXiv 2211.01095; Zhao et al., arXiv 2302.04867). Where the papers' code takes another weight, it stands below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .oracle import DEFAULTS, Scheduler, betas_of

Array = np.ndarray
SOLVERS = {"euler", "ancestral", "pndm", "dpm", "unipc"}
OWN_DEFAULTS = {
    "use_karras_sigmas": False, "use_exponential_sigmas": False, "use_lu_lambdas": False, "use_beta_sigmas": False,
    "sigma_min": None,
    "sigma_max": None, "final_sigmas_type": "zero", "interpolation_type": "linear", "timestep_type": "discrete",
    "solver_order": 2, "lower_order_final": True, "lambda_min_clipped": -np.inf, "algorithm_type": "dpmsolver++",
    "euler_at_final": False, "predict_x0": True, "disable_corrector": (), "skip_prk_steps": False,
    "set_alpha_to_one": False, "clip_sample": False,
}  # fmt: skip
POINTS, POINT_WEIGHTS = np.polynomial.legendre.leggauss(40)


def integral(function, length: float) -> float:
    """From 0 to ``length``."""
    return float((POINT_WEIGHTS * function((POINTS + 1) * length / 2)).sum() * length / 2)


def polynomial(nodes: Sequence[float]) -> Array:
    """(n, n): row k says what each value at ``nodes`` weighs in the coefficient of s^k."""
    return np.linalg.inv(np.vander(np.array(nodes), increasing=True))


def adams(nodes: Sequence[float]) -> Array:
    """The weights of the values at ``nodes`` in the integral from 0 to 1."""
    return (1 / np.arange(1, len(nodes) + 1)) @ polynomial(nodes)


class Solver(Scheduler):
    """Any of `SOLVERS`."""

    def __init__(self, kind: str, config: Mapping[str, Any]):
        spacing = "leading" if kind == "pndm" else "linspace"
        solver_type = {"unipc": "bh2"}.get(kind, "midpoint")
        own = {"timestep_spacing": spacing, "solver_type": solver_type} | OWN_DEFAULTS
        super().__init__(kind, own | dict(config))
        if self.config["rescale_betas_zero_snr"]:
            self.abar[-1] = 2.0**-24
        self.table = np.sqrt(-np.expm1(np.log(self.abar)) / self.abar)
        self.init_noise_sigma, self.sigmas = 1.0, np.zeros(0)

    # --- the chain ---

    def set_timesteps(self, steps=None, timesteps=None, sigmas=None) -> None:
        """A chain from its beginning."""
        self.place = 0
        self.answers = []
        self.kept = None
        self.times, levels = self._chain(steps, timesteps, sigmas)
        self.sigmas = np.array(levels, np.float64)
        if self.kind in ("euler", "ancestral"):
            top = self.sigmas.max()
            self.init_noise_sigma = top if self.config["timestep_spacing"] != "leading" else np.hypot(top, 1)

    def set_begin_index(self, place: int) -> None:
        """Begins later."""
        self.place = place

    def _spread(self, low: float, high: float, n: int) -> Array:
        low, high = self.config["sigma_min"] or low, self.config["sigma_max"] or high
        part = np.linspace(1, 0, n)
        if self.config["use_karras_sigmas"]:
            return (part * high ** (1 / 7) + (1 - part) * low ** (1 / 7)) ** 7
        if self.config["use_beta_sigmas"]:
            from scipy.stats import beta

            return low + (high - low) * beta.ppf(part, 0.6, 0.6)
        return low ** (1 - part) * high**part

    def _times_at(self, levels: Array) -> Array:
        ascending = np.maximum.accumulate(self.table)  # but where its end was made finite, which is the last again
        found = np.interp(np.log(levels), np.log(ascending), np.arange(len(self.table)))
        return np.where(np.isclose(levels, self.table[-1], rtol=1e-12), len(self.table) - 1, found)

    def _chain(self, n, timesteps, sigmas) -> tuple[list, list]:
        config, T = self.config, self.config["num_train_timesteps"]
        last = self.table[0] if config["final_sigmas_type"] == "sigma_min" else 0.0
        spacing, offset = config["timestep_spacing"], config["steps_offset"]
        names = ("use_karras_sigmas", "use_exponential_sigmas", "use_lu_lambdas", "use_beta_sigmas")
        spread = any(config[name] for name in names)
        if sigmas is not None:
            return list(self._times_at(np.array(sigmas[:-1]))), list(sigmas)
        if self.kind == "pndm":
            return self._pndm_chain(n)
        if self.kind in ("euler", "ancestral"):
            even = list(np.linspace(T - 1, 0, n)) if timesteps is None and n > 1 else timesteps
            times = [*map(float, np.float32(even if spacing == "linspace" or timesteps else self._spaced(n)))]
            levels = np.interp(times, np.arange(T), self.table)
            if config["interpolation_type"] == "log_linear":
                levels = np.geomspace(self.table[-1], self.table[0], n + 1)
            if spread:
                levels = self._spread(levels[-1], levels[0], n)
                times = list(self._times_at(levels))
            if config["timestep_type"] == "continuous" and config["prediction_type"] == "v_prediction":
                times = list(np.log(levels) / 4)
            return times, [*levels, last]
        above = T - int((-np.log(self.table) < config["lambda_min_clipped"]).sum())
        if timesteps is not None:
            times = list(timesteps)
        elif spacing == "trailing":
            times = [round(above - T / n * i) - 1 for i in range(n)]
            times = [t for t in times if t >= 0]
        elif spacing == "leading":
            times = [offset + above // (n + 1) * i for i in range(n, 0, -1)]
        else:
            times = [round((above - 1) / n * i) for i in range(n, 0, -1)]
        if not spread:
            return times, [*self.table[times], last]
        levels = self._spread(self.table[0], self.table[-1], n)
        exact = self._times_at(levels)
        cosine = self.kind == "dpm" and config["beta_schedule"] == "squaredcos_cap_v2"
        whole = (
            np.floor(exact + 1e-6)
            if config["use_exponential_sigmas"] or config["use_beta_sigmas"] or cosine
            else np.rint(exact)
        )
        if last and self.kind == "unipc":
            last = levels[-1]
        return whole.astype(int).tolist(), [*levels, last]

    def _spaced(self, n: int) -> list[int]:
        copy = Scheduler("ddim", self.config)
        copy.set_timesteps(n)
        return copy.times

    def _pndm_chain(self, n: int) -> tuple[list, list]:
        times, half = self._spaced(n), self.config["num_train_timesteps"] // n // 2
        if self.config["skip_prk_steps"]:
            calls = [times[i] for i in (0, *range(1, n)[:1], *range(1, n))]
        else:
            calls = [t for i in range(3) for t in (times[i], times[i + 1] + half, times[i + 1] + half, times[i + 1])]
            calls += times[3:]
        return calls, [*self.table[calls], 0.0]

    def scale_model_input(self, x: Array, time: float) -> Array:
        """What the network sees."""
        return x * np.cos(np.arctan(self.sigmas[self.place])) if self.kind in ("euler", "ancestral") else x

    def noised(self, x_start: Array, noise: Array, t: Array) -> tuple[Array, None]:
        """Where the chain begins."""
        angle = np.arctan(self.sigmas[self.place])
        if self.kind in ("euler", "ancestral"):
            return x_start + np.tan(angle) * noise, None
        return np.cos(angle) * x_start + np.sin(angle) * noise, None

    # --- steps ---

    def angle(self, t: Any) -> tuple[float, float]:
        """sqrt(abar) and sqrt(1 - abar) where the chain is, whatever ``t``."""
        angle = np.arctan(self.sigmas[self.place])
        return np.cos(angle), np.sin(angle)

    def step(self, output: Array, time: float, x: Array, noise: Array, **options: float) -> tuple[dict, dict]:
        """{"prev", "start"} of the next step; no magnitudes."""
        output, x, noise = (np.asarray(value, np.float64) for value in (output, x, noise))
        taken = {"euler": self._euler, "ancestral": self._euler, "pndm": self._pndm}.get(self.kind, self._multistep)
        prev, start = taken(output, x, noise, time, **options)
        self.place += 1
        return {"prev": prev, "start": start}, {}

    def _euler(self, output, x, noise, time, s_churn=0.0, s_tmin=0.0, s_tmax=np.inf, s_noise=1.0):
        now, later = self.sigmas[self.place : self.place + 2]
        hat = now
        if s_churn and s_tmin <= now <= s_tmax:
            hat = now * (1 + min(s_churn / (len(self.sigmas) - 1), 2**0.5 - 1))
            x = x + s_noise * np.sqrt((hat - now) * (hat + now)) * noise
        match self.config["prediction_type"]:
            case "epsilon":
                slope = output
            case "sample":
                slope = (x - output) / hat
            case _:
                slope = (x * now**2 / (1 + now**2) + output * now / np.sqrt(1 + now**2)) / hat
        start = x - hat * slope
        if self.kind == "euler":
            return x + (later - hat) * slope, start
        return start + later**2 / now * slope + later * np.sqrt((now - later) * (now + later)) / now * noise, start

    def _pndm(self, output, x, noise, time):
        start, _ = self._limit(self._start(output, x, time)[0])
        gap, call, calls = self.config["num_train_timesteps"] // self.steps_of_chain, len(self.answers), self.answers
        skip = self.config["skip_prk_steps"]
        calls.append(output)
        now, later, base = time, time - gap, x
        if not skip and call < 12:
            block, stage = call - call % 4, call % 4
            now, later = self.times[block], time - (0 if stage % 2 else gap // 2)
            base = self.kept = x if stage == 0 else self.kept
            mixed = np.tensordot([1 / 6, 2 / 6, 2 / 6, 1 / 6], calls[-4:], 1) if stage == 3 else output
        elif skip and call == 1:
            now, later, base = time + gap, time, self.kept
            mixed = (calls[0] + output) / 2
        else:
            self.kept = x
            counted = [calls[i] for i in range(call + 1) if (i != 1 if skip else i % 4 == 0 or i > 11)][-4:]
            mixed = np.tensordot(adams(range(0, -len(counted), -1)), counted[::-1], 1)
        a = self.abar[now]
        b = self.abar[later] if later >= 0 else 1.0 if self.config["set_alpha_to_one"] else self.abar[0]
        if self.config["prediction_type"] == "v_prediction":
            mixed = np.sqrt(a) * mixed + np.sqrt(1 - a) * base
        y = base / np.sqrt(a) + (np.sqrt(1 / b - 1) - np.sqrt(1 / a - 1)) * mixed
        return np.sqrt(b) * y, start

    @property
    def steps_of_chain(self) -> int:
        """How many steps the calls are."""
        return len(self.times) - 1 if self.config["skip_prk_steps"] else len(self.times) - 9

    def _multistep(self, output, x, noise, time):
        config, left = self.config, len(self.times) - self.place
        if config["variance_type"] in ("learned", "learned_range"):
            output = np.split(output, 2, axis=1)[0]
        free, eps, _ = self._start(output, x, time)
        start, _ = self._limit(free)
        signal, spread = self.angle(time)
        algorithm = config["algorithm_type"] if self.kind == "dpm" else "dpmsolver++" if config["predict_x0"] else ""
        if config["thresholding"]:
            eps = (x - signal * start) / spread
        answer = start if algorithm.endswith("++") else eps
        if self.kind == "unipc":
            if self.answers and self.place - 1 not in config["disable_corrector"]:
                x = self._moved(self.kept, self.place - 1, self.order, algorithm, noise, answer)
            limit = left if config["lower_order_final"] else 3
        else:
            few = config["lower_order_final"] and len(self.times) < 15
            ends = config["euler_at_final"] or few or config["final_sigmas_type"] == "zero"
            limit = 1 if left == 1 and ends else 2 if left == 2 and few else 3
        self.answers.append(answer)
        self.order, self.kept = min(config["solver_order"], limit, len(self.answers)), x
        return self._moved(x, self.place, self.order, algorithm, noise), start

    def _moved(self, x: Array, place: int, order: int, algorithm: str, noise: Array, end: Array | None = None) -> Array:
        """From ``place`` to the next by the polynomial through ``order`` answers and, correcting, that at the end."""
        s, t = self.sigmas[place : place + 2]
        y, last = x * np.sqrt(1 + s**2), np.sqrt(1 + t**2)
        if s == t:
            return x
        answers = self.answers[-order:][::-1]
        if t == 0:  # everything but the newest answer has decayed
            return answers[0]
        h, data, rate = np.log(s / t), algorithm.endswith("++"), 2 if algorithm.startswith("sde") else 1
        if data:  # rate e^(-rate (h - u)) on x_0
            powers = self._integrals(lambda u: rate * np.exp(rate * (u - h)), h, order)
            y, fresh = np.exp(-rate * h) * y, t * np.sqrt(-np.expm1(-2 * h))
        else:  # -rate sigma on eps
            powers = self._integrals(lambda u: -rate * s * np.exp(-u), h, order)
            fresh = np.sqrt(s**2 - t**2)
        nodes = [np.log(s / self.sigmas[place - i]) / h for i in range(order)] + [1.0] * (end is not None)
        answers = answers + [end] * (end is not None)
        self._as_published(powers, len(nodes), algorithm, h, t)
        weights = np.array(powers[: len(nodes)]) @ polynomial(nodes)
        moved = y + np.tensordot(weights, answers, 1) + (fresh * noise if rate == 2 else 0)
        return moved / last

    @staticmethod
    def _integrals(kernel, h: float, order: int) -> list[float]:
        return [integral(lambda u, k=k: kernel(u) * (u / h) ** k, h) for k in range(order + 1)]

    def _as_published(self, powers: list[float], nodes: int, algorithm: str, h: float, t: float) -> None:
        """Where the authors' code does not take the integral."""
        if self.kind == "dpm" and nodes == 3:
            powers[2] /= 2
        if self.kind == "dpm" and nodes == 2 and self.config["solver_type"] == "midpoint":
            powers[1] = powers[0] / 2
        if self.kind == "unipc" and nodes == 2:
            b = -h * (-1 if algorithm else t) if self.config["solver_type"] == "bh1" else powers[0]
            powers[1] = b / 2


def betas(config: Mapping[str, Any]) -> Array:
    """(T,) betas, with diffusers' defaults."""
    return betas_of(DEFAULTS | dict(config))
