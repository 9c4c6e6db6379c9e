"""What the schedulers share: configuration, tables, timesteps, the forward process, x_0 from a network's output.

Symbols (Ho et al., https://arxiv.org/abs/2006.11239): x_t the sample, x_0 the image in it, eps its noise, abar_t the
table ``alphas_cumprod``. Times count from 0 to T-1; the time after the last step is -1, where abar is 1.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import constexpr

from ..arrays import float_tensor
from ..devices.runtime import OwnGraphs
from ..errors import UserError, quoted
from ..maths import schedules
from ..maths.random import normal
from ..storage.directories import folder_of, without_fetching
from . import config as configuration

Array = Tensor | np.ndarray

# What multiplies x_t and the output in x_0, and in eps, from r = sqrt(abar) and s = sqrt(1 - abar). v = r eps - s x_0
# (Salimans & Ho, https://arxiv.org/abs/2202.00512, appendix D). All are linear, so that one graph serves them.
START_ROWS: dict[str, Callable[[float, float], tuple[float, float]]] = {
    "epsilon": lambda r, s: (1 / r, -s / r),
    "sample": lambda r, s: (0.0, 1.0),
    "v_prediction": lambda r, s: (r, -s),
}
NOISE_ROWS: dict[str, Callable[[float, float], tuple[float, float]]] = {
    "epsilon": lambda r, s: (0.0, 1.0),
    "sample": lambda r, s: (1 / s, -r / s),
    "v_prediction": lambda r, s: (s, r),
}


class SchedulerOutput(NamedTuple):
    """A step's result: the sample at the next time, and the x_0 (clipped or thresholded) behind it."""

    prev_sample: Tensor
    pred_original_sample: Tensor


def _numbers(value: Any) -> np.ndarray:
    """``value`` as an array; of objects, which no check takes for numbers, where it is none (a ragged list)."""
    try:
        return value.asnumpy() if isinstance(value, Tensor) else np.asarray(value)
    except (TypeError, ValueError):
        return np.array([None])


@constexpr
def _quantile_rank(ratio: float, size: int) -> tuple[int, float]:
    """Where the quantile lies among ``size`` values: how many of the largest reach down to it, and the upper's share.

    The quantile at position p = ratio (size - 1) of the ascending values is a mean of the two around p (numpy's and
    PyTorch's "linear"). Computed on the host: in a graph p would be float32.
    """
    lower = min(math.floor(ratio * (size - 1)), size - 1)
    return size - lower, ratio * (size - 1) - lower


def _threshold(x_start: Tensor, ratio: float, most: float) -> Tensor:
    """Dynamic thresholding (Saharia et al., https://arxiv.org/abs/2205.11487, section 2.3), image by image.

    s, the ``ratio`` quantile of \\|x_0\\|, is kept within 1 ... ``most``; x_0 is clipped to [-s, s] and divided by s.
    """
    flat = x_start.reshape(x_start.shape[0], -1)
    count, share = _quantile_rank(ratio, flat.shape[1])
    largest, _ = ops.topk(ops.abs(flat), count)
    if count == 1:
        bound = largest
    else:
        two = ops.gather(largest, Tensor([count - 1, count - 2], ms.int32), 1)
        lower, upper = ops.split(two, 1, 1)
        bound = lower + share * (upper - lower)
    bound = ops.minimum(ops.maximum(bound, Tensor(1.0, ms.float32)), Tensor(most, ms.float32))
    return (ops.minimum(ops.maximum(flat, -bound), bound) / bound).reshape(x_start.shape)


