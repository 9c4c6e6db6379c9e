"""Diffusion with a model: one reverse step of DDPM and DDIM, the losses, and the chains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from . import schedules
from .bound import discretized_gaussian_log_likelihood, normal_kl
from .process import Process, as_float64

Array = np.ndarray


class ModelPrediction(NamedTuple):
    """The noise and the image that a model believes in."""

    pred_noise: Array
    pred_x_start: Array


OUTPUTS = {  # what each method returns, in order; `operands` gives magnitudes under the same names
    "q_sample": ("x_t",),
    "predict_start_from_noise": ("x_start",),
    "predict_noise_from_start": ("noise",),
    "predict_v": ("v",),
    "predict_start_from_v": ("x_start",),
    "q_posterior": ("mean", "variance", "log_variance"),
    "model_predictions": ("pred_noise", "pred_x_start"),
    "p_mean_variance": ("mean", "variance", "log_variance", "x_start"),
    "p_sample": ("x_prev", "x_start"),
    "ddim_step": ("x_next", "x_start"),
}

STARTS = {  # x_0 from the model's output, by objective
    "pred_noise": Process.predict_start_from_noise,
    "pred_x0": lambda process, x_t, t, out: out,
    "pred_v": Process.predict_start_from_v,
}

LOSSES = {"l1": np.abs, "l2": np.square}

VARIATIONAL_WEIGHT = 0.001  # IDDPM sec. 3.4: L_hybrid = L_simple + 0.001 L_vlb


def used_noise(noise: ArrayLike | None, used: Array, shape: tuple[int, ...]) -> Array:
    """``noise`` with zeros (whatever stood there, NaN too) for the images (B,) that do not use it; None if none do."""
    if noise is None:
        if used.any():
            raise ValueError("this step adds noise, and none was given")
        return np.zeros(shape)
    if np.shape(noise) != tuple(shape):
        raise ValueError(f"noise has shape {np.shape(noise)}, the images {tuple(shape)}")
    return np.where(used.reshape(-1, 1, 1, 1), as_float64(noise), 0.0)


def _take(tape: Iterator) -> Array:
    try:
        return as_float64(next(tape))
    except StopIteration:
        raise ValueError("the noise tape ran dry") from None


class Diffusion(Process):
    """`ms_ddpm.GaussianDiffusion` in float64: the same keywords, the same methods, arrays in and out.

    Args:
        model: called as ``model(x, t, x_self_cond)`` with x (B, C, H, W), t (B,) int64 and x_self_cond like x or None;
            gives (B, out_dim, H, W). Has ``channels`` (C), ``out_dim`` and ``self_condition``. Where out_dim is 2C
            the variance is learned: the first C channels predict the objective, the others the variance.
        immiscible: accepted and without effect here, as the assignment is made where noise is drawn.

    ``tables`` holds the (T,) tables of `schedules.tables` and ``loss_weight``. Images are in [-1, 1] except in
    `loss`, `sample`, the chains and `interpolate`. Noise of a chain comes from a tape: x_T, then an array for every
    reverse step but the last.
    """

    def __init__(
        self,
        model: Callable,
        *,
        image_size: int | tuple[int, int],
        timesteps: int = 1000,
        sampling_timesteps: int | None = None,
        objective: str = "pred_v",
        beta_schedule: str = "sigmoid",
        schedule_fn_kwargs: dict | None = None,
        loss_type: str = "l2",
        ddim_sampling_eta: float = 0.0,
        rederive_pred_noise: bool = True,
        auto_normalize: bool = True,
        offset_noise_strength: float = 0.0,
        min_snr_loss_weight: bool = False,
        min_snr_gamma: float = 5,
        p2_loss_weight_gamma: float = 0.0,
        p2_loss_weight_k: float = 1,
        immiscible: bool = False,
    ):
        if objective not in STARTS or loss_type not in LOSSES:
            raise ValueError(f"unknown objective or loss: {objective}, {loss_type}")
        self.model = model
        self.image_size = image_size
        self.sampling_timesteps = timesteps if sampling_timesteps is None else sampling_timesteps
        self.objective = objective
        self.loss_type = loss_type
        self.ddim_sampling_eta = ddim_sampling_eta
        self.rederive_pred_noise = rederive_pred_noise
        self.auto_normalize = auto_normalize
        self.offset_noise_strength = offset_noise_strength
        self.learned_variance = model.out_dim == 2 * model.channels
        super().__init__(schedules.beta_schedule(beta_schedule, timesteps, **(schedule_fn_kwargs or {})))
        self.tables["loss_weight"] = schedules.loss_weight(
            self.tables["alphas_cumprod"], objective, min_snr_loss_weight, min_snr_gamma, p2_loss_weight_gamma,
            p2_loss_weight_k,
        )  # fmt: skip

    def model_output(
        self, x: ArrayLike, t: ArrayLike, x_self_cond: ArrayLike | None = None
    ) -> tuple[Array, Array | None]:
        """What the model says of the objective, and of the variance (None where that is not learned): (B, C, H, W)."""
        x, t = as_float64(x), np.asarray(t)
        out = as_float64(self.model(x, t, x_self_cond))
        if out.shape != (x.shape[0], self.model.out_dim, *x.shape[2:]):
            raise ValueError(f"the model gave {out.shape} for {x.shape} and out_dim {self.model.out_dim}")
        channels = self.model.channels
        return (out[:, :channels], out[:, channels:]) if self.learned_variance else (out, None)

    def start(self, x: ArrayLike, t: ArrayLike, out: Array, clip: bool) -> Array:
        """x_0 (B, C, H, W) from the model's output for the objective, cut to [-1, 1] where ``clip``."""
        x_start = STARTS[self.objective](self, x, t, out)
        return np.clip(x_start, -1, 1) if clip else x_start

    def model_predictions(
        self,
        x: ArrayLike,
        t: ArrayLike,
        x_self_cond: ArrayLike | None = None,
        clip_x_start: bool = False,
        rederive_pred_noise: bool = False,
    ) -> ModelPrediction:
        """The noise and the image that the model's output stands for.

        The noise follows from the (clipped) image, except where the objective is the noise itself: then only with
        both ``clip_x_start`` and ``rederive_pred_noise``.
        """
        out, _ = self.model_output(x, t, x_self_cond)
        x_start = self.start(x, t, out, clip_x_start)
        if self.objective == "pred_noise" and not (clip_x_start and rederive_pred_noise):
            return ModelPrediction(out, x_start)
        return ModelPrediction(self.predict_noise_from_start(x, t, x_start), x_start)

    def learned_log_variance(self, t: ArrayLike, v: Array) -> Array:
        """log-variance = f log(beta) + (1 - f) log(beta~), f = (v + 1) / 2, beta~ not below 1e-20; IDDPM eq. 15."""
        f = (v + 1) / 2
        return f * np.log(self.at("betas", t)) + (1 - f) * self.at("posterior_log_variance_clipped", t)

    def p_mean_variance(
        self, x: ArrayLike, t: ArrayLike, x_self_cond: ArrayLike | None = None, clip_denoised: bool = True
    ) -> tuple[Array, Array, Array, Array]:
        """(mean, variance, log-variance, x_start) of p(x_{t-1} | x_t): the posterior at the predicted x_0; DDPM eq. 11.

        The variance is beta~ (B, 1, 1, 1), or the learned one (B, C, H, W).
        """
        out, v = self.model_output(x, t, x_self_cond)
        x_start = self.start(x, t, out, clip_denoised)
        mean, variance, log_variance = self.q_posterior(x_start, x, t)
        if v is not None:
            log_variance = self.learned_log_variance(t, v)
            variance = np.exp(log_variance)
        return mean, variance, log_variance, x_start

    def p_sample(
        self, x: ArrayLike, t: ArrayLike, noise: ArrayLike | None, x_self_cond: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """(x_{t-1}, x_start) by DDPM Algorithm 2, x_0 clipped; ``noise`` is ignored for the images with t = 0."""
        mean, _, log_variance, x_start = self.p_mean_variance(x, t, x_self_cond)
        return mean + np.exp(log_variance / 2) * used_noise(noise, np.asarray(t) > 0, mean.shape), x_start

    def ddim_plan(self, count: int, time: ArrayLike, time_next: ArrayLike, eta: float) -> tuple[Array, ...]:
        """t (B,) and (B, 1, 1, 1) each of_x0, of_eps, of_noise (`schedules.ddim_coefficients`) for ``count`` images."""
        t, later = (np.broadcast_to(np.asarray(a), (count,)) for a in (time, time_next))
        factors = schedules.ddim_coefficients(self.tables["alphas_cumprod"], t, later, eta)
        return t, *(f.reshape(-1, 1, 1, 1) for f in factors)

    def ddim_step(
        self,
        x: ArrayLike,
        time: ArrayLike,
        time_next: ArrayLike,
        noise: ArrayLike | None,
        eta: float,
        x_self_cond: ArrayLike | None = None,
    ) -> tuple[Array, Array]:
        """(x at time_next, x_start) by DDIM eq. 12; x_0 is clipped, eps re-derived from it if ``rederive_pred_noise``.

        ``time`` and ``time_next``: int or (B,); at time_next < 0 the coefficients are 1, 0, 0, so x_start comes out.
        ``noise`` may be None where its coefficient is zero.
        """
        x = as_float64(x)
        t, of_x0, of_eps, of_noise = self.ddim_plan(len(x), time, time_next, eta)
        eps, x_start = self.model_predictions(
            x, t, x_self_cond, clip_x_start=True, rederive_pred_noise=self.rederive_pred_noise
        )
        noise = used_noise(noise, of_noise.reshape(-1) != 0, x.shape)
        return of_x0 * x_start + of_eps * eps + of_noise * noise, x_start

    def variational_bound(
        self, x_start: ArrayLike, x_t: ArrayLike, t: ArrayLike, out: Array, v: Array, clip_denoised: bool = False
    ) -> Array:
        """The term (B,) of the bound at ``t``, mean over the image, in bits; IDDPM sec. 3.4 and its code.

        KL(q(x_{t-1} | x_t, x_0) || p), at t = 0 the discretised decoder -log p(x_0 | x_1). No gradient flows through
        the mean. ``out``, ``v``: the two halves of the model's output; x_0 of the mean is not clipped unless asked.
        """
        true_mean, _, true_log_variance = self.q_posterior(x_start, x_t, t)
        mean, _, _ = self.q_posterior(self.start(x_t, t, out, clip_denoised), x_t, t)
        log_variance = self.learned_log_variance(t, v)
        kl = normal_kl(true_mean, true_log_variance, mean, log_variance).mean((1, 2, 3))
        decoder = -discretized_gaussian_log_likelihood(x_start, mean, log_variance / 2).mean((1, 2, 3))
        return np.where(np.asarray(t) == 0, decoder, kl) / np.log(2)

    def p_losses(
        self,
        x_start: ArrayLike,
        t: ArrayLike,
        noise: ArrayLike,
        self_cond: bool = False,
        offset_noise: ArrayLike | None = None,
    ) -> float:
        """DDPM eq. 14 with weights: mean over each image, times loss_weight[t], mean over the batch.

        ``self_cond``: the step's coin; where heads (and the model self-conditions) the model first predicts x_0, not
        clipped, which no gradient flows through (BIT sec. 3.2). ``offset_noise`` (B, C), times its strength, is added
        to the noise of every pixel; None is none. A learned variance adds 0.001 times `variational_bound`.
        """
        x_start, noise = as_float64(x_start), as_float64(noise)
        if offset_noise is not None:
            noise = noise + self.offset_noise_strength * as_float64(offset_noise).reshape(*noise.shape[:2], 1, 1)
        x_t = self.q_sample(x_start, t, noise)
        before = None
        if self_cond and self.model.self_condition:
            before = self.model_predictions(x_t, t).pred_x_start
        out, v = self.model_output(x_t, t, before)
        targets = {
            "pred_noise": noise,
            "pred_x0": x_start,
            "pred_v": self.predict_v(x_start, t, noise),
        }
        error = LOSSES[self.loss_type](out - targets[self.objective]).mean((1, 2, 3))
        simple = error * self.tables["loss_weight"][np.asarray(t)]
        bound = self.variational_bound(x_start, x_t, t, out, v).mean() if v is not None else 0.0
        return float(simple.mean() + VARIATIONAL_WEIGHT * bound)

    def normalize(self, img: ArrayLike) -> Array:
        """[0, 1] -> [-1, 1], if auto_normalize."""
        return as_float64(img) * 2 - 1 if self.auto_normalize else as_float64(img)

    def unnormalize(self, x: ArrayLike) -> Array:
        """[-1, 1] -> [0, 1], if auto_normalize."""
        return (as_float64(x) + 1) / 2 if self.auto_normalize else as_float64(x)

    def loss(
        self,
        img: ArrayLike,
        t: ArrayLike,
        noise: ArrayLike,
        self_cond: bool = False,
        offset_noise: ArrayLike | None = None,
    ) -> float:
        """`p_losses` of images in [0, 1], as `construct` takes them."""
        return self.p_losses(self.normalize(img), t, noise, self_cond, offset_noise)

    def _reverse(self, x: Array, start: int, tape: Iterator) -> Iterator[Array]:
        """The images after each of the DDPM steps start-1 ... 0."""
        x_start = None
        for step in reversed(range(start)):
            t = np.full(len(x), step)
            condition = x_start if self.model.self_condition else None
            x, x_start = self.p_sample(x, t, _take(tape) if step > 0 else None, condition)
            yield x

    def _result(self, frames: list[Array], return_all_timesteps: bool) -> Array:
        return self.unnormalize(np.stack(frames, axis=1) if return_all_timesteps else frames[-1])

    def ddpm_chain(self, tape: Iterable[ArrayLike], return_all_timesteps: bool = False) -> Array:
        """DDPM Algorithm 2 from ``tape`` (x_T, then T-1 arrays): images in [0, 1], (B, C, H, W).

        ``return_all_timesteps``: (B, T+1, C, H, W), x_T first.
        """
        tape = iter(tape)
        x_T = _take(tape)
        return self._result([x_T, *self._reverse(x_T, self.num_timesteps, tape)], return_all_timesteps)

    def ddim_chain(
        self,
        tape: Iterable[ArrayLike],
        steps: int | None = None,
        eta: float | None = None,
        return_all_timesteps: bool = False,
    ) -> Array:
        """DDIM in ``steps`` steps from ``tape`` (x_T, then steps-1 arrays whatever eta is): shaped as `ddpm_chain`.

        ``steps`` and ``eta`` default to sampling_timesteps and ddim_sampling_eta.
        """
        eta = self.ddim_sampling_eta if eta is None else eta
        tape = iter(tape)
        x, x_start = _take(tape), None
        frames = [x]
        times = schedules.ddim_times(self.num_timesteps, self.sampling_timesteps if steps is None else steps)
        for time, time_next in pairwise(times):
            condition = x_start if self.model.self_condition else None
            x, x_start = self.ddim_step(x, time, time_next, _take(tape) if time_next >= 0 else None, eta, condition)
            frames.append(x)
        return self._result(frames, return_all_timesteps)

    def sample(self, *, noise: Iterable[ArrayLike], return_all_timesteps: bool = False) -> Array:
        """The DDIM chain exactly when sampling_timesteps < timesteps, else the DDPM chain."""
        chain = self.ddim_chain if self.sampling_timesteps < self.num_timesteps else self.ddpm_chain
        return chain(noise, return_all_timesteps=return_all_timesteps)

    def interpolate(
        self, x1: ArrayLike, x2: ArrayLike, t: int | None = None, lam: float = 0.5, *, noise: Iterable[ArrayLike]
    ) -> Array:
        """DDPM sec. 4.4: q_sample both images (in [0, 1]) to ``t`` (default T-1), mix, then steps t-1 ... 0.

        ``noise`` is a tape: that of x1, that of x2, then one array for every step but the last.
        """
        tape = iter(noise)
        start = self.num_timesteps - 1 if t is None else t
        at = np.full(len(x1), start)
        x1_t, x2_t = (self.q_sample(self.normalize(x), at, _take(tape)) for x in (x1, x2))
        mixed = (1 - lam) * x1_t + lam * x2_t
        return self._result([mixed, *self._reverse(mixed, start, tape)], return_all_timesteps=False)
