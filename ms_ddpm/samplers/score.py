"""Samplers of score models: from noise at t = 1 back to t = eps, by the reverse SDE or the probability-flow ODE.

``sampler(model, batch_size, *, ..., **request)`` gives images (B, C, H, W) around [0, 1], not clipped. All take

    labels: the class of each image, (B,) or one for all; default: image i gets class i mod num_classes.
    guidance_scale: s of score = s_none + s (s_class - s_none); default: the model's.
    eps: the time of the last call of the network; default: the model's ``sampling_eps``.
    denoise: end with x_0's expected value (x + std^2 score) / coeff (Tweedie's formula; Jolicoeur-Martineau et al.,
        https://arxiv.org/abs/2009.05475). Default: the model's, False if nothing was said: what the score article
        (docs/systems.md) does, see `euler`.
    seed, noise, first_image: the random numbers. ``noise`` is a tape: anything that yields arrays of the sample's
        shape, first the noise that x_1 is made of, then what each sampler says. Without it every image draws from a
        stream of its own, named by ``seed`` and its index, so image 7 of seed 0 is the same whatever the batch size.
    return_all_timesteps: the chain (B, states, C, H, W), x_1 first; progress: a bar.

Song et al., "Score-based generative modeling through SDEs", https://arxiv.org/abs/2011.13456. Coefficients that depend
on time alone are made on the host in float64; each step is one compiled graph of fixed shapes.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from mindspore import Tensor, ops

from .errors import UserError, quoted
from .score_request import Run, begin, check_request

if TYPE_CHECKING:
    from .score import ScoreModel


# --- the steps, made around score(x, t, y, scale); a row holds a step's numbers ----------------------------------


def euler_step(score: Callable) -> Callable:
    """row (3,): of_x x + of_score score + of_noise noise."""

    def step(x, t, y, scale, row, noise):
        of_x, of_score, of_noise = ops.split(row, 1, 0)
        return of_x * x + of_score * score(x, t, y, scale) + of_noise * noise

    return step


def _image_norm(x):
    return ops.sqrt((x * x).sum(axis=(1, 2, 3), keepdims=True))


def _batch_norm(x):
    return _image_norm(x).mean()


def _corrected_step(norm: Callable) -> Callable:
    def pc_step(score: Callable) -> Callable:
        predictor = euler_step(score)

        def step(x, t, y, scale, row, correction, corrector_noise, noise):
            g = score(x, t, y, scale)
            ratio = norm(corrector_noise) / norm(g)
            size = correction * ratio * ratio
            x = x + size * g + ops.sqrt(2 * size) * corrector_noise
            return predictor(x, t, y, scale, row, noise)

        return step

    return pc_step


CORRECTOR_NORMS = {"image": _corrected_step(_image_norm), "batch": _corrected_step(_batch_norm)}


def heun_step(score: Callable) -> Callable:
    """row (5,): the ODE's numbers of x and score at both ends, and the time between them."""

    def step(x, t, y, scale, t_next, row):
        of_x, of_score, of_x_next, of_score_next, dt = ops.split(row, 1, 0)
        slope = of_x * x + of_score * score(x, t, y, scale)
        guess = x - dt * slope
        slope_next = of_x_next * guess + of_score_next * score(guess, t_next, y, scale)
        return x - 0.5 * dt * (slope + slope_next)

    return step


def plain_score(score: Callable) -> Callable:
    """The score itself."""
    return score


# --- their numbers -----------------------------------------------------------------------------------------------


def _row(*numbers: float) -> Tensor:
    return Tensor(np.array(numbers, np.float64).astype(np.float32))


def reverse_times(steps: int, eps: float) -> np.ndarray:
    """The times of ``steps`` calls of the network, float64: linspace(1, eps, steps)."""
    return np.linspace(1.0, eps, steps)


def reverse_row(sde, time: float, dt: float, noise: bool) -> tuple[float, float, float]:
    """What multiplies x, score and noise in x - (f(x, t) - g^2 score) dt + g sqrt(dt) z (Song et al., eq. 6)."""
    g = float(sde.diffusion_coeff(time))
    return 1 - float(sde.drift_coeff(time)) * dt, g**2 * dt, g * dt**0.5 if noise else 0.0


def denoising_row(sde, time: float) -> tuple[float, float, float]:
    """The same for x_0's expected value, (x + std^2 score) / coeff."""
    coeff, std = float(sde.marginal_prob_coeff(time)), float(sde.marginal_prob_std(time))
    return 1 / coeff, std**2 / coeff, 0.0


def reverse_rows(sde, times: np.ndarray, denoise: bool) -> list[tuple[float, float, float]]:
    """One row per time, the last without noise."""
    dt = float(times[0] - times[1])
    rows = [reverse_row(sde, time, dt, i < len(times) - 1) for i, time in enumerate(times)]
    return [*rows[:-1], denoising_row(sde, times[-1])] if denoise else rows