def limit_of(config: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """What is done to x_0: thresholded, clipped or nothing, as a function that a graph can hold."""
    if config.get("thresholding"):
        ratio, most = float(config["dynamic_thresholding_ratio"]), float(config["sample_max_value"])

        def limit(x_start):
            return _threshold(x_start, ratio, most)

    elif config.get("clip_sample"):
        bound = float(config["clip_sample_range"])

        def limit(x_start):
            return ops.clamp(x_start, -bound, bound)

    else:

        def limit(x_start):
            return x_start

    return limit


def _betas(config: Mapping[str, Any]) -> np.ndarray:
    """(T,) float64. Raises UserError where they are no noise schedule."""
    total, given = int(config["num_train_timesteps"]), config["trained_betas"]
    if given is None:
        betas = schedules.SCHEDULER_BETAS[config["beta_schedule"]](total, config["beta_start"], config["beta_end"])
        what = f"the {config['beta_schedule']} schedule with {total} timesteps"
    else:
        try:
            betas = np.array(given, np.float64)
        except (TypeError, ValueError):
            raise UserError(f"trained_betas is {quoted(given)}, expected a list of numbers") from None
        if betas.shape != (total,):
            raise UserError(f"trained_betas has shape {betas.shape}, expected (num_train_timesteps,) = ({total},)")
        what = "trained_betas"
    inner = betas[:-1] if given is not None and betas[-1] == 1 else betas  # a last 1 is zero terminal SNR
    if not ((inner > 0) & (inner < 1)).all():
        raise UserError(f"{what}: betas from {betas.min():.4g} to {betas.max():.4g}, expected all in (0, 1)")
    if config.get("rescale_betas_zero_snr"):
        betas = schedules.zero_terminal_snr(betas)
    return betas


class Scheduler:
    """Base of all schedulers.

    Attributes:
        config: the arguments, readable as ``config.num_train_timesteps`` or ``config["num_train_timesteps"]``.
        betas, alphas, alphas_cumprod: (T,) float32 Tensors, computed in float64 and rounded once.
        timesteps: (steps,) int32 Tensor, descending; what the network is called with.
        num_inference_steps: set by `set_timesteps`; None before, and with timesteps of one's own.
        init_noise_sigma: standard deviation of x_T: 1.
    """

    order = 1
    init_noise_sigma = 1.0
    checks: ClassVar[Mapping[str, tuple[Callable[[Any], bool], str]]] = {}  # in the place of `config.CHECKS`
    # Of an argument the words of other schedulers, and what this class takes for them, as diffusers does.
    translated: ClassVar[Mapping[str, tuple[tuple[str, ...], str]]] = {}

    def __new__(cls, *args: Any, **arguments: Any) -> Scheduler:
        made = super().__new__(cls)
        made._chosen = {*list(inspect.signature(cls).parameters)[: len(args)], *arguments}
        return made

    def __init__(self, arguments: Mapping[str, Any]):
        arguments = dict(arguments)
        for name, (others, own) in self.translated.items():
            arguments[name] = own if arguments[name] in others else arguments[name]
        configuration.check(arguments, self.checks)
        betas = _betas(arguments)
        plain = {
            name: value.item() if isinstance(value, (np.number, np.bool_)) else value
            for name, value in arguments.items()
        }
        if plain["trained_betas"] is not None:
            plain["trained_betas"] = np.asarray(plain["trained_betas"], np.float64).tolist()
        self.config = configuration.FrozenConfig(plain, unchosen=set(plain) - self._chosen)
        self._abar = np.cumprod(1 - betas)
        for name, table in (("betas", betas), ("alphas", 1 - betas), ("alphas_cumprod", self._abar)):
            setattr(self, name, Tensor(table.astype(np.float32)))
        self.num_inference_steps: int | None = None
        self.custom_timesteps = False
        self._set_times(list(range(len(betas) - 1, -1, -1)))
        self._limit = limit_of(self.config)
        self._graphs = OwnGraphs()

    def __len__(self) -> int:
        return self.config.num_train_timesteps

    # --- configuration -------------------------------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: Mapping | str | Path, **arguments: Any) -> Scheduler:
        """The scheduler of a configuration: a dict (another scheduler's ``config``), a JSON file or its directory.

        ``arguments`` go before what the configuration says. What happens to names that this class does not know is
        said in `ms_ddpm.schedulers.config.split`; they stay in ``config``. Raises UserError for unreadable files and
        for values that are not what they must be.
        """
        known = tuple(inspect.signature(cls).parameters)
        unknown = sorted(set(arguments) - set(known))
        if unknown:
            raise UserError(f"{cls.__name__} has no argument {unknown[0]!r}; it takes: {', '.join(known)}")
        given, rest = configuration.split(configuration.read(config), known, cls.__name__)
        try:
            made = cls(**{**given, **arguments})
        except UserError as error:
            raise (error if isinstance(config, Mapping) else UserError(f"{config}: {error}")) from None
        made.config = configuration.FrozenConfig({**made.config, **rest}, made.config.unchosen)
        return made

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, subfolder: str | None = None, **arguments: Any) -> Scheduler:
        """The scheduler of ``directory``/``subfolder``/scheduler_config.json; ``arguments`` as for `from_config`.

        What diffusers is told about fetching files (``local_files_only``) is understood, and has no effect. Raises
        UserError where there is no such file on this machine: nothing is downloaded.
        """
        return cls.from_config(folder_of(directory, subfolder), **without_fetching(arguments))

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes scheduler_config.json into ``directory``, as `from_pretrained` and diffusers read it."""
        configuration.write(directory, type(self).__name__, self.config)

    # --- times ---------------------------------------------------------------------------------------------------

    def _set_times(self, times: list[int]) -> None:
        self._times = times
        self.timesteps = Tensor(np.array(times, np.int32))

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        *,
        timesteps: Sequence[int] | Array | None = None,
    ) -> None:
        """Chooses the times of a chain: ``num_inference_steps`` by ``timestep_spacing``, or ``timesteps`` themselves.

        ``device`` is what loops for PyTorch give, and not looked at: arrays are where MindSpore computes. ``timesteps``
        are whole numbers in 0 ... T-1, descending. Raises UserError for both or none of the two, and for times or a
        number of steps that do not fit.
        """
        if (num_inference_steps is None) == (timesteps is None):
            raise UserError("set_timesteps takes either num_inference_steps or timesteps, expected exactly one of them")
        total = len(self)
        if timesteps is None:
            if not isinstance(num_inference_steps, (int, np.integer)) or isinstance(num_inference_steps, bool):
                raise UserError(f"num_inference_steps is {quoted(num_inference_steps)}, expected 1 to {total}")
            steps = int(num_inference_steps)
            times = schedules.spaced_times(total, steps, self.config.timestep_spacing, self.config.steps_offset)
        else:
            steps, times = None, self._own_times(timesteps)
        self.num_inference_steps = steps
        self.custom_timesteps = steps is None
        self._set_times(times)

    def _own_times(self, timesteps: Sequence[int] | Array) -> list[int]:
        values = _numbers(timesteps)
        if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iu":
            raise UserError(f"timesteps are {quoted(timesteps)}, expected a list of whole numbers")
        times = values.tolist()
        for before, after in pairwise(times):
            if after >= before:
                raise UserError(f"timesteps has {after} after {before}, expected descending order")
        for time in (times[0], times[-1]):
            if not 0 <= time < len(self):
                raise UserError(f"timesteps has {time}, expected 0 to {len(self) - 1}")
        return times

    def _time(self, timestep: int | Array) -> int:
        """One time as a Python int, in 0 ... T-1."""
        value = _numbers(timestep)
        if value.size != 1 or value.dtype.kind not in "iu" or not 0 <= int(value.reshape(())) < len(self):
            raise UserError(f"timestep is {quoted(timestep)}, expected one whole number from 0 to {len(self) - 1}")
        return int(value.reshape(()))

    def _sample_times(self, timestep: int | Array | Sequence[int], count: int) -> list[int]:
        """The time of each of ``count`` samples, or one for all; whole numbers in 0 ... T-1."""
        values = _numbers(timestep)
        if values.ndim > 1 or values.size != count or values.dtype.kind not in "iu":
            return [self._time(timestep)]
        return [self._time(value) for value in values.reshape(-1)]

    def _place(self, time: int) -> int:
        """Where in the chain ``time`` is."""
        if time not in self._times:
            near = min(self._times, key=lambda other: abs(other - time))
            raise UserError(f"timestep is {time}, which is none of `timesteps`; the nearest of them is {near}")
        return self._times.index(time)

    def _next_in_list(self, time: int) -> int:
        """The time after ``time`` in the chain, -1 behind the last."""
        return [*self._times, -1][self._place(time) + 1]

    # --- the forward process -------------------------------------------------------------------------------------

    def scale_model_input(self, sample: Tensor, timestep: int | Array | None = None) -> Tensor:
        """``sample`` as it is; here for loops that serve schedulers which scale."""
        return sample

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Nothing: a step depends on its time alone; here for loops that serve schedulers which keep their place."""

    def _signal_and_noise(self, sample: Tensor, noise: Tensor, timesteps: Any) -> tuple[Tensor, Tensor]:
        """sqrt(abar) and sqrt(1 - abar) of each image's time, shaped to multiply ``sample``."""
        if sample.shape != noise.shape:
            raise UserError(f"the noise has shape {noise.shape}, expected the samples' {sample.shape}")
        times = _numbers(timesteps)
        if times.dtype.kind not in "iu" or times.ndim > 1 or times.size not in (1, sample.shape[0]):
            raise UserError(
                f"timesteps are {quoted(timesteps)} of shape {times.shape}, expected whole numbers of shape "
                f"({sample.shape[0]},), one per sample, or one for all"
            )
        outside = times[(times < 0) | (times >= len(self))]
        if outside.size:
            raise UserError(f"timesteps has {outside.flat[0]}, expected 0 to {len(self) - 1}")
        abar = self._abar[times].reshape(-1, *(1,) * (sample.ndim - 1))
        return Tensor(np.sqrt(abar).astype(np.float32)), Tensor(np.sqrt(1 - abar).astype(np.float32))

    def add_noise(self, original_samples: Array, noise: Array, timesteps: Any) -> Tensor:
        """x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps (Ho et al., eq. 4).

        Args:
            original_samples, noise: (B, ...) of one shape.
            timesteps: (B,) whole numbers in 0 ... T-1 (Tensor, array or list), or one for all samples.
        """
        x_start, eps = float_tensor(original_samples, "original_samples"), float_tensor(noise, "noise")
        signal, spread = self._signal_and_noise(x_start, eps, timesteps)
        return ops.cast(signal * x_start + spread * eps, x_start.dtype)

    def get_velocity(self, sample: Array, noise: Array, timesteps: Any) -> Tensor:
        """v = sqrt(abar) eps - sqrt(1 - abar) x_0, the target of "v_prediction"; arguments as for `add_noise`."""
        x_start, eps = float_tensor(sample, "sample"), float_tensor(noise, "noise")
        signal, spread = self._signal_and_noise(x_start, eps, timesteps)
        return ops.cast(signal * eps - spread * x_start, x_start.dtype)

    # --- what a step needs ---------------------------------------------------------------------------------------

    def _start_row(self, time: int) -> tuple[float, float]:
        """What multiplies x_t and the network's output in x_0."""
        abar, kind = float(self._abar[time]), self.config.prediction_type
        if abar == 0 and kind == "epsilon":
            raise UserError(
                f"at timestep {time} the sample is pure noise (zero terminal SNR), and predicted noise says nothing "
                "of x_0; set prediction_type to v_prediction or sample, or take another timestep_spacing"
            )
        return START_ROWS[kind](math.sqrt(abar), math.sqrt(1 - abar))

    def _step_noise(self, noise: Any, generator: np.random.Generator | None, sample: Tensor, why: str) -> Tensor:
        """The noise of a step that adds some, as a Tensor like ``sample``.

        ``noise`` may be what gives it by its shape and what it is for, for those who draw it only where it is needed.
        """
        if generator is not None:
            if noise is not None:
                raise UserError("a step was given both noise and generator, expected one of them")
            if not isinstance(generator, np.random.Generator):
                raise UserError(
                    f"generator is {described_type(generator)}, expected a numpy Generator; make one with "
                    "numpy.random.default_rng(seed)"
                )
            noise = generator
        if isinstance(noise, np.random.Generator):
            return Tensor(normal(noise, sample.shape))
        if callable(noise):
            noise = noise(tuple(sample.shape), why)
        if noise is None:
            raise UserError(f"{why} adds noise, and none was given; give noise= an array or a numpy Generator")
        found = float_tensor(noise, "noise")
        if found.shape != sample.shape:
            raise UserError(f"noise has shape {found.shape}, expected the sample's {sample.shape}")
        return found


