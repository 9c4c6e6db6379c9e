"""How large the numbers were that a result was made of.

A result that is a difference of two larger numbers carries their rounding errors, so its error is judged on the scale
of the larger operand (docs/design/verdict.md). For each method of `Diffusion` there is a function here of the same
arguments that gives, under the names of `diffusion.OUTPUTS`, the elementwise magnitude of the largest operand: of a sum
of a x and b y, max(|a x|, |b y|).

Every function reads only |arguments| and grows in proportion to them, so the operand of one step can be the argument
of the next; that is how chains of two operations are followed (x_0 from v, then eps from that x_0). Two rules more:
a value cut by the clip to [-1, 1] has lost its error, so its magnitude is 1; exp turns an absolute error of its
argument into a relative one of its result, so the result counts max(1, |operand of the argument|) times.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from .diffusion import Diffusion, used_noise

Array = np.ndarray
Magnitudes = dict[str, Array]


def _largest(*terms: ArrayLike) -> Array:
    return np.maximum.reduce(np.broadcast_arrays(*(np.abs(np.asarray(term, np.float64)) for term in terms)))


def q_sample(d: Diffusion, x_start: ArrayLike, t: ArrayLike, noise: ArrayLike) -> Magnitudes:
    """Of sqrt(abar) x_0 + sqrt(1 - abar) eps."""
    signal, spread = d.signal_and_noise(t)
    return {"x_t": _largest(signal * x_start, spread * noise)}


def predict_start_from_noise(d: Diffusion, x_t: ArrayLike, t: ArrayLike, noise: ArrayLike) -> Magnitudes:
    """Of x_t / sqrt(abar) - sqrt(1 / abar - 1) eps."""
    signal, spread = d.signal_and_noise(t)
    return {"x_start": _largest(x_t, spread * noise) / signal}


def predict_noise_from_start(d: Diffusion, x_t: ArrayLike, t: ArrayLike, x0: ArrayLike) -> Magnitudes:
    """Of (x_t / sqrt(abar) - x_0) / sqrt(1 / abar - 1)."""
    signal, spread = d.signal_and_noise(t)
    return {"noise": _largest(x_t, signal * x0) / spread}


def predict_v(d: Diffusion, x_start: ArrayLike, t: ArrayLike, noise: ArrayLike) -> Magnitudes:
    """Of sqrt(abar) eps - sqrt(1 - abar) x_0."""
    signal, spread = d.signal_and_noise(t)
    return {"v": _largest(signal * noise, spread * x_start)}


def predict_start_from_v(d: Diffusion, x_t: ArrayLike, t: ArrayLike, v: ArrayLike) -> Magnitudes:
    """Of sqrt(abar) x_t - sqrt(1 - abar) v."""
    signal, spread = d.signal_and_noise(t)
    return {"x_start": _largest(signal * x_t, spread * v)}


def q_posterior(d: Diffusion, x_start: ArrayLike, x_t: ArrayLike, t: ArrayLike) -> Magnitudes:
    """The mean is coef1 x_0 + coef2 x_t; variance and log-variance are tables, their own operands."""
    return {
        "mean": _largest(d.at("posterior_mean_coef1", t) * x_start, d.at("posterior_mean_coef2", t) * x_t),
        "variance": _largest(d.at("posterior_variance", t)),
        "log_variance": _largest(d.at("posterior_log_variance_clipped", t)),
    }


_START = {  # the operand of x_0 for each objective
    "pred_noise": lambda d, x, t, out: predict_start_from_noise(d, x, t, out)["x_start"],
    "pred_x0": lambda d, x, t, out: _largest(out),
    "pred_v": lambda d, x, t, out: predict_start_from_v(d, x, t, out)["x_start"],
}


def _start(d: Diffusion, x: ArrayLike, t: ArrayLike, out: Array, clip: bool) -> Array:
    operand = _START[d.objective](d, x, t, out)
    return np.where(np.abs(d.start(x, t, out, clip=False)) > 1, 1.0, operand) if clip else operand


def model_predictions(
    d: Diffusion,
    x: ArrayLike,
    t: ArrayLike,
    x_self_cond: ArrayLike | None = None,
    clip_x_start: bool = False,
    rederive_pred_noise: bool = False,
) -> Magnitudes:
    """x_0 from the model's output, then the noise from x_0 wherever `Diffusion` derives it."""
    out, _ = d.model_output(x, t, x_self_cond)
    x_start = _start(d, x, t, out, clip_x_start)
    if d.objective == "pred_noise" and not (clip_x_start and rederive_pred_noise):
        return {"pred_noise": _largest(out), "pred_x_start": x_start}
    return {"pred_noise": predict_noise_from_start(d, x, t, x_start)["noise"], "pred_x_start": x_start}


def p_mean_variance(
    d: Diffusion, x: ArrayLike, t: ArrayLike, x_self_cond: ArrayLike | None = None, clip_denoised: bool = True
) -> Magnitudes:
    """x_0 from the model's output, then the posterior; a learned log-variance is f log(beta) + (1 - f) log(beta~)."""
    out, v = d.model_output(x, t, x_self_cond)
    x_start = _start(d, x, t, out, clip_denoised)
    found = q_posterior(d, x_start, x, t) | {"x_start": x_start}
    if v is not None:
        f = (v + 1) / 2
        ends = np.log(d.at("betas", t)), d.at("posterior_log_variance_clipped", t)
        found["log_variance"] = _largest(f * ends[0], (1 - f) * ends[1])
        found["variance"] = np.exp(d.learned_log_variance(t, v)) * _largest(1, found["log_variance"])
    return found


def p_sample(
    d: Diffusion, x: ArrayLike, t: ArrayLike, noise: ArrayLike | None, x_self_cond: ArrayLike | None = None
) -> Magnitudes:
    """Of mean + exp(log_variance / 2) noise, the mean's operands counted in."""
    found = p_mean_variance(d, x, t, x_self_cond)
    _, _, log_variance, _ = d.p_mean_variance(x, t, x_self_cond)
    sigma = np.exp(log_variance / 2) * _largest(1, found["log_variance"] / 2)
    noise = used_noise(noise, np.asarray(t) > 0, found["mean"].shape)
    return {"x_prev": _largest(found["mean"], sigma * noise), "x_start": found["x_start"]}


def ddim_step(
    d: Diffusion,
    x: ArrayLike,
    time: ArrayLike,
    time_next: ArrayLike,
    noise: ArrayLike | None,
    eta: float,
    x_self_cond: ArrayLike | None = None,
) -> Magnitudes:
    """Of of_x0 x_0 + of_eps eps + of_noise noise, with eps as `Diffusion.ddim_step` takes it."""
    t, of_x0, of_eps, of_noise = d.ddim_plan(len(x), time, time_next, eta)
    found = model_predictions(d, x, t, x_self_cond, clip_x_start=True, rederive_pred_noise=d.rederive_pred_noise)
    noise = used_noise(noise, of_noise.reshape(-1) != 0, np.shape(x))
    x_start = found["pred_x_start"]
    x_next = _largest(of_x0 * x_start, of_eps * found["pred_noise"], of_noise * noise)
    return {"x_next": x_next, "x_start": x_start}


operands: dict[str, Callable[..., Magnitudes]] = {
    f.__name__: f
    for f in (
        q_sample, predict_start_from_noise, predict_noise_from_start, predict_v, predict_start_from_v, q_posterior,
        model_predictions, p_mean_variance, p_sample, ddim_step,
    )
}  # fmt: skip
