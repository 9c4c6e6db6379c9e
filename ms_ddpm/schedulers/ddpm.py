"""DDPMScheduler: ancestral sampling (Ho et al., https://arxiv.org/abs/2006.11239, Algorithm 2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ..maths.schedules import posterior_row
from ..ops.elementary import exp
from .base import Array, Scheduler, SchedulerOutput, check_pair, result, stacked

SMALLEST_VARIANCE = 1e-20  # beta-tilde is 0 where the step ends at x_0, and its logarithm is taken

# The fixed variances from (beta-tilde, beta): "log" says how diffusers computes one, not another value. Its
# fixed_large_log takes the root of log(beta), which is NaN; what is meant is exp(log(beta) / 2).
FIXED: dict[str, Callable[[float, float], float]] = {
    "fixed_small": lambda small, large: small,
    "fixed_small_log": lambda small, large: small,
    "fixed_large": lambda small, large: large,
    "fixed_large_log": lambda small, large: large,
}


def _as_it_is(eps: Tensor, raw: Tensor, smallest: Tensor, largest: Tensor) -> Tensor:
    return eps


def _of_log_variance(eps: Tensor, raw: Tensor, smallest: Tensor, largest: Tensor) -> Tensor:
    return eps * exp(0.5 * raw)


def _of_range(eps: Tensor, raw: Tensor, smallest: Tensor, largest: Tensor) -> Tensor:
    fraction = (raw + 1) * 0.5
    return eps * exp(0.5 * (fraction * largest + (1 - fraction) * smallest))


# eps times the learned standard deviation, from the raw channels, log beta-tilde and log beta.
LEARNED = {"learned": _of_log_variance, "learned_range": _of_range}


def _reverse_step(variance_type: str, limit: Callable[[Tensor], Tensor]) -> Callable:
    """(output, x_t, noise, row (B or 1, 7, 1, ...)) -> (x at the next time, x_0), to be compiled.

    row: of x_t and of the output in x_0; of x_0 and of x_t in the mean; of the noise; log beta-tilde and log beta.
    """
    learned, deviate = variance_type in LEARNED, LEARNED.get(variance_type, _as_it_is)

    def step(output, sample, noise, row):
        x, eps = ops.cast(sample, ms.float32), ops.cast(noise, ms.float32)
        answer = ops.cast(output, ms.float32)
        raw = answer
        start_x, start_out, mean_start, mean_x, of_noise, smallest, largest = ops.split(row, 1, 1)
        if learned:
            answer, raw = ops.split(answer, x.shape[1], 1)
            raw = of_noise * raw  # 1, or 0 at time 0, where exp(raw) may be infinite and is not asked for
        x_start = limit(start_x * x + start_out * answer)
        prev = mean_start * x_start + mean_x * x + of_noise * deviate(eps, raw, smallest, largest)
        return ops.cast(prev, sample.dtype), ops.cast(x_start, sample.dtype)

    return step


class DDPMScheduler(Scheduler):
    """diffusers' DDPMScheduler: one step of ancestral sampling between any two times of a chain.

    Arguments, their order and their defaults are diffusers' (0.42). Samples are whatever the network works on,
    (B, C, ...); clipping makes sense for images in [-1, 1].

    Args:
        num_train_timesteps: T.
        beta_start, beta_end, beta_schedule: linear, scaled_linear, squaredcos_cap_v2, sigmoid or laplace, see
            `ms_ddpm.maths.schedules.SCHEDULER_BETAS`.
        trained_betas: (T,) betas in the place of a schedule.
        variance_type: "fixed_small" beta-tilde, "fixed_large" beta; "fixed_small_log" and "fixed_large_log" are the
            same values. "learned": the output's second half of channels is the log-variance (OpenAI's LEARNED);
            "learned_range": it is where between log beta-tilde (-1) and log beta (+1) the log-variance lies (Nichol &
            Dhariwal, https://arxiv.org/abs/2102.09672, eq. 15).
        clip_sample, clip_sample_range: x_0 is clipped to this range; not where ``thresholding``.
        prediction_type: what the network gives: "epsilon", "sample" (x_0) or "v_prediction".
        thresholding, dynamic_thresholding_ratio, sample_max_value: dynamic thresholding of x_0 (Saharia et al.,
            https://arxiv.org/abs/2205.11487), the quantile and the largest threshold.
        timestep_spacing, steps_offset: see `ms_ddpm.maths.schedules.spaced_times`.
        rescale_betas_zero_snr: the last abar becomes 0 (https://arxiv.org/abs/2305.08891).

    Raises:
        UserError: for a value that does not exist or does not fit.
    """

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Sequence[float] | np.ndarray | None = None,
        variance_type: str = "fixed_small",
        clip_sample: bool = True,
        prediction_type: str = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        clip_sample_range: float = 1.0,
        sample_max_value: float = 1.0,
        timestep_spacing: str = "leading",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
    ):
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(arguments)

    def previous_timestep(self, timestep: int | Array) -> int:
        """The time that a step from ``timestep`` leads to: the next of the chain, -1 behind the last.

        Before `set_timesteps` that is ``timestep - 1``.
        """
        time = self._time(timestep)
        return self._next_in_list(time) if self.num_inference_steps or self.custom_timesteps else time - 1

    def _row(self, time: int) -> tuple[float, float, float, float]:
        later = self.previous_timestep(time)
        return posterior_row(float(self._abar[time]), float(self._abar[later]) if later >= 0 else 1.0)

    def variance(self, timestep: int | Array) -> float:
        """The variance of the noise that a step adds, of at least 1e-20; beta-tilde where it is learned."""
        _, _, small, large = self._row(self._time(timestep))
        return FIXED.get(self.config.variance_type, FIXED["fixed_small"])(max(small, SMALLEST_VARIANCE), large)

    def step(
        self,
        model_output: Array,
        timestep: int | Array | Sequence[int],
        sample: Array,
        *,
        noise: Array | np.random.Generator | None = None,
        generator: np.random.Generator | None = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor, Tensor]:
        """One step from ``timestep`` to the next time of the chain.

        Args:
            model_output: (B, C, ...) like ``sample``, or (B, 2C, ...) where the variance is learned.
            timestep: one of `timesteps`, as int or Tensor; or (B,) of them, one for each sample.
            sample: (B, C, ...) x_t.
            noise: standard normal numbers like ``sample``, or the numpy Generator to draw them from. Needed, and used,
                unless every ``timestep`` is 0.
            generator: a numpy Generator, in the place of ``noise``.
            return_dict: a `SchedulerOutput`; False: a plain tuple.

        Returns:
            (prev_sample, pred_original_sample), like ``sample``.

        Raises:
            UserError: for shapes, times or noise that do not fit.
        """
        variance_type = self.config.variance_type
        output, x = check_pair(model_output, sample, learned=variance_type in LEARNED)
        times = self._sample_times(timestep, len(x))
        eps = x  # any finite array serves where there is no noise
        if max(times) > 0:
            eps = self._step_noise(noise, generator, x, f"the step from timestep {max(times)}")
        graph = self._graphs.made("step", _reverse_step, variance_type, self._limit)
        return result(*graph(output, x, eps, stacked([self._step_row(time) for time in times], x.ndim)), return_dict)

    def _step_row(self, time: int) -> tuple[float, ...]:
        of_start, of_x, small, large = self._row(time)
        small, variance_type = max(small, SMALLEST_VARIANCE), self.config.variance_type
        of_noise = 1.0 if variance_type in LEARNED else math.sqrt(FIXED[variance_type](small, large))
        of_noise = of_noise if time > 0 else 0.0
        return *self._start_row(time), of_start, of_x, of_noise, math.log(small), math.log(large)
