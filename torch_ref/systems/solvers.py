"""Schedulers of few steps from the papers' equations: names and arguments as in huggingface/diffusers.

    EDM      Karras et al. 2022, https://arxiv.org/abs/2206.00364      PNDM     Liu et al. 2022, arXiv 2202.09778
    DPM      Lu et al. 2022, https://arxiv.org/abs/2206.00927          DPM++    Lu et al. 2022, arXiv 2211.01095
    UniPC    Zhao et al. 2023, https://arxiv.org/abs/2302.04867

x = alpha x_0 + sigma eps, lambda = log(alpha / sigma); Euler's samples are x / alpha. Noise is an argument.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from torch_ref.systems.schedulers import PREDICTIONS, SPACINGS, Scheduler, SchedulerOutput


def karras(largest: float, smallest: float, n: int) -> np.ndarray:
    """EDM eq. 5: sigma_i = (max^(1/7) + i / (n - 1) (min^(1/7) - max^(1/7)))^7."""
    ramp = np.arange(n) / max(n - 1, 1)
    return (largest ** (1 / 7) + ramp * (smallest ** (1 / 7) - largest ** (1 / 7))) ** 7


def exponential(largest: float, smallest: float, n: int) -> np.ndarray:
    """A geometric sequence."""
    return largest * (smallest / largest) ** (np.arange(n) / max(n - 1, 1))


def beta(largest: float, smallest: float, n: int) -> np.ndarray:
    """The quantiles of a Beta(0.6, 0.6) between the two (Lee et al. 2024, https://arxiv.org/abs/2407.12173)."""
    from scipy.special import betaincinv

    return smallest + (largest - smallest) * betaincinv(0.6, 0.6, 1 - np.linspace(0, 1, n))


SPREADS: dict[str, Callable[[float, float, int], np.ndarray]] = {
    "use_karras_sigmas": karras, "use_exponential_sigmas": exponential, "use_lu_lambdas": exponential,
    "use_beta_sigmas": beta,
}  # fmt: skip


class Solver(Scheduler):
    """What all do: a chain of noise levels, and where in it the next step is."""

    scaled = False

    def __init__(
        self,
        *args: object,
        use_karras_sigmas: bool = False,
        use_exponential_sigmas: bool = False,
        use_lu_lambdas: bool = False,
        use_beta_sigmas: bool = False,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        final_sigmas_type: str = "zero",
        beta_schedule: str = "linear",
        **options: object,
    ):
        super().__init__(*args, beta_schedule=beta_schedule, clip_sample=False, **options)
        if options.get("rescale_betas_zero_snr"):
            self.abar[-1] = 2.0**-24
        self.table = np.sqrt(1 / self.abar - 1)
        asked = {"use_karras_sigmas": use_karras_sigmas, "use_exponential_sigmas": use_exponential_sigmas}
        asked |= {"use_lu_lambdas": use_lu_lambdas, "use_beta_sigmas": use_beta_sigmas}
        self.spread = next((name for name, value in asked.items() if value), None)
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.beta_schedule = beta_schedule
        self.last_sigma = self.table[0] if final_sigmas_type == "sigma_min" else 0.0
        self.levels: list[float] = []

    def begin(self, times: Sequence[float], levels: Sequence[float]) -> None:
        """A new chain."""
        self.times, self.levels = list(times), [float(level) for level in levels]
        self.num_inference_steps = len(self.times)
        self.index = 0
        self.outputs: list[Tensor] = []

    @property
    def sigmas(self) -> Tensor:
        """The chain's noise levels."""
        return torch.tensor(self.levels, dtype=torch.float64)

    @property
    def timesteps(self) -> Tensor:
        """The times of the chain."""
        return torch.tensor(self.times)

    def set_begin_index(self, index: int) -> None:
        """The chain begins there."""
        self.index = index

    def scale_model_input(self, x: Tensor, time: float) -> Tensor:
        """What the network sees."""
        return x / math.sqrt(self.levels[self.index] ** 2 + 1) if self.scaled else x

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """alpha x_0 + sigma eps, or x_0 + (sigma / alpha) eps, where the chain begins."""
        level = self.levels[self.index]
        found = original_samples + level * noise
        return found if self.scaled else found / math.sqrt(1 + level**2)

    def time_of(self, level: float) -> float:
        """Between two times of the table, linearly in the logarithm."""
        not_above = np.flatnonzero(self.table <= level * (1 + 1e-12))
        below = int(min(not_above.max(initial=0), len(self.table) - 2))
        low, high = np.log(self.table[below]), np.log(self.table[below + 1])
        return below + float(np.clip((math.log(level) - low) / (high - low), 0, 1))

    def spread_levels(self, ends: Sequence[float], n: int) -> np.ndarray:
        """From the first of ``ends`` to the last, or as the configuration has them."""
        largest = ends[0] if self.sigma_max is None else self.sigma_max
        return SPREADS[self.spread](largest, ends[-1] if self.sigma_min is None else self.sigma_min, n)

    def start_and_noise(self, x: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """x_0, limited, and eps."""
        x_start, eps = PREDICTIONS[self.prediction_type](x, output, 1 / (1 + self.levels[self.index] ** 2))
        return self.limit(x_start), eps

    def alpha_sigma_lambda(self, index: int) -> tuple[float, float, float]:
        """Of a place in the chain."""
        alpha = 1 / math.sqrt(1 + self.levels[index] ** 2)
        sigma = alpha * self.levels[index]
        return alpha, sigma, math.log(alpha / sigma) if sigma else math.inf


class EulerDiscreteScheduler(Solver):
    """EDM, Algorithm 2 without its second-order correction."""

    scaled = True

    def __init__(
        self,
        *args: object,
        interpolation_type: str = "linear",
        timestep_type: str = "discrete",
        timestep_spacing: str = "linspace",
        **options: object,
    ):
        super().__init__(*args, timestep_spacing=timestep_spacing, **options)
        self.interpolation_type = interpolation_type
        self.continuous = timestep_type == "continuous" and self.prediction_type == "v_prediction"

    @property
    def init_noise_sigma(self) -> float:
        """Of the first sample."""
        extra = 1 if self.timestep_spacing == "leading" else 0
        return math.sqrt(max(self.levels) ** 2 + extra)

    def set_timesteps(
        self, num_inference_steps: int | None = None, *, timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        """By a number, by times, or by noise levels."""
        if sigmas is not None:
            self.begin([self.time_of(level) for level in sigmas[:-1]], sigmas)
            return
        T, n = self.num_train_timesteps, num_inference_steps or len(timesteps)
        if timesteps is None and self.timestep_spacing == "linspace":
            timesteps = [T - 1 - (T - 1) * i / max(n - 1, 1) for i in range(n)] if n > 1 else [0]
        elif timesteps is None:
            offset = self.steps_offset if self.timestep_spacing == "leading" else 0
            timesteps = [t + offset for t in SPACINGS[self.timestep_spacing](T, n)]
        times = [float(np.float32(t)) for t in timesteps]
        levels = np.interp(times, range(T), self.table)
        if self.interpolation_type == "log_linear":
            levels = exponential(self.table[-1], self.table[0], n + 1)
        if self.spread:
            levels = self.spread_levels(levels, n)
            times = [self.time_of(level) for level in levels]
        if self.continuous:
            times = [math.log(level) / 4 for level in levels[:n]]
        self.begin(times, [*levels, self.last_sigma])

    def step(
        self, output: Tensor, time: float, x: Tensor, *, noise: Tensor | None = None, s_churn: float = 0.0,
        s_tmin: float = 0.0, s_tmax: float = math.inf, s_noise: float = 1.0,
    ) -> SchedulerOutput:  # fmt: skip
        """x + (sigma' - sigma^) d, d = (x - x_0) / sigma^."""
        level, after = self.levels[self.index], self.levels[self.index + 1]
        gamma = min(s_churn / (len(self.levels) - 1), math.sqrt(2) - 1) if s_tmin <= level <= s_tmax else 0.0
        raised = level * (1 + gamma)
        if gamma:
            x = x + s_noise * math.sqrt(raised**2 - level**2) * noise
        x_start = self.start_of(x, output, level, raised)
        self.index += 1
        return SchedulerOutput(x + (after - raised) * (x - x_start) / raised, x_start)

    def start_of(self, x: Tensor, output: Tensor, level: float, raised: float) -> Tensor:
        """x_0; of v with the level before the churn, as diffusers has it."""
        if self.prediction_type == "sample":
            return output
        if self.prediction_type == "epsilon":
            return x - raised * output
        return x / (1 + level**2) - level / math.sqrt(1 + level**2) * output


class EulerAncestralDiscreteScheduler(EulerDiscreteScheduler):
    """down^2 + up^2 = sigma'^2, up^2 = sigma'^2 (sigma^2 - sigma'^2) / sigma^2."""

    def step(self, output: Tensor, time: float, x: Tensor, *, noise: Tensor | None = None) -> SchedulerOutput:
        """Euler's step to ``down``, then noise of ``up``."""
        level, after = self.levels[self.index], self.levels[self.index + 1]
        up = math.sqrt(after**2 * (level**2 - after**2) / level**2)
        down = math.sqrt(after**2 - up**2)
        x_start = self.start_of(x, output, level, level)
        self.index += 1
        return SchedulerOutput(x + (down - level) * (x - x_start) / level + up * noise, x_start)


class PNDMScheduler(Solver):
    """PNDM: pseudo Runge-Kutta or a repeated first step, then pseudo linear multistep."""

    def __init__(self, *args: object, skip_prk_steps: bool = False, set_alpha_to_one: bool = False, **options: object):
        super().__init__(*args, **options)
        self.skip_prk_steps = skip_prk_steps
        self.final_abar = 1.0 if set_alpha_to_one else self.abar[0]

    def set_timesteps(self, num_inference_steps: int) -> None:
        """The second time twice, or eleven more for three Runge-Kutta steps."""
        T, n = self.num_train_timesteps, num_inference_steps
        offset = self.steps_offset if self.timestep_spacing == "leading" else 0
        times = [t + offset for t in SPACINGS[self.timestep_spacing](T, n)]
        self.gap = T // n
        if self.skip_prk_steps:
            calls = times[:1] + times[1:2] + times[1:]
        else:
            calls = []
            for now, later in pairwise(times[:4]):
                calls += [now, later + self.gap // 2, later + self.gap // 2, later]
            calls += times[3:]
        self.begin(calls, self.table[calls].tolist() + [self.last_sigma])
        self.calls = 0
        self.ks: list[Tensor] = []

    def transfer(self, x: Tensor, eps: Tensor, now: int, later: int) -> Tensor:
        """phi(x, eps, t, t')   (PNDM eq. 11)."""
        a, b = self.abar[now], self.abar[later] if later >= 0 else self.final_abar
        if self.prediction_type == "v_prediction":
            eps = math.sqrt(a) * eps + math.sqrt(1 - a) * x
        below = math.sqrt(a) * (math.sqrt((1 - b) * a) + math.sqrt((1 - a) * b))
        return math.sqrt(b / a) * x - (b - a) / below * eps

    def step(self, output: Tensor, time: int, x: Tensor, *, noise: Tensor | None = None) -> SchedulerOutput:
        """One call."""
        x_start, _ = self.start_and_noise(x, output)
        if not self.skip_prk_steps and self.calls < 12:
            found = self.runge_kutta(output, time, x)
        else:
            found = self.multistep(output, time, x)
        self.calls += 1
        self.index += 1
        return SchedulerOutput(found, x_start)

    def runge_kutta(self, output: Tensor, time: int, x: Tensor) -> Tensor:
        """PNDM eq. 10: (e_1 + 2 e_2 + 2 e_3 + e_4) / 6, each from the sample that the step begins with."""
        stage = self.calls % 4
        if stage == 0:
            self.first, self.ks = x, []
            self.outputs.append(output)
        self.ks.append(output)
        now = self.times[self.calls - stage]
        later = (time - self.gap // 2, time, time - self.gap // 2, time)[stage]
        if stage == 3:
            output = (self.ks[0] + 2 * self.ks[1] + 2 * self.ks[2] + self.ks[3]) / 6
        return self.transfer(self.first, output, now, later)

    def multistep(self, output: Tensor, time: int, x: Tensor) -> Tensor:
        """PNDM eq. 9, and lower orders before; the second call does the first step again."""
        if self.calls == 1:
            return self.transfer(self.first, (output + self.outputs[-1]) / 2, time + self.gap, time)
        if self.calls == 0:
            self.first = x
        self.outputs.append(output)
        e = self.outputs[::-1]
        mixed = (
            lambda: e[0],
            lambda: (3 * e[0] - e[1]) / 2,
            lambda: (23 * e[0] - 16 * e[1] + 5 * e[2]) / 12,
            lambda: (55 * e[0] - 59 * e[1] + 37 * e[2] - 9 * e[3]) / 24,
        )[min(len(e), 4) - 1]()
        return self.transfer(x, mixed, time, time - self.gap)


class Multistep(Solver):
    """What DPM-Solver and UniPC do."""

    cut_schedules: tuple[str, ...] = ()
    ends_at_time_0 = True

    def __init__(
        self,
        *args: object,
        solver_order: int = 2,
        lower_order_final: bool = True,
        timestep_spacing: str = "linspace",
        lambda_min_clipped: float = -math.inf,
        **options: object,
    ):
        super().__init__(*args, timestep_spacing=timestep_spacing, **options)
        self.solver_order, self.lower_order_final = solver_order, lower_order_final
        self.total = sum(-math.log(level) >= lambda_min_clipped for level in self.table)

    def set_timesteps(self, num_inference_steps: int | None = None, *, timesteps: Sequence[int] | None = None) -> None:
        """By a number of steps, none of which begins at time 0, or by times."""
        n, T, last = num_inference_steps, self.total, self.last_sigma
        if timesteps is not None:
            times = list(timesteps)
        elif self.timestep_spacing == "trailing":
            times = [round(T - self.num_train_timesteps / n * i) - 1 for i in range(n)]
            times = [t for t in times if t >= 0]
        else:
            offset = self.steps_offset if self.timestep_spacing == "leading" else 0
            times = [t + offset for t in SPACINGS[self.timestep_spacing](T, n + 1)[:-1]]
        levels = [self.table[t] for t in times]
        if self.spread:
            levels = self.spread_levels(self.table[::-1], n)
            exact = [self.time_of(level) for level in levels]
            cut = (
                self.spread in ("use_exponential_sigmas", "use_beta_sigmas") or self.beta_schedule in self.cut_schedules
            )
            times = [int(t + 1e-6) if cut else round(t) for t in exact]
            last = last if self.ends_at_time_0 or not last else levels[-1]
        self.begin(times, [*levels, last])


class DPMSolverMultistepScheduler(Multistep):
    """DPM++ Algorithm 2 and its kin, up to order 3."""

    cut_schedules = ("squaredcos_cap_v2",)

    def __init__(
        self, *args: object, algorithm_type: str = "dpmsolver++", solver_type: str = "midpoint",
        euler_at_final: bool = False, variance_type: str | None = None, **options: object,
    ):  # fmt: skip
        super().__init__(*args, **options)
        self.data, self.sde = algorithm_type.endswith("++"), algorithm_type.startswith("sde")
        self.solver_type = solver_type
        self.euler_at_final = euler_at_final
        self.variance_type = variance_type

    def order(self) -> int:
        """Of the next step."""
        n, left = len(self.times), len(self.times) - self.index
        few = self.lower_order_final and n < 15
        if left == 1 and (self.euler_at_final or few or self.last_sigma == 0):
            return 1
        return min(self.solver_order, len(self.outputs), 2 if left == 2 and few else 3)

    def step(self, output: Tensor, time: int, x: Tensor, *, noise: Tensor | None = None) -> SchedulerOutput:
        """One step; D0, D1, D2 are the answer, its slope and its curvature over the step."""
        if self.variance_type in ("learned", "learned_range"):
            output = output.chunk(2, dim=1)[0]
        x_start, eps = self.start_and_noise(x, output)
        if self.thresholding:
            alpha, sigma, _ = self.alpha_sigma_lambda(self.index)
            eps = (x - alpha * x_start) / sigma
        self.outputs.append(x_start if self.data else eps)
        order = self.order()
        alpha_t, sigma_t, lambda_t = self.alpha_sigma_lambda(self.index + 1)
        places = [self.alpha_sigma_lambda(self.index - i) for i in range(order)]
        alpha_s, sigma_s, lambda_s = places[0]
        h = lambda_t - lambda_s
        self.index += 1
        if h == 0:
            return SchedulerOutput(x, x_start)
        m = self.outputs[::-1]
        d = [
            (m[i] - m[i + 1]) * h / (places[i][2] - places[i + 1][2]) for i in range(order - 1)
        ]  # slopes between two answers
        D1, D2 = (d[0], None) if d else (None, None)
        if order == 3:
            r0, r1 = ((places[i][2] - places[i + 1][2]) / h for i in (0, 1))
            D2 = (d[0] - d[1]) / (r0 + r1)
            D1 = d[0] + r0 * D2
        k = 2 if self.sde else 1
        z = -k * h if self.data else h
        whole = math.expm1(z)
        moved = whole * m[0]
        if order == 2 and self.solver_type == "midpoint":
            moved = moved + whole / 2 * D1
        elif order > 1:
            moved = moved + (whole / z - 1) * D1
        if order == 3:
            moved = moved + ((whole - z) / z**2 - 0.5) * D2
        if self.data:
            found = sigma_t / sigma_s * math.exp(-h) ** (k - 1) * x - alpha_t * moved
            spread = sigma_t * math.sqrt(-math.expm1(-2 * h))
        else:
            found = alpha_t / alpha_s * x - k * sigma_t * moved
            spread = sigma_t * math.sqrt(math.expm1(2 * h))
        return SchedulerOutput(found + spread * noise if self.sde else found, x_start)


class UniPCMultistepScheduler(Multistep):
    """UniPC, Algorithms 1 and 2, with B(h) = h or e^h - 1."""

    ends_at_time_0 = False

    def __init__(
        self, *args: object, predict_x0: bool = True, solver_type: str = "bh2",
        disable_corrector: Sequence[int] = (), **options: object,
    ):  # fmt: skip
        super().__init__(*args, **options)
        self.predict_x0 = predict_x0
        self.solver_type = solver_type
        self.disable_corrector = disable_corrector

    def set_timesteps(self, num_inference_steps: int | None = None, *, timesteps: Sequence[int] | None = None) -> None:
        """As DPM-Solver's."""
        super().set_timesteps(num_inference_steps, timesteps=timesteps)
        self.last: Tensor | None = None

    def advanced(self, x: Tensor, place: int, order: int, m: Sequence[Tensor], end: Tensor | None = None) -> Tensor:
        """x from ``place`` to the next, with the answers m (newest first) and, correcting, that at the ``end``."""
        alpha_t, sigma_t, lambda_t = self.alpha_sigma_lambda(place + 1)
        alpha_s, sigma_s, lambda_s = self.alpha_sigma_lambda(place)
        h = lambda_t - lambda_s
        if h == 0:
            return x
        hh = -h if self.predict_x0 else h
        B = hh if self.solver_type == "bh1" else math.expm1(hh)
        r = [(self.alpha_sigma_lambda(place - i)[2] - lambda_s) / h for i in range(1, order)]
        D = [(m[i] - m[0]) / r[i - 1] for i in range(1, order)]
        if end is not None:
            r.append(1.0)
            D.append(end - m[0])
        if len(r) == 1:
            rhos = [0.5]
        elif r:
            R = np.array([[rk ** (i - 1) for rk in r] for i in range(1, len(r) + 1)])
            phi, b = math.expm1(hh) / hh, []
            for i in range(1, len(r) + 1):  # phi_(i+1)(z) = (phi_i(z) - 1 / i!) / z
                phi = (phi - 1 / math.factorial(i)) / hh
                b.append(hh * phi * math.factorial(i) / B)
            rhos = np.linalg.solve(R, b).tolist()
        else:
            rhos = []
        scale = alpha_t if self.predict_x0 else sigma_t
        found = (sigma_t / sigma_s if self.predict_x0 else alpha_t / alpha_s) * x - scale * math.expm1(hh) * m[0]
        for rho, slope in zip(rhos, D, strict=True):
            found = found - scale * B * rho * slope
        return found

    def step(self, output: Tensor, time: int, x: Tensor, *, noise: Tensor | None = None) -> SchedulerOutput:
        """Corrects the step before, then predicts."""
        x_start, eps = self.start_and_noise(x, output)
        answer = x_start if self.predict_x0 else eps
        if self.last is not None and self.index - 1 not in self.disable_corrector:
            x = self.advanced(self.last, self.index - 1, self.last_order, self.outputs[::-1], answer)
        self.outputs.append(answer)
        left = len(self.times) - self.index if self.lower_order_final else self.solver_order
        order = min(self.solver_order, left, len(self.outputs))
        self.last, self.last_order = x, order
        found = self.advanced(x, self.index, order, self.outputs[::-1])
        self.index += 1
        return SchedulerOutput(found, x_start)
