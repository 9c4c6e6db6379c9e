"""UniPCMultistepScheduler (Zhao et al., https://arxiv.org/abs/2302.04867)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from mindspore import Tensor

from ..errors import UserError
from ..maths.solvers import Row, preserving, unipc_row
from .base import NOISE_ROWS, START_ROWS, Array, SchedulerOutput, check_pair, result
from .config import one_of
from .multistep import MultistepScheduler
from .solver import X_START, Weights, padded


class UniPCMultistepScheduler(MultistepScheduler):
    """diffusers' UniPCMultistepScheduler: each answer first corrects the step that led to it, then predicts the next.

    Arguments, their order and their defaults are diffusers' (0.42); those that `DDPMScheduler`,
    `EulerDiscreteScheduler` or `DPMSolverMultistepScheduler` have too are described there.

    Args:
        predict_x0: x_0 is integrated; False: the noise, which needs ``final_sigmas_type`` "sigma_min", and is never
            thresholded.
        solver_type: "bh1" or "bh2": B(h) of the paper.
        lower_order_final: the last step is of order 1, the one before of order 2 at most.
        disable_corrector: the steps, counted from 0, that are not corrected.
        solver_p, use_flow_sigmas, flow_shift, use_dynamic_shifting, time_shift_type, shift_terminal:
            not here.

    Raises:
        UserError: for a value that does not exist or does not fit.
    """

    checks: ClassVar = {"solver_type": one_of(("bh1", "bh2"))}
    translated: ClassVar = {"solver_type": (("midpoint", "heun", "logrho"), "bh2")}
    ends_at_time_0 = False

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
        predict_x0: bool = True,
        solver_type: str = "bh2",
        lower_order_final: bool = True,
        disable_corrector: Sequence[int] = (),
        solver_p: None = None,
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        use_beta_sigmas: bool | None = False,
        use_flow_sigmas: bool | None = False,
        flow_shift: float | None = 1.0,
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
        final_sigmas_type: str | None = "zero",
        rescale_betas_zero_snr: bool = False,
        use_dynamic_shifting: bool = False,
        time_shift_type: str = "exponential",
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        shift_terminal: bool | None = None,
    ):
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        if isinstance(disable_corrector, tuple):
            arguments["disable_corrector"] = list(disable_corrector)
        super().__init__(arguments)
        if final_sigmas_type == "zero" and not (predict_x0 and (lower_order_final or solver_order == 1)):
            why = "lower_order_final is false" if predict_x0 else "predict_x0 is false"
            raise UserError(
                f"{why} with final_sigmas_type 'zero', which only order 1 in x_0 reaches; expected 'sigma_min'"
            )

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        *,
        timesteps: Sequence[int] | Array | None = None,
        sigmas: None = None,
    ) -> None:
        """As `DPMSolverMultistepScheduler.set_timesteps`; diffusers' class takes no ``timesteps``.

        Its ``sigmas`` are those of flow matching, which is not here: a UserError.
        """
        if sigmas is not None:
            raise UserError("sigmas of one's own are for flow matching, which is not there; give num_inference_steps")
        super().set_timesteps(num_inference_steps, device, timesteps=timesteps)
        self._last: Tensor | None = None
        self._last_order = 0

    def _correction(self, place: int, form: str) -> Row | None:
        """The row of the corrector of the step before, where there was one and it is to be corrected."""
        if self._last is None or place - 1 in self.config.disable_corrector:
            return None
        sigmas = self._levels_back(place - 1, self._last_order)
        row = unipc_row(sigmas, self._last_order, form, self.config.solver_type, corrector=True)
        return preserving(row, sigmas[1], sigmas[0])

    def step(
        self, model_output: Array, timestep: int | Array, sample: Array, *, return_dict: bool = True
    ) -> SchedulerOutput | tuple[Tensor, Tensor]:
        """The next step of the chain, from ``timestep``.

        Args:
            model_output: (B, C, ...) like ``sample``.
            timestep: the next of `timesteps`.
            sample: (B, C, ...) x_t.
            return_dict: a `SchedulerOutput`; False: a plain tuple.

        Returns:
            (prev_sample, pred_original_sample), like ``sample``.

        Raises:
            UserError: for shapes or times that do not fit.
        """
        output, x = check_pair(model_output, sample, learned=False)
        place = self._position(timestep)
        config, count = self.config, self.config.solver_order
        form = "x_start" if config.predict_x0 else "eps"
        left = len(self._times) - place if config.lower_order_final else count
        correction = self._correction(place, form)
        order = min(count, left, len(self._memory) + 1)
        sigmas = self._levels_back(place, order)
        row = preserving(unipc_row(sigmas, order, form, config.solver_type), sigmas[1], sigmas[0])
        newest, *before = padded(row.of_outputs, count + 1, 0.0)
        base = (1.0, *(0.0,) * (count + 2))
        if correction:
            base = (0.0, correction.of_outputs[0], correction.of_x, *padded(correction.of_outputs[1:], count, 0.0))
        angle = self._angle(place)
        kept_row = X_START if config.predict_x0 else (*NOISE_ROWS[config.prediction_type](*angle), 0.0)
        weights = Weights(
            (*START_ROWS[config.prediction_type](*angle), 0.0), kept_row, base,
            (row.of_x, newest, 0.0, 0.0, *before),
        )  # fmt: skip
        memory = [x if self._last is None else self._last, *padded(self._memory, count, x)]
        prev, x_start, kept, self._last = self._run(output, x, None, memory, weights)
        self._memory, self._last_order = [kept, *self._memory][:count], order
        self.step_index = place + 1
        return result(prev, x_start, return_dict)