def stacked(rows: Sequence[Sequence[float]], ndim: int) -> Tensor:
    """The rows (n,) of each sample's step, or one for all, as (B or 1, n, 1, ...), to be split along axis 1."""
    return Tensor(np.array(rows, np.float32).reshape(len(rows), -1, *(1,) * (ndim - 2)))


def described_type(value: Any) -> str:
    """The module and name of the type of ``value``."""
    return f"a {type(value).__module__}.{type(value).__qualname__}"


def result(prev: Tensor, x_start: Tensor, return_dict: bool) -> SchedulerOutput | tuple[Tensor, Tensor]:
    """Both as a `SchedulerOutput`, or (not ``return_dict``) as a plain tuple."""
    return SchedulerOutput(prev, x_start) if return_dict else (prev, x_start)


def check_pair(model_output: Array, sample: Array, learned: bool) -> tuple[Tensor, Tensor]:
    """Both as Tensors of fitting shapes: equal, or with a learned variance twice the channels in the output."""
    output, x = float_tensor(model_output, "model_output"), float_tensor(sample, "sample")
    if x.ndim < 2:
        raise UserError(f"sample has shape {x.shape}, expected (B, C, ...)")
    expected = (x.shape[0], 2 * x.shape[1], *x.shape[2:]) if learned else x.shape
    if tuple(output.shape) != tuple(expected):
        why = ", twice the sample's channels as the variance is learned" if learned else ", the sample's"
        raise UserError(f"model_output has shape {tuple(output.shape)}, expected {tuple(expected)}{why}")
    return output, x
