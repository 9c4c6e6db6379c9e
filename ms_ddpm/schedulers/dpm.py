"""DPMSolverMultistepScheduler (Lu et al., https://arxiv.org/abs/2211.01095 and https://arxiv.org/abs/2206.00927)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from mindspore import Tensor, ops

from ..errors import UserError
from ..maths.solvers import dpm_row, preserving
from .base import NOISE_ROWS, START_ROWS, Array, SchedulerOutput, check_pair, result
from .config import ALGORITHMS, VARIANCE_TYPES, one_of, or_none
from .multistep import MultistepScheduler
from .solver import X_START, Weights, padded

FEW = 15  # steps, below which the last ones are of lower order
FORMS = dict(zip(ALGORITHMS, ("x_start", "eps", "x_start_sde", "eps_sde"), strict=True))
LEARNED = ("learned", "learned_range")


class DPMSolverMultistepScheduler(MultistepScheduler):
    """diffusers' DPMSolverMultistepScheduler: DPM-Solver and DPM-Solver++, as ODE and as SDE.

    Arguments, their order and their defaults are diffusers' (0.42); those that `DDPMScheduler` or
    `EulerDiscreteScheduler` have too are described there.

    Args:
        solver_order: 1 to 3.
        algorithm_type: "dpmsolver++" and "sde-dpmsolver++" integrate x_0; "dpmsolver" and "sde-dpmsolver" the noise,
            and need ``final_sigmas_type`` "sigma_min".
        solver_type: of order 2, "midpoint" or "heun".
        lower_order_final: below 15 steps the last is of order 1, the one before of order 2 at most.
        euler_at_final: the last step is of order 1 always, as it is where it ends at sigma 0.
        use_lu_lambdas: sigmas evenly spaced in log sigma, as ``use_exponential_sigmas``; times are rounded.
        lambda_min_clipped: the chain begins no lower than this half log-SNR.
        variance_type: "learned" or "learned_range": the output's second half of channels is left out.
        use_flow_sigmas, flow_shift, use_dynamic_shifting, time_shift_type: not here.

    Raises:
        UserError: for a value that does not exist or does not fit.
    """

    cut_schedules = ("squaredcos_cap_v2",)
    checks: ClassVar = {
        "solver_type": one_of(("midpoint", "heun")),
        "variance_type": or_none(VARIANCE_TYPES),
    }
    translated: ClassVar = {
        "solver_type": (("logrho", "bh1", "bh2"), "midpoint"),
        "algorithm_type": (("deis",), "dpmsolver++"),
    }

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Sequence[float] | np.ndarray | None = None,
        solver_order: int = 2,
        prediction_type: str = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        algorithm_type: str = "dpmsolver++",
        solver_type: str = "midpoint",
        lower_order_final: bool = True,
        euler_at_final: bool = False,
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        use_beta_sigmas: bool | None = False,
        use_lu_lambdas: bool | None = False,
        use_flow_sigmas: bool | None = False,
        flow_shift: float | None = 1.0,
        final_sigmas_type: str | None = "zero",
        lambda_min_clipped: float = -math.inf,
        variance_type: str | None = None,
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
        use_dynamic_shifting: bool = False,
        time_shift_type: str = "exponential",
    ):
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(arguments)
        form = FORMS[self.config.algorithm_type]
        if form.startswith("eps") and final_sigmas_type == "zero":
            raise UserError(
                f"algorithm_type is {algorithm_type!r} with final_sigmas_type 'zero', where the noise has no weight; "
                "expected final_sigmas_type 'sigma_min'"
            )
        if form == "eps_sde" and solver_order == 3:
            raise UserError("solver_order is 3 with algorithm_type 'sde-dpmsolver', expected 1 or 2")

    def _order(self, place: int) -> int:
        config, left = self.config, len(self._times) - place
        few = config.lower_order_final and len(self._times) < FEW
        if left == 1 and (config.euler_at_final or few or config.final_sigmas_type == "zero"):
            return 1
        return min(config.solver_order, len(self._memory) + 1, 2 if left == 2 and few else 3)

    def step(
        self,
        model_output: Array,
        timestep: int | Array,
        sample: Array,
        *,
        noise: Array | np.random.Generator | None = None,
        generator: np.random.Generator | None = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor, Tensor]:
        """The next step of the chain, from ``timestep``.

        Args:
            model_output: (B, C, ...) like ``sample``, or (B, 2C, ...) where the variance is learned.
            timestep: the next of `timesteps`.
            sample: (B, C, ...) x_t.
            noise: standard normal numbers like ``sample``, or the numpy Generator to draw them from. Needed, and used,
                by the two SDE algorithms but for a step to sigma 0.
            generator: a numpy Generator, in the place of ``noise``.
            return_dict: a `SchedulerOutput`; False: a plain tuple.

        Returns:
            (prev_sample, pred_original_sample), like ``sample``.

        Raises:
            UserError: for shapes, times or noise that do not fit.
        """
        config, form = self.config, FORMS[self.config.algorithm_type]
        learned = config.variance_type in LEARNED
        output, x = check_pair(model_output, sample, learned=learned)
        if learned:
            output, _ = ops.split(output, x.shape[1], 1)
        place = self._position(timestep)
        order = self._order(place)
        sigmas = self._levels_back(place, order)
        row = preserving(dpm_row(sigmas, order, form, config.solver_type == "heun"), sigmas[1], sigmas[0])
        eps = None
        if row.of_noise:
            eps = self._step_noise(noise, generator, x, f"a step of {config.algorithm_type}")
        count = config.solver_order - 1
        newest, *before = padded(row.of_outputs, count + 1, 0.0)
        weights = Weights(
            (*START_ROWS[config.prediction_type](*self._angle(place)), 0.0), self._kept(place, form),
            (1.0, 0.0, *(0.0,) * count), (row.of_x, newest, row.of_noise, *before),
        )  # fmt: skip
        prev, x_start, kept, _ = self._run(output, x, eps, padded(self._memory, count, x), weights)
        self._memory = [kept, *self._memory][:count]
        self.step_index = place + 1
        return result(prev, x_start, return_dict)

    def _kept(self, place: int, form: str) -> tuple[float, float, float]:
        """What is remembered: x_0, or the noise, which follows from x_0 where that was thresholded."""
        signal, spread = self._angle(place)
        if not form.startswith("eps"):
            return X_START
        if self.config.thresholding:
            return 1 / spread, 0.0, -signal / spread
        return (*NOISE_ROWS[self.config.prediction_type](signal, spread), 0.0)