def corrector_weight(sde, time: float, dt: float, snr: float) -> float:
    """2 alpha r^2 of the corrector's step size, see `pc`."""
    return 2 * max(0.0, 1 + 2 * float(sde.drift_coeff(time)) * dt) * snr**2


def flow_times(sde, steps: int, eps: float) -> np.ndarray:
    """steps + 1 times from 1 to eps, float64, whose noise ratios are Karras et al.'s (eq. 5, rho 7).

    Near t = 0 an image's noise shrinks like sqrt(t): on an even grid Heun's last of 50 steps, from 0.02 to 0.001, would
    double that noise.
    """
    first, last = sde.noise_ratio(np.array([1.0, eps])) ** (1 / 7)
    times = sde.time_of_ratio(np.linspace(first, last, steps + 1) ** 7)
    times[0], times[-1] = 1.0, eps
    return times


def flow_row(sde, time: float) -> tuple[float, float]:
    """What multiplies x and score in the probability-flow ODE, dx/dt = f(x, t) - g^2 score / 2 (eq. 13)."""
    return float(sde.drift_coeff(time)), -0.5 * float(sde.diffusion_coeff(time)) ** 2


# --- the samplers ------------------------------------------------------------------------------------------------


def euler(model: ScoreModel, batch_size: int = 16, *, steps: int | None = None, **request) -> Tensor:
    """Euler-Maruyama on the reverse SDE (Song et al., eq. 6), ``steps`` calls of the network.

    As the article has it: the times are linspace(1, eps, steps), every step is as long as their distance dt, and the
    last returns its mean, without noise. That last step, from eps on by dt, leaves [eps, 1]: it takes away
    g^2 dt score, which is about dt / eps times the noise that is left at eps: with 250 steps four times what there is,
    with 500 twice, with 1000 exactly it. ``denoise`` takes what there is. With the exact score of the digits as 28x28
    (600 images, VE, sigma 25) the Frechet distance was 1.73, 0.32 and 0.22 without it, 0.27, 0.22 and 0.22 with it.

    The tape: one array more per step but the last.
    """
    run = begin(model, batch_size, "euler", "x_1 and one array per step but the last", steps, **request)
    times = reverse_times(model.sampling_timesteps if steps is None else steps, run.eps)
    rows = reverse_rows(model.sde, times, run.denoise)
    step, x, silence = run.step(euler_step), run.start(), run.silence()
    for i, time in enumerate(run.bar(times, f"euler {len(times)}")):
        noise = run.noise() if i < len(times) - 1 else silence
        x = run.advance(step(x, time, _row(*rows[i]), noise))
    return run.result()


def pc(
    model: ScoreModel,
    batch_size: int = 16,
    *,
    steps: int | None = None,
    snr: float | None = None,
    corrector_norm: str = "image",
    **request,
) -> Tensor:
    """Predictor-corrector (Song et al., Algorithm 1, with 4 and 5): two calls of the network per step.

    At each time of `euler`'s grid one Langevin step x + e score + sqrt(2 e) z of size e = 2 alpha (r |z| / |score|)^2,
    then `euler`'s step. r is ``snr``; alpha is 1 for VE, and 1 - beta(t) dt for VP (Algorithm 5) and sub-VP, 0 where
    steps are so few that this is negative. The paper corrects after each prediction; here, as in the authors' code,
    https://github.com/yang-song/score_sde, before it, which is the same chain but for its two ends, and ends without
    noise.

    The paper takes the norms' means over the batch (appendix G), by which an image depends on those it was made with:
    ``corrector_norm="batch"``. The default "image" takes each image's own.

    The tape: per step the corrector's noise, then the predictor's, but in the last the corrector's alone.
    """
    if corrector_norm not in CORRECTOR_NORMS:
        raise UserError(f"corrector_norm is {quoted(corrector_norm)}, expected one of: {', '.join(CORRECTOR_NORMS)}")
    run = begin(model, batch_size, "pc", "x_1 and two arrays per step, one in the last", steps, snr, **request)
    snr = model.corrector_snr if snr is None else snr
    times = reverse_times(model.sampling_timesteps if steps is None else steps, run.eps)
    rows = reverse_rows(model.sde, times, run.denoise)
    dt = float(times[0] - times[1])
    step, x, silence = run.step(CORRECTOR_NORMS[corrector_norm]), run.start(), run.silence()
    for i, time in enumerate(run.bar(times, f"pc {len(times)}")):
        corrector_noise = run.noise()
        noise = run.noise() if i < len(times) - 1 else silence
        x = run.advance(
            step(x, time, _row(*rows[i]), _row(corrector_weight(model.sde, time, dt, snr)), corrector_noise, noise)
        )
    return run.result()


