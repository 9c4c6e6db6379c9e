"""What the two multistep solvers share: the times and noise levels of a chain whose end is no call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from ..maths.schedules import SPACINGS
from ..maths.solvers import beta_sigmas, exponential_sigmas, karras_sigmas
from .base import Array
from .solver import SolverScheduler

SPREADS = {  # of sigmas, by the argument that asks for it
    "use_karras_sigmas": karras_sigmas,
    "use_lu_lambdas": exponential_sigmas,
    "use_exponential_sigmas": exponential_sigmas,
    "use_beta_sigmas": beta_sigmas,
}
CUT = ("use_exponential_sigmas", "use_beta_sigmas")  # whose times are cut to whole ones, and not rounded


class MultistepScheduler(SolverScheduler):
    """Base of `DPMSolverMultistepScheduler` and `UniPCMultistepScheduler`."""

    ends_at_time_0 = True  # "sigma_min" is that of time 0; otherwise that of the last step, where sigmas are spread
    cut_schedules: tuple[str, ...] = ()  # whose times are cut to whole ones, not rounded, whatever the spread

    def __init__(self, arguments: Mapping[str, Any]):
        asked = [name for name in SPREADS if arguments.get(name)]
        if len(asked) > 1:
            raise UserError(f"{' and '.join(asked)} are both true, expected at most one of them")
        super().__init__(arguments)
        self._spread = asked[0] if asked else None
        self._lowest = arguments.get("lambda_min_clipped", -math.inf)

    def _first_times(self, steps: int, total: int) -> np.ndarray:
        """``steps`` times from the ``total``-th on; evenly spaced ones leave out the last of one more, time 0."""
        config = self.config
        if config.timestep_spacing == "trailing":
            gap = len(self) / steps
            times = np.round(np.arange(total, 0, -gap))[:steps] - 1
            # Of a clipped chain the last can be 0 - 1. That is no time, and behind the one before comes the end.
            times = times[times >= 0]
        else:
            times = SPACINGS[config.timestep_spacing](total, steps + 1)[:-1]
        return times.astype(np.int64) + (config.steps_offset if config.timestep_spacing == "leading" else 0)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        *,
        timesteps: Sequence[int] | Array | None = None,
    ) -> None:
        """Chooses a chain: ``num_inference_steps`` by ``timestep_spacing``, or ``timesteps`` themselves.

        ``device`` is not looked at. ``timesteps`` are whole numbers in 0 ... T-1, descending. Raises UserError for both
        or none of the two, and for times or a number of steps that do not fit.
        """
        if (num_inference_steps is None) == (timesteps is None):
            raise UserError("set_timesteps takes either num_inference_steps or timesteps, expected exactly one of them")
        config, last = self.config, self._last_sigma()
        if timesteps is not None:
            if self._spread:
                raise UserError(f"timesteps with {self._spread}, which has times of its own; give num_inference_steps")
            times = np.array(self._own_times(timesteps))
        else:
            steps = self._check_steps(num_inference_steps, len(self) - 1)
            total = int((-np.log(self._table) >= self._lowest).sum())
            if total <= steps:
                raise UserError(
                    f"lambda_min_clipped is {self._lowest}, which leaves {total} of {len(self)} times for {steps} "
                    "steps, expected more; lower it or take fewer steps"
                )
            times = self._first_times(steps, total)
        if self._spread:
            levels = SPREADS[self._spread](*self._ends(self._table[::-1]), steps)
            times = self._spread_times(levels).astype(np.int64)
            if last and not self.ends_at_time_0:
                last = float(levels[-1])
        else:
            if times[0] >= len(self):
                raise UserError(
                    f"steps_offset {config.steps_offset} with {len(times)} steps makes the first timestep {times[0]}, "
                    f"expected at most {len(self) - 1}; take fewer steps"
                )
            levels = self._table[times]
        self.num_inference_steps = len(times)
        self.custom_timesteps = timesteps is not None
        self._set_chain(times, np.append(levels, last))

    def _spread_times(self, levels: np.ndarray) -> np.ndarray:
        """Whole times: the nearest, or those before, as diffusers has it (1e-6: the first is T-1 but for rounding)."""
        times = self._times_of(levels)
        cut = self._spread in CUT or self.config.beta_schedule in self.cut_schedules
        return np.trunc(times + 1e-6) if cut else np.round(times)

    def _levels_back(self, place: int, order: int) -> list[float]:
        """The sigmas behind the step at ``place``, at it, and of the ``order`` - 1 answers before."""
        return [self._sigmas[place + 1 - i] for i in range(order + 1)]
