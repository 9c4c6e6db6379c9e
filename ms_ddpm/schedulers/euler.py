"""EulerDiscreteScheduler and EulerAncestralDiscreteScheduler (Karras et al., https://arxiv.org/abs/2206.00364)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ..arrays import float_tensor
from ..errors import UserError, quoted
from ..maths.schedules import spaced_times
from ..maths.solvers import Row, ancestral_row, beta_sigmas, euler_row, exponential_sigmas, karras_sigmas, signal_of
from .base import Array, SchedulerOutput, _numbers, check_pair, result
from .solver import X_START, SolverScheduler, Weights

SPREADS = {  # of sigmas, by the argument that asks for it
    "use_karras_sigmas": karras_sigmas,
    "use_exponential_sigmas": exponential_sigmas,
    "use_beta_sigmas": beta_sigmas,
}
MOST_CHURN = math.sqrt(2) - 1  # Karras et al., Algorithm 2


def _even_times(config: Any, steps: int) -> np.ndarray:
    """The times of ``steps`` calls; evenly spaced ones need not be whole here."""
    total = config.num_train_timesteps
    if config.timestep_spacing == "linspace":
        return np.linspace(0, total - 1, steps)[::-1].astype(np.float32)
    return np.array(spaced_times(total, steps, config.timestep_spacing, config.steps_offset), np.float32)


class _Euler(SolverScheduler):
    """What both do: samples are x_0 + sigma eps, and the network sees them divided by sqrt(1 + sigma^2)."""

    scaled = True

    @property
    def init_noise_sigma(self) -> float:
        """What the first noise is multiplied by: the largest sigma, of "leading" times sqrt(sigma^2 + 1)."""
        largest = max(self._sigmas)
        return largest if self.config.timestep_spacing in ("linspace", "trailing") else math.hypot(largest, 1)

    def scale_model_input(self, sample: Array, timestep: int | float | Array) -> Tensor:
        """``sample`` / sqrt(1 + sigma^2) of the step from ``timestep``: what the network is called with."""
        x = float_tensor(sample, "sample")
        scale = Tensor(signal_of(self._sigmas[self._position(timestep)]), ms.float32)
        return ops.cast(scale * x, x.dtype)

    def _start(self, sigma: float, churned: float, added: float) -> tuple[float, float, float]:
        """Of the sample, the output and the noise in x_0; the sample has ``added`` noise more than it is given with."""
        signal = signal_of(sigma)
        return {
            "epsilon": (1.0, -churned, added),
            "sample": (0.0, 1.0, 0.0),
            "v_prediction": (signal**2, -signal * sigma, signal**2 * added),
        }[self.config.prediction_type]

    def _stepped(
        self, output: Tensor, x: Tensor, noise: Tensor | None, place: int, start: tuple, row: Row, return_dict: bool
    ) -> SchedulerOutput | tuple[Tensor, Tensor]:
        weights = Weights(start, X_START, (1.0, 0.0), (row.of_x, *row.of_outputs, row.of_noise))
        prev, x_start, _, _ = self._run(output, x, noise, (), weights)
        self.step_index = place + 1
        return result(prev, x_start, return_dict)


class EulerDiscreteScheduler(_Euler):
    """diffusers' EulerDiscreteScheduler: Euler's method along the probability-flow ODE in sigma.

    Arguments, their order and their defaults are diffusers' (0.42); those that `DDPMScheduler` has too are described
    there.

    Args:
        interpolation_type: sigmas of times between two whole ones: "linear" in sigma; "log_linear": evenly spaced in
            log sigma between the ends of the schedule, whatever the times are.
        use_karras_sigmas: sigmas spaced as Karras et al. do (eq. 5, rho 7) between those of the first and last time.
        use_exponential_sigmas: evenly in log sigma.
        use_beta_sigmas: at the quantiles of a Beta(0.6, 0.6) (Lee et al., https://arxiv.org/abs/2407.12173).
        sigma_min, sigma_max: the ends of the three.
        timestep_type: "discrete"; "continuous": with "v_prediction" a time is log(sigma) / 4.
        final_sigmas_type: the last step ends at sigma 0 ("zero") or at that of time 0 ("sigma_min").

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
        prediction_type: str = "epsilon",
        interpolation_type: str = "linear",
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        use_beta_sigmas: bool | None = False,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        timestep_spacing: str = "linspace",
        timestep_type: str = "discrete",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
        final_sigmas_type: str = "zero",
    ):
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        asked = [name for name in SPREADS if arguments[name]]
        if len(asked) > 1:
            raise UserError(f"{' and '.join(asked[:2])} are both true, expected at most one of them")
        super().__init__(arguments)
        self._spread_by = asked[0] if asked else None

    @property
    def _continuous(self) -> bool:
        return self.config.timestep_type == "continuous" and self.config.prediction_type == "v_prediction"

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        *,
        timesteps: Sequence[float] | Array | None = None,
        sigmas: Sequence[float] | Array | None = None,
    ) -> None:
        """Chooses a chain: a number of steps, or the times themselves, or the ``sigmas`` with the one behind the last.

        ``device`` is not looked at.

        Raises UserError where not exactly one of them is given, or it does not fit.
        """
        if sum(value is not None for value in (num_inference_steps, timesteps, sigmas)) != 1:
            raise UserError(
                "set_timesteps takes num_inference_steps, timesteps or sigmas, expected exactly one of them"
            )
        config = self.config
        if sigmas is not None:
            levels = self._descending("sigmas", sigmas, 0.0, math.inf)
            if len(levels) < 2:
                raise UserError(
                    f"sigmas are {quoted(sigmas)}, expected at least two: that of a step and that of its end"
                )
            times = self._times_of(levels[:-1])
        else:
            if timesteps is None:
                times = _even_times(config, self._check_steps(num_inference_steps, len(self)))
            elif self._spread_by or self._continuous:
                raise UserError(
                    "timesteps with Karras, exponential or beta sigmas, or continuous times: these have times of "
                    "their own; give num_inference_steps"
                )
            else:
                times = self._descending("timesteps", timesteps, 0, len(self) - 1)
            levels, times = self._spread(times)
        self.num_inference_steps = len(times)
        if self._continuous:
            times = 0.25 * np.log(levels[: len(times)])
        self._set_chain(np.asarray(times, np.float64), levels)

    def _spread(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sigmas of a chain of so many steps, that behind the last too, and its times."""
        config, count = self.config, len(times)
        if config.interpolation_type == "linear":
            levels = np.interp(times, np.arange(len(self)), self._table)
        else:
            levels = exponential_sigmas(self._table[-1], self._table[0], count + 1)
        if self._spread_by:
            levels = SPREADS[self._spread_by](*self._ends(levels), count)
            times = self._times_of(levels)
        return np.append(levels, self._last_sigma()), times

    def _descending(self, name: str, given: Any, least: float, most: float) -> np.ndarray:
        values = _numbers(given)
        if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iuf":
            raise UserError(f"{name} are {quoted(given)}, expected a list of numbers")
        if not (np.diff(values) < 0).all() or not least <= values[-1] <= values[0] <= most:
            raise UserError(f"{name} are {quoted(values.tolist())}, expected descending numbers from {most} to {least}")
        return values.astype(np.float64)

    def step(
        self,
        model_output: Array,
        timestep: int | float | Array,
        sample: Array,
        *,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = math.inf,
        s_noise: float = 1.0,
        noise: Array | np.random.Generator | None = None,
        generator: np.random.Generator | None = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor, Tensor]:
        """The next step of the chain, from ``timestep``.

        Args:
            model_output: (B, C, ...) what the network makes of `scale_model_input`.
            timestep: the next of `timesteps`.
            sample: (B, C, ...) x_0 + sigma eps, not scaled.
            s_churn, s_tmin, s_tmax, s_noise: fresh noise before the step (Karras et al., Algorithm 2): how much in the
                whole chain, at which sigmas, and its standard deviation.
            noise: standard normal numbers like ``sample``, or the numpy Generator to draw them from. Needed, and used,
                where there is churn.
            generator: a numpy Generator, in the place of ``noise``.
            return_dict: a `SchedulerOutput`; False: a plain tuple.

        Returns:
            (prev_sample, pred_original_sample), like ``sample``.

        Raises:
            UserError: for shapes, times or noise that do not fit.
        """
        output, x = check_pair(model_output, sample, learned=False)
        place = self._position(timestep)
        sigma, later = self._sigmas[place : place + 2]
        for name, value in (("s_churn", s_churn), ("s_noise", s_noise)):
            if not (isinstance(value, (int, float, np.number)) and 0 <= value < math.inf):
                raise UserError(f"{name} is {quoted(value)}, expected a number of at least 0")
        gamma = min(s_churn / (len(self._sigmas) - 1), MOST_CHURN) if s_tmin <= sigma <= s_tmax else 0.0
        churned = sigma * (1 + gamma)
        added = s_noise * math.sqrt(churned**2 - sigma**2)
        eps = self._step_noise(noise, generator, x, f"a step with s_churn {s_churn:g}") if gamma > 0 else None
        row = euler_row(churned, later)._replace(of_noise=later / churned * added)
        return self._stepped(output, x, eps, place, self._start(sigma, churned, added), row, return_dict)


class EulerAncestralDiscreteScheduler(_Euler):
    """diffusers' EulerAncestralDiscreteScheduler: Euler's step too far down, and noise back up.

    Arguments, their order and their defaults are diffusers' (0.42), described at `DDPMScheduler` and
    `EulerDiscreteScheduler`; it also takes "sample" for ``prediction_type``.

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
        prediction_type: str = "epsilon",
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
    ):
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(arguments)

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Chooses a chain of so many steps, by ``timestep_spacing``. Raises UserError where they do not fit."""
        times = _even_times(self.config, self._check_steps(num_inference_steps, len(self)))
        self.num_inference_steps = len(times)
        self._set_chain(times, np.append(np.interp(times, np.arange(len(self)), self._table), 0.0))

    def step(
        self,
        model_output: Array,
        timestep: int | float | Array,
        sample: Array,
        *,
        noise: Array | np.random.Generator | None = None,
        generator: np.random.Generator | None = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor, Tensor]:
        """The next step of the chain, from ``timestep``; arguments as for `EulerDiscreteScheduler.step`.

        Noise is needed for every step but the last.
        """
        output, x = check_pair(model_output, sample, learned=False)
        place = self._position(timestep)
        sigma, later = self._sigmas[place : place + 2]
        row = ancestral_row(sigma, later)
        eps = self._step_noise(noise, generator, x, f"the step from timestep {self._times[place]}") if later else None
        return self._stepped(output, x, eps, place, self._start(sigma, sigma, 0.0), row, return_dict)