def heun(model: ScoreModel, batch_size: int = 16, *, steps: int | None = None, **request) -> Tensor:
    """Heun's method on the probability-flow ODE (eq. 13): ``steps`` steps from 1 to eps of two calls each.

    The times are chosen as in Karras et al., https://arxiv.org/abs/2206.00364; ends as `ode` does. The tape:
    nothing more.

    Under VE an ODE, unlike the SDE, never makes good that x_1 was drawn around 0 and not around the data's mean: with
    sigma 25, 20 steps, and the exact score of the digits as 28x28 the Frechet distance was 0.44, and 0.17 around it
    (`euler`, 1000 steps: 0.22). A larger sigma makes that smaller.
    """
    run = begin(model, batch_size, "heun", "x_1 alone", steps, **request)
    times = flow_times(model.sde, model.sampling_timesteps if steps is None else steps, run.eps)
    step, x = run.step(heun_step), run.start()
    for time, time_next in run.bar(list(pairwise(times)), f"heun {len(times) - 1}"):
        row = _row(*flow_row(model.sde, time), *flow_row(model.sde, time_next), time - time_next)
        x = run.advance(step(x, time, run.at(time_next), row))
    return _end_of_flow(run, x)


def _require_scipy() -> None:
    if importlib.util.find_spec("scipy") is None:
        raise UserError("the ode sampler needs scipy; run: pip install 'ms_ddpm[digits]', or use the heun sampler")


def ode(model: ScoreModel, batch_size: int = 16, *, rtol: float = 1e-5, atol: float = 1e-5, **request) -> Tensor:
    """scipy's RK45 (``solve_ivp``) on the probability-flow ODE (eq. 13), from 1 to eps; its states are float64.

    The step is chosen for the whole batch, so an image depends on those it was made with, by about ``rtol``. Returns
    the state at eps, as the authors' sampler of that name does; ``denoise`` adds one call. The tape: nothing more.
    """
    _require_scipy()
    from scipy.integrate import solve_ivp

    for name, value in (("rtol", rtol), ("atol", atol)):
        if not 0 < value < 1:
            raise UserError(f"{name} of the ode sampler is {quoted(value)}, expected above 0 and below 1; usual: 1e-5")
    run = begin(model, batch_size, "ode", "x_1 alone", **request)
    score, start = run.step(plain_score), run.start()
    with run.bar(None, "ode") as bar:

        def drift(time, state):
            bar.update()
            of_x, of_score = flow_row(model.sde, time)
            x = Tensor(state.reshape(run.tape.shape).astype(np.float32))
            slope = of_x * state + of_score * score(x, time).asnumpy().astype(np.float64).ravel()
            if not np.isfinite(slope).all():  # scipy would go on with it
                raise UserError(f"the score is not finite at t = {time:.4g}: the model's weights are damaged")
            return slope

        found = solve_ivp(
            drift, (1.0, run.eps), start.asnumpy().astype(np.float64).ravel(), method="RK45", rtol=rtol, atol=atol,
            t_eval=None if run.keep else [run.eps],
        )  # fmt: skip
    if not found.success:
        raise UserError(f"the ode sampler gave up: {found.message} Use the heun sampler, or a larger rtol")
    for state in found.y.T[1 if run.keep else 0 :]:
        x = run.advance(Tensor(state.reshape(run.tape.shape).astype(np.float32)))
    return _end_of_flow(run, x)


def _end_of_flow(run: Run, x: Tensor) -> Tensor:
    if run.denoise:
        row = _row(*denoising_row(run.model.sde, run.eps))
        run.advance(run.step(euler_step)(x, run.eps, row, run.silence()))
    return run.result()


SCORE_SAMPLERS: dict[str, Callable[..., Tensor]] = {"euler": euler, "pc": pc, "ode": ode, "heun": heun}


def options_of(sampler: str) -> tuple[str, ...]:
    """The names of the options that ``sampler`` takes."""
    own = inspect.signature(SCORE_SAMPLERS[sampler]).parameters.values()
    common = inspect.signature(begin).parameters.values()
    return tuple(p.name for p in (*own, *common) if p.kind is p.KEYWORD_ONLY)


def check_sample(model: ScoreModel, sampler: str | None, options: dict) -> None:
    """Raises UserError where `sample` would refuse ``options``; not for a tape or labels."""
    given = {name: value for name, value in options.items() if value is not None}
    checked = inspect.signature(check_request).parameters
    check_request(model, sampler=sampler, **{name: value for name, value in given.items() if name in checked})
    sampler = model.sampler if sampler is None else sampler
    for name in given:
        if name not in options_of(sampler):
            raise UserError(f"the {sampler} sampler takes no {name}; it takes: {', '.join(options_of(sampler))}")
    if sampler == "ode":
        _require_scipy()


def sample(model: ScoreModel, batch_size: int, sampler: str | None, options: dict) -> Tensor:
    """``sampler`` (None: the model's) with those of ``options`` that are not None; UserError for an unknown one."""
    check_sample(model, sampler, options)
    sampler = model.sampler if sampler is None else sampler
    options = {name: value for name, value in options.items() if value is not None}
    return SCORE_SAMPLERS[sampler](model, batch_size, **options)
