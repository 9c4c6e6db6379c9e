"""PNDMScheduler: pseudo numerical methods (Liu et al., https://arxiv.org/abs/2202.09778)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mindspore import Tensor

from ..errors import UserError
from ..maths.schedules import spaced_times
from ..maths.solvers import ADAMS_BASHFORTH, HEUN, RUNGE_KUTTA, Row, preserving, transfer_row
from .base import NOISE_ROWS, START_ROWS, Array, Scheduler, SchedulerOutput, check_pair, result
from .solver import OUTPUT, SolverScheduler, Weights, padded

WARM_UP = 12  # calls: three Runge-Kutta steps of four
REMEMBERED = 3  # answers before the newest one


class PNDMScheduler(SolverScheduler):
    """diffusers' PNDMScheduler: Adams-Bashforth steps of order 4 in the noise, after some to begin with.

    Arguments, their order and their defaults are diffusers' (0.42); those that `DDPMScheduler` has too are described
    there.

    Args:
        skip_prk_steps: False: the first three steps are Runge-Kutta's, of four calls each, as in the paper: n steps
            are n + 9 calls. True: the first step is done twice, the second time with the mean of the answers at both
            of its ends, and orders 2 and 3 follow: n + 1 calls, one time twice in `timesteps`. So does Stable
            Diffusion.
        set_alpha_to_one: abar behind the last step is 1; False: that of time 0.
        prediction_type: "epsilon" or "v_prediction".

    A step from t leads to t - T // steps, as in diffusers. What a step does depends on how many calls were made since
    `set_timesteps`, not on t: image to image begins with the same first steps later in the list, as there.

    Raises:
        UserError: for a value that does not exist or does not fit.
    """

    add_noise = Scheduler.add_noise  # of any time, in the chain or not

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Sequence[float] | np.ndarray | None = None,
        skip_prk_steps: bool = False,
        set_alpha_to_one: bool = False,
        prediction_type: str = "epsilon",
        timestep_spacing: str = "leading",
        steps_offset: int = 0,
    ):
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        if prediction_type == "sample":
            raise UserError("prediction_type is 'sample', expected one of: epsilon, v_prediction")
        super().__init__(arguments)
        self._calls = 0
        self._stage: list[Tensor] = []

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Chooses a chain of so many steps, by ``timestep_spacing``; ``device`` is not looked at.

        Raises UserError where they do not fit.
        """
        config, total = self.config, len(self)
        steps = self._check_steps(num_inference_steps, total)
        times = spaced_times(total, steps, config.timestep_spacing, config.steps_offset)
        if config.skip_prk_steps:
            calls = [*times[:2], *times[1:]]
        elif steps <= REMEMBERED:
            raise UserError(f"num_inference_steps is {steps}, expected at least 4, or skip_prk_steps true")
        else:
            half = total // steps // 2
            middles = [middle for time in times[1:4] for middle in (time + half, time + half, time, time)]
            calls = [times[0], *middles[:-1], *times[3:]]
        self.num_inference_steps = steps
        self._calls, self._stage = 0, []
        self._set_chain(np.array(calls), np.append(self._table[calls], 0.0))

    def _sigma(self, time: int) -> float:
        """At a time; behind the last, negative, one the final sigma."""
        if time >= 0:
            return float(self._table[time])
        return 0.0 if self.config.set_alpha_to_one else float(self._table[0])

    def _plan(self, time: int) -> tuple[int, int, tuple[float, ...], bool]:
        """(from which time, to which, the weights of the newest answers, whether from the sample of the first call)."""
        gap = len(self) // self.num_inference_steps
        if not self.config.skip_prk_steps and self._calls < WARM_UP:
            step, stage = divmod(self._calls, 4)
            begin = self._times[4 * step]
            end = time if stage % 2 else time - gap // 2
            return begin, end, RUNGE_KUTTA if stage == 3 else (1.0,), stage > 0
        if self._calls == 1:
            return time + gap, time, HEUN, True
        return time, time - gap, ADAMS_BASHFORTH[min(len(self._memory), REMEMBERED) + 1], False

    def step(
        self, model_output: Array, timestep: int | Array, sample: Array, *, return_dict: bool = True
    ) -> SchedulerOutput | tuple[Tensor, Tensor]:
        """The next call of the chain, from ``timestep``.

        Args:
            model_output: (B, C, ...) like ``sample``.
            timestep: the next of `timesteps`.
            sample: (B, C, ...) x_t.
            return_dict: a `SchedulerOutput`; False: a plain tuple.

        Returns:
            (prev_sample, pred_original_sample), like ``sample``; the second is what this answer alone says.

        Raises:
            UserError: for shapes or times that do not fit.
        """
        output, x = check_pair(model_output, sample, learned=False)
        place = self._position(timestep)
        time = self._times[place]
        begin, end, weights, from_first = self._plan(time)
        warming = not self.config.skip_prk_steps and self._calls < WARM_UP
        past = self._stage if warming else self._memory
        sigma, later = self._sigma(begin), self._sigma(end)
        row = preserving(transfer_row(sigma, later, weights), sigma, later)
        memory = [self._first if from_first else x, *padded(past, REMEMBERED, x)]
        prev, x_start, kept, _ = self._run(output, x, None, memory, self._weights(place, begin, row, from_first))
        self._remember(kept, memory[0], warming)
        self.step_index, self._calls = place + 1, self._calls + 1
        return result(prev, x_start, return_dict)

    def _weights(self, place: int, begin: int, row: Row, from_first: bool) -> Weights:
        kind = self.config.prediction_type
        signal, spread = np.sqrt(self._abar[begin]), np.sqrt(1 - self._abar[begin])
        of_base, of_output = NOISE_ROWS[kind](signal, spread)  # eps of the sum of the answers
        newest, *before = (of_output * weight for weight in padded(row.of_outputs, REMEMBERED + 1, 0.0))
        none = (0.0,) * REMEMBERED
        return Weights(
            (*START_ROWS[kind](*self._angle(place)), 0.0), OUTPUT, (1.0 - from_first, 0.0, float(from_first), *none),
            (row.of_x + of_base * sum(row.of_outputs), newest, 0.0, 0.0, *before),
        )  # fmt: skip

    def _remember(self, kept: Tensor, first: Tensor, warming: bool) -> None:
        """The first call of each Runge-Kutta step counts for Adams and Bashforth; the second of the others does not."""
        if warming:
            stage = self._calls % 4
            self._stage = [kept, *self._stage] if stage < 3 else []
            if stage == 0:
                self._first = first
        elif self._calls == 0:
            self._first = first
        counts = self._calls % 4 == 0 if warming else self._calls != 1
        if counts:
            self._memory = [kept, *self._memory][:REMEMBERED]
