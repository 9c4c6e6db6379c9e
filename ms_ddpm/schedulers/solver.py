"""What the few-step schedulers share: a chain of noise levels, a place in it, what they remember, one graph for a step.

Their steps are those of `ms_ddpm.maths.solvers`: linear in the sample, the network's answers and the noise once x_0 is
limited. So each step is four rows of weights, made on the host, and one compiled graph serves every step of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ..arrays import float_tensor
from ..errors import UserError, quoted
from ..maths.solvers import sigmas_of, signal_of, times_of_sigmas
from .base import Array, Scheduler, _numbers

SMALLEST_ABAR = 2.0**-24  # of a schedule that ends in pure noise: sigma stays finite, 4096


class Weights(NamedTuple):
    """Of one step. "kept" is the network's answer as it is remembered, "base" the sample that the step begins at."""

    start: tuple[float, float, float]  # of x, the output and the noise in x_0, which is then limited
    kept: tuple[float, float, float]  # of x, the output and x_0
    base: tuple[float, ...]  # of x, kept, and each remembered array
    prev: tuple[float, ...]  # of base, kept, the noise, and each remembered array


X_START = (0.0, 0.0, 1.0)  # an answer that is remembered as x_0
OUTPUT = (0.0, 1.0, 0.0)  # or as it came


def solver_step(limit: Callable[[Tensor], Tensor]) -> Callable:
    """(output, x, noise, row, *memory) -> (x at the next time, x_0, kept, base), to be compiled; row: flat `Weights`.

    The remembered arrays are arguments of their own: MindSpore 2.10 takes a tuple of Tensors for a constant, and
    compiles anew at every call.
    """

    def step(output, sample, noise, row, *memory):
        x, output, noise = ops.cast(sample, ms.float32), ops.cast(output, ms.float32), ops.cast(noise, ms.float32)
        weights = ops.split(row, 1, 0)
        x_start = limit(weights[0] * x + weights[1] * output + weights[2] * noise)
        kept = weights[3] * x + weights[4] * output + weights[5] * x_start
        base = weights[6] * x + weights[7] * kept
        at = 8
        for array in memory:
            base = base + weights[at] * array
            at += 1
        prev = weights[at] * base + weights[at + 1] * kept + weights[at + 2] * noise
        at += 3
        for array in memory:
            prev = prev + weights[at] * array
            at += 1
        return ops.cast(prev, sample.dtype), ops.cast(x_start, sample.dtype), kept, base

    return step


