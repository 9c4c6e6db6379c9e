"""DDIMScheduler: denoising diffusion implicit models (Song et al., https://arxiv.org/abs/2010.02502, eq. 12)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ..errors import UserError, quoted
from ..maths.schedules import ddim_row
from .base import NOISE_ROWS, Array, Scheduler, SchedulerOutput, check_pair, result, stacked


def _reverse_step(rederive: bool, limit: Callable[[Tensor], Tensor]) -> Callable:
    """(output, x_t, noise, row (B or 1, 7, 1, ...)) -> (x at the next time, x_0), to be compiled.

    row: of x_t and of the output in x_0; of x_t and of the output (``rederive``: of x_0) in eps; of x_0, eps and noise
    in the result.
    """

    def step(output, sample, noise, row):
        x, output = ops.cast(sample, ms.float32), ops.cast(output, ms.float32)
        start_x, start_out, eps_x, eps_out, of_start, of_eps, of_noise = ops.split(row, 1, 1)
        x_start = limit(start_x * x + start_out * output)
        eps = eps_x * x + eps_out * (x_start if rederive else output)
        prev = of_start * x_start + of_eps * eps + of_noise * ops.cast(noise, ms.float32)
        return ops.cast(prev, sample.dtype), ops.cast(x_start, sample.dtype)

    return step


class DDIMScheduler(Scheduler):
    """diffusers' DDIMScheduler.

    Arguments, their order and their defaults are diffusers' (0.42); those that `DDPMScheduler` has too are described
    there.

    Args:
        set_alpha_to_one: abar behind the last step is 1; False: that of time 0.

    A step from t leads to t - T // steps, as in diffusers, which in "leading" spacing is the next of `timesteps`. In
    "linspace" and "trailing" it is not always (10 of 30 "trailing" steps of T = 1000 part from it by one). With
    ``timesteps`` of one's own, which diffusers' class does not take, it leads to the next of them.

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
        clip_sample: bool = True,
        set_alpha_to_one: bool = True,
        steps_offset: int = 0,
        prediction_type: str = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        clip_sample_range: float = 1.0,
        sample_max_value: float = 1.0,
        timestep_spacing: str = "leading",
        rescale_betas_zero_snr: bool = False,
    ):
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(arguments)
        self._final_abar = 1.0 if set_alpha_to_one else float(self._abar[0])

    def previous_timestep(self, timestep: int | Array) -> int:
        """The time that a step from ``timestep``, one of `timesteps`, leads to; negative behind the last."""
        time = self._time(timestep)
        if self.custom_timesteps:
            return self._next_in_list(time)
        if self.num_inference_steps is None:
            raise UserError("the number of inference steps is not known yet; call set_timesteps first")
        self._place(time)
        return time - len(self) // self.num_inference_steps

    def _abars(self, time: int, later: int) -> tuple[float, float]:
        return float(self._abar[time]), float(self._abar[later]) if later >= 0 else self._final_abar

    def variance(self, timestep: int | Array, prev_timestep: int) -> float:
        """sigma^2 at eta 1 of a step between two times (Song et al., eq. 16)."""
        return ddim_row(*self._abars(self._time(timestep), int(prev_timestep)), 1.0)[2] ** 2

    def step(
        self,
        model_output: Array,
        timestep: int | Array | Sequence[int],
        sample: Array,
        *,
        eta: float = 0.0,
        noise: Array | np.random.Generator | None = None,
        generator: np.random.Generator | None = None,
        use_clipped_model_output: bool = False,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor, Tensor]:
        """One step from ``timestep``.

        Args:
            model_output: (B, C, ...) like ``sample``.
            timestep: one of `timesteps`, as int or Tensor; or (B,) of them, one for each sample.
            sample: (B, C, ...) x_t.
            eta: 0 deterministic ... 1 as noisy as DDPM.
            noise: standard normal numbers like ``sample``, or the numpy Generator to draw them from. Needed, and used,
                where ``eta`` is not 0.
            generator: a numpy Generator, in the place of ``noise``.
            use_clipped_model_output: eps is derived again from the clipped (or thresholded) x_0, as in Glide and in
                this library's own sampler; diffusers' default keeps eps as the network gave it.
            return_dict: a `SchedulerOutput`; False: a plain tuple.

        Returns:
            (prev_sample, pred_original_sample), like ``sample``.

        Raises:
            UserError: for shapes, times, eta or noise that do not fit.
        """
        if not (isinstance(eta, (int, float, np.number)) and 0 <= eta <= 1):
            raise UserError(f"eta is {quoted(eta)}, expected 0 (deterministic) to 1 (as noisy as DDPM)")
        output, x = check_pair(model_output, sample, learned=False)
        eps = x  # any finite array serves where there is no noise
        if eta:
            eps = self._step_noise(noise, generator, x, f"a step with eta {eta:g}")
        rederive = bool(use_clipped_model_output)
        rows = [self._row(time, float(eta), rederive) for time in self._sample_times(timestep, len(x))]
        graph = self._graphs.made(rederive, _reverse_step, rederive, self._limit)
        return result(*graph(output, x, eps, stacked(rows, x.ndim)), return_dict)

    def _row(self, time: int, eta: float, rederive: bool) -> tuple[float, ...]:
        abar, abar_next = self._abars(time, self.previous_timestep(time))
        kind = "sample" if rederive else self.config.prediction_type
        of_eps = NOISE_ROWS[kind](math.sqrt(abar), math.sqrt(1 - abar))
        return *self._start_row(time), *of_eps, *ddim_row(abar, abar_next, eta)
