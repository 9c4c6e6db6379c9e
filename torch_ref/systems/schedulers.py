"""The schedulers of huggingface/diffusers from the papers' equations: names and arguments as there.

    DDPM   Ho et al. 2020, https://arxiv.org/abs/2006.11239          Improved  Nichol & Dhariwal 2021, arXiv 2102.09672
    DDIM   Song et al. 2020, https://arxiv.org/abs/2010.02502        Imagen    Saharia et al. 2022, arXiv 2205.11487
    Flawed Lin et al. 2023, https://arxiv.org/abs/2305.08891         v         Salimans & Ho 2022, arXiv 2202.00512

abar_t is a float64 number; samples are tensors of any floating dtype and (B, C, ...) shape. Noise is an argument.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_ref.schedules import betas_of, cosine, linear, scaled_linear


def sigmoid_betas(timesteps: int, beta_start: float, beta_end: float) -> np.ndarray:
    """GeoDiff (Xu et al. 2022, https://arxiv.org/abs/2203.02923): the betas themselves lie on a sigmoid."""
    return beta_start + (beta_end - beta_start) / (1 + np.exp(-np.linspace(-6, 6, timesteps)))


def laplace(timesteps: int) -> np.ndarray:
    """diffusers' "laplace": abar(u) = sqrt(snr / (1 + snr)), log snr = -sign(1/2 - u) log(1 - |1 - 2u| + 1e-6) / 2."""
    u = np.linspace(0, 1, timesteps + 1)
    snr = np.exp(-0.5 * np.where(u <= 0.5, 1, -1) * np.log(1 - np.abs(1 - 2 * u) + 1e-6))
    return betas_of(np.sqrt(snr / (1 + snr)))


SCHEDULER_BETAS: dict[str, Callable[[int, float, float], np.ndarray]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "squaredcos_cap_v2": lambda timesteps, start, end: cosine(timesteps),
    "sigmoid": lambda timesteps, start, end: sigmoid_betas(timesteps, start, end),
    "laplace": lambda timesteps, start, end: laplace(timesteps),
}


def zero_terminal_snr(betas: np.ndarray) -> np.ndarray:
    """Flawed, Algorithm 1: sqrt(abar) shifted to end at 0, and scaled to begin as before."""
    root = np.sqrt(np.cumprod(1 - betas))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    abar = root**2
    return 1 - np.concatenate([abar[:1], abar[1:] / abar[:-1]])


# Flawed, table 2. Python's round and numpy's both take halves to the even side.
SPACINGS: dict[str, Callable[[int, int], list[int]]] = {
    "linspace": lambda T, n: [round(t) for t in np.linspace(0, T - 1, n)][::-1],
    "leading": lambda T, n: [i * (T // n) for i in range(n)][::-1],
    "trailing": lambda T, n: [round(t) - 1 for t in np.arange(T, 0, -T / n)][:n],
}

PREDICTIONS: dict[str, Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]] = {  # (x_t, output, abar): (x_0, eps)
    "epsilon": lambda x, out, abar: ((x - math.sqrt(1 - abar) * out) / math.sqrt(abar), out),
    "sample": lambda x, out, abar: (out, (x - math.sqrt(abar) * out) / math.sqrt(1 - abar)),
    "v_prediction": lambda x, out, abar: (
        math.sqrt(abar) * x - math.sqrt(1 - abar) * out, math.sqrt(abar) * out + math.sqrt(1 - abar) * x
    ),
}  # fmt: skip

LOG_VARIANCES: dict[str, Callable[[Tensor, float, float], Tensor | float]] = {  # (raw output, beta-tilde, beta)
    "fixed_small": lambda raw, small, large: math.log(small),
    "fixed_small_log": lambda raw, small, large: math.log(small),
    "fixed_large": lambda raw, small, large: math.log(large),
    "fixed_large_log": lambda raw, small, large: math.log(large),
    "learned": lambda raw, small, large: raw,
    "learned_range": lambda raw, small, large: (  # Improved, eq. 15
        (raw + 1) / 2 * math.log(large) + (1 - raw) / 2 * math.log(small)
    ),
}


class SchedulerOutput(NamedTuple):
    """What a step gives."""

    prev_sample: Tensor
    pred_original_sample: Tensor


class Scheduler:
    """What both schedulers do. ``dtype`` is that of the tables that are shown; computation is in the sample's."""

    init_noise_sigma = 1.0

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Sequence[float] | None = None,
        clip_sample: bool = True,
        prediction_type: str = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        clip_sample_range: float = 1.0,
        sample_max_value: float = 1.0,
        timestep_spacing: str = "leading",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
        *,
        dtype: torch.dtype = torch.float32,
    ):
        betas = SCHEDULER_BETAS[beta_schedule](num_train_timesteps, beta_start, beta_end)
        betas = betas if trained_betas is None else np.asarray(trained_betas, np.float64)
        betas = zero_terminal_snr(betas) if rescale_betas_zero_snr else betas
        self.abar = np.cumprod(1 - betas)
        self.betas, self.alphas_cumprod = (torch.from_numpy(table).to(dtype) for table in (betas, self.abar))
        self.num_train_timesteps = num_train_timesteps
        self.prediction_type = prediction_type
        self.timestep_spacing = timestep_spacing
        self.steps_offset = steps_offset
        self.clip = clip_sample_range if clip_sample else math.inf
        self.thresholding = thresholding
        self.ratio = dynamic_thresholding_ratio
        self.max_value = sample_max_value
        self.num_inference_steps = None
        self.times = list(range(num_train_timesteps))[::-1]

    @property
    def timesteps(self) -> Tensor:
        """The times of the chain, descending."""
        return torch.tensor(self.times)

    def set_timesteps(self, num_inference_steps: int | None = None, *, timesteps: Sequence[int] | None = None) -> None:
        """Times by ``timestep_spacing``, or those given."""
        self.num_inference_steps = num_inference_steps
        if timesteps is not None:
            self.times = list(timesteps)
            return
        offset = self.steps_offset if self.timestep_spacing == "leading" else 0
        self.times = [
            t + offset for t in SPACINGS[self.timestep_spacing](self.num_train_timesteps, num_inference_steps)
        ]

    def following(self, time: int) -> int:
        """The next of the chain's times, -1 behind the last."""
        return [*self.times, -1][self.times.index(time) + 1]

    def set_begin_index(self, index: int) -> None:
        """The chain begins there: a step that depends on its time alone need not know."""

    def scale_model_input(self, x: Tensor, time: float) -> Tensor:
        """What the network sees: the sample."""
        return x

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """sqrt(abar) x_0 + sqrt(1 - abar) eps   (DDPM eq. 4)."""
        signal, spread = self.signal_and_noise(original_samples, timesteps)
        return signal * original_samples + spread * noise

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """sqrt(abar) eps - sqrt(1 - abar) x_0   (v, appendix D)."""
        signal, spread = self.signal_and_noise(sample, timesteps)
        return signal * noise - spread * sample

    def signal_and_noise(self, x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar) and sqrt(1 - abar) of every image's time."""
        abar = self.abar[timesteps.numpy()].reshape(-1, *[1] * (x.ndim - 1))
        return torch.from_numpy(np.sqrt(abar)).to(x), torch.from_numpy(np.sqrt(1 - abar)).to(x)

    def limit(self, x_start: Tensor) -> Tensor:
        """x_0 clipped, or thresholded: s is a quantile of |x_0|; clip to [-s, s], divide by s   (Imagen, sec. 2.3)."""
        if not self.thresholding:
            return x_start.clamp(-self.clip, self.clip)
        s = torch.quantile(x_start.flatten(1).abs(), self.ratio, dim=1).clamp(min=1).clamp(max=self.max_value)
        s = s.reshape(-1, *[1] * (x_start.ndim - 1))
        return torch.maximum(torch.minimum(x_start, s), -s) / s


class DDPMScheduler(Scheduler):
    """Ancestral sampling between any two times of the process."""

    def __init__(self, *args: object, variance_type: str = "fixed_small", **options: object):
        super().__init__(*args, **options)
        self.variance_type = variance_type

    def coefficients(self, time: int) -> tuple[float, float, float, float]:
        """Of x_0 and x_t in the mean, beta-tilde and beta, from ``time`` to the next   (DDPM eq. 7)."""
        later = self.following(time)
        abar, abar_next = self.abar[time], self.abar[later] if later >= 0 else 1.0
        alpha, beta = abar / abar_next, 1 - abar / abar_next
        of_start = math.sqrt(abar_next) * beta / (1 - abar)
        of_x = math.sqrt(alpha) * (1 - abar_next) / (1 - abar)
        return of_start, of_x, max((1 - abar_next) / (1 - abar) * beta, 1e-20), beta

    def variance(self, time: int) -> float:
        """The fixed variance of a step."""
        return math.exp(LOG_VARIANCES[self.variance_type](None, *self.coefficients(time)[2:]))

    def step(self, output: Tensor, time: int, x: Tensor, *, noise: Tensor | None = None) -> SchedulerOutput:
        """x at the next time = mean + sigma z, z = 0 at time 0   (DDPM Algorithm 2)."""
        raw = None
        if self.variance_type.startswith("learned"):
            output, raw = output.chunk(2, dim=1)
        x_start = self.limit(PREDICTIONS[self.prediction_type](x, output, self.abar[time])[0])
        of_start, of_x, small, large = self.coefficients(time)
        mean = of_start * x_start + of_x * x
        if time == 0:
            return SchedulerOutput(mean, x_start)
        log_variance = LOG_VARIANCES[self.variance_type](raw, small, large)
        return SchedulerOutput(mean + torch.exp(torch.as_tensor(0.5 * log_variance, dtype=x.dtype)) * noise, x_start)


class DDIMScheduler(Scheduler):
    """DDIM; a step leads T // n times back, or with one's own times to the next of them."""

    def __init__(self, *args: object, set_alpha_to_one: bool = True, **options: object):
        super().__init__(*args, **options)
        self.final_abar = 1.0 if set_alpha_to_one else self.abar[0]

    def variance(self, time: int, later: int) -> float:
        """sigma^2 at eta 1: (1 - abar') / (1 - abar) (1 - abar / abar')   (DDIM eq. 16)."""
        abar, abar_next = self.abar[time], self.abar[later] if later >= 0 else self.final_abar
        return (1 - abar_next) / (1 - abar) * (1 - abar / abar_next)

    def step(
        self,
        output: Tensor,
        time: int,
        x: Tensor,
        *,
        eta: float = 0.0,
        noise: Tensor | None = None,
        use_clipped_model_output: bool = False,
    ) -> SchedulerOutput:
        """sqrt(abar') x_0 + sqrt(1 - abar' - sigma^2) eps + sigma z   (DDIM eq. 12)."""
        steps = self.num_inference_steps
        later = self.following(time) if steps is None else time - self.num_train_timesteps // steps
        abar, abar_next = self.abar[time], self.abar[later] if later >= 0 else self.final_abar
        x_start, eps = PREDICTIONS[self.prediction_type](x, output, abar)
        x_start = self.limit(x_start)
        if use_clipped_model_output:
            eps = (x - math.sqrt(abar) * x_start) / math.sqrt(1 - abar)
        sigma = eta * math.sqrt(self.variance(time, later))
        x_next = math.sqrt(abar_next) * x_start + math.sqrt(max(1 - abar_next - sigma**2, 0)) * eps
        return SchedulerOutput(x_next + sigma * noise if eta else x_next, x_start)