class SolverScheduler(Scheduler):
    """Base of the schedulers whose chain is a list of noise levels and whose steps follow each other.

    Attributes:
        sigmas: (steps + 1,) float32 Tensor: sqrt((1 - abar) / abar) before each step and behind the last.
        step_index: how many of the chain's steps are done; None before the first.
        begin_index: where a chain begins that does not begin at its start (image to image); None: at the time of its
            first step.
    """

    scaled = False  # whether samples are x / sqrt(abar) = x_0 + sigma eps

    def __init__(self, arguments: Mapping[str, Any]):
        super().__init__(arguments)
        if self.config.get("rescale_betas_zero_snr") or self._abar[-1] == 0:
            self._abar[-1] = SMALLEST_ABAR
            self.alphas_cumprod = Tensor(self._abar.astype(np.float32))
        self._table = sigmas_of(self._abar)
        self._set_chain(np.arange(len(self) - 1, -1, -1), np.append(self._table[::-1], 0.0))

    # --- the chain -----------------------------------------------------------------------------------------------

    def _set_chain(self, times: np.ndarray, sigmas: np.ndarray) -> None:
        """Whole times stay so; others are rounded to float32, as the network will see them."""
        times = np.asarray(times)
        times = times.astype(np.int32 if times.dtype.kind in "iu" else np.float32)
        self._times, self._sigmas = times.tolist(), np.asarray(sigmas, np.float64).tolist()
        self.timesteps, self.sigmas = Tensor(times), Tensor(np.asarray(sigmas, np.float32))
        self.step_index: int | None = None
        self.begin_index: int | None = None
        self._memory: list[Tensor] = []

    def _check_steps(self, steps: Any, most: int) -> int:
        if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool) or not 1 <= steps <= most:
            raise UserError(f"num_inference_steps is {quoted(steps)}, expected 1 to {most}")
        return int(steps)

    def _last_sigma(self) -> float:
        return float(self._table[0]) if self.config.final_sigmas_type == "sigma_min" else 0.0

    def _ends(self, sigmas: np.ndarray) -> tuple[float, float]:
        """The largest and the smallest sigma of a chain between the ends of ``sigmas``, or as the config has them."""
        largest, smallest = self.config.get("sigma_max"), self.config.get("sigma_min")
        largest = float(sigmas[0] if largest is None else largest)
        smallest = float(sigmas[-1] if smallest is None else smallest)
        if smallest > largest:
            raise UserError(f"sigma_min is {smallest:g}, expected at most the largest sigma, {largest:g}")
        return largest, smallest

    def _times_of(self, sigmas: np.ndarray) -> np.ndarray:
        return times_of_sigmas(sigmas, self._table)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """The chain begins with its ``begin_index``-th step, whose time the first call must have."""
        if not isinstance(begin_index, (int, np.integer)) or not 0 <= begin_index < len(self._times):
            raise UserError(f"begin_index is {quoted(begin_index)}, expected 0 to {len(self._times) - 1}")
        self.begin_index = int(begin_index)

    def _time(self, timestep: int | float | Array) -> int | float:
        value = _numbers(timestep)
        if value.size != 1 or value.dtype.kind not in "iuf":
            raise UserError(f"timestep is {quoted(timestep)}, expected one of `timesteps`")
        return value.reshape(()).item()

    def _place(self, time: int | float) -> int:
        """Where in the chain ``time`` is; of one that is there twice the second, as in diffusers."""
        places = [i for i, other in enumerate(self._times) if np.float32(other) == np.float32(time)]
        if not places:
            near = min(self._times, key=lambda other: abs(other - time))
            raise UserError(f"timestep is {time}, which is none of `timesteps`; the nearest of them is {near}")
        return places[:2][-1]

    def _position(self, timestep: int | float | Array) -> int:
        """The step that is next, which must be the one from ``timestep``."""
        time = self._time(timestep)
        if self.num_inference_steps is None:
            raise UserError("the number of inference steps is not known yet; call set_timesteps first")
        position = self.begin_index if self.step_index is None else self.step_index
        if position is None:
            return self._place(time)
        if position >= len(self._times):
            raise UserError(f"all {len(self._times)} steps of the chain are done; call set_timesteps to begin another")
        if np.float32(time) != np.float32(self._times[position]):
            raise UserError(
                f"timestep is {time}, expected {self._times[position]}, the next of `timesteps`: each step goes on "
                "from the one before; call set_timesteps to begin anew"
            )
        return position

    # --- the forward process -------------------------------------------------------------------------------------

    def _levels(self, sample: Tensor, noise: Tensor, timesteps: Any) -> np.ndarray:
        """The sigma of each sample's time, in the chain once there is one; shaped to multiply ``sample``."""
        if self.num_inference_steps is None:
            _, _ = self._signal_and_noise(sample, noise, timesteps)  # which checks them
            found = self._table[_numbers(timesteps)]
        else:
            if sample.shape != noise.shape:
                raise UserError(f"the noise has shape {noise.shape}, expected the samples' {sample.shape}")
            times = _numbers(timesteps)
            if times.dtype.kind not in "iuf" or times.ndim > 1 or times.size not in (1, sample.shape[0]):
                raise UserError(f"timesteps are {quoted(timesteps)}, expected one of `timesteps` for each sample")
            places = [self.begin_index if self.step_index is None else self.step_index]
            if self.begin_index is None:
                places = [self._place(time) for time in times.reshape(-1).tolist()]
            found = np.array([self._sigmas[place] for place in places])
        return found.reshape(-1, *(1,) * (sample.ndim - 1))

    def add_noise(self, original_samples: Array, noise: Array, timesteps: Any) -> Tensor:
        """The samples at the noise of ``timesteps``: x_0 + sigma eps, or that times sqrt(abar) where samples are x.

        Args:
            original_samples, noise: (B, ...) of one shape.
            timesteps: (B,) of `timesteps`, or one for all samples; before `set_timesteps` whole numbers in 0 ... T-1.
                With a `begin_index` the chain's own place counts, and this is not looked at.
        """
        x_start, eps = float_tensor(original_samples, "original_samples"), float_tensor(noise, "noise")
        sigma = self._levels(x_start, eps, timesteps)
        signal = np.ones_like(sigma) if self.scaled else 1 / np.sqrt(1 + sigma**2)
        of_start, of_eps = Tensor(signal.astype(np.float32)), Tensor((signal * sigma).astype(np.float32))
        return ops.cast(of_start * x_start + of_eps * eps, x_start.dtype)

    # --- what a step needs ---------------------------------------------------------------------------------------

    def _angle(self, position: int) -> tuple[float, float]:
        """sqrt(abar) and sqrt(1 - abar) of the chain's ``position``."""
        signal = signal_of(self._sigmas[position])
        return signal, signal * self._sigmas[position]

    def _run(
        self, output: Tensor, x: Tensor, noise: Tensor | None, memory: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(x at the next time, x_0, kept, base); without noise x stands in its place, as its weights are 0."""
        row = Tensor(np.array([weight for part in weights for weight in part], np.float32))
        graph = self._graphs.made("step", solver_step, self._limit)
        return graph(output, x, x if noise is None else noise, row, *memory)


def padded(values: Sequence, count: int, filling: Any) -> list:
    """The first ``count`` of ``values``, and ``filling`` where there are fewer."""
    return [*values[:count], *[filling] * (count - len(values))]
