"""From noise at t = 1 to an image at t = eps with a score model (Song et al. 2021, https://arxiv.org/abs/2011.13456).

Each takes its noise from a tape: any iterable of arrays (B, C, H, W), the noise of x_1 first. Times and step sizes are
Python floats; a network sees them in x's dtype.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from torch_ref.samplers import tape_reader

from .model import ScoreModel, per_image
from .sde import flow_times


def functions_of(model: ScoreModel, like: Tensor, y: Tensor | None, guidance_scale: float):
    """f(x, t), g(t) and the score at one time t for the whole batch, t a float."""

    def at(time: float) -> Tensor:
        return torch.full((len(like),), time, dtype=like.dtype, device=like.device)

    def f(x: Tensor, time: float) -> Tensor:
        return per_image(model.sde.drift_coeff(at(time))) * x

    def g(time: float) -> Tensor:
        return per_image(model.sde.diffusion_coeff(at(time)))

    def score(x: Tensor, time: float) -> Tensor:
        return model.score(x, at(time), y, guidance_scale)

    return f, g, score


def denoised(model: ScoreModel, x: Tensor, score: Tensor, time: float) -> Tensor:
    """E[x_0 | x_t] = (x_t + std^2 score) / coeff: Tweedie's formula."""
    t = torch.full((len(x),), time, dtype=x.dtype, device=x.device)
    coeff, std = per_image(model.sde.marginal_prob_coeff(t)), per_image(model.sde.marginal_prob_std(t))
    return (x + std**2 * score) / coeff


def start(model: ScoreModel, shape: tuple[int, ...], noise: Iterable, dtype: torch.dtype):
    """x_1 of the prior, and what reads the rest of the tape."""
    read = tape_reader(noise, shape, torch.empty(0, dtype=dtype))
    return model.sde.prior_std * read(), read


@torch.no_grad()
def euler(
    model: ScoreModel,
    shape: tuple[int, ...],
    *,
    noise: Iterable,
    steps: int = 500,
    eps: float = 1e-3,
    y: Tensor | None = None,
    guidance_scale: float = 1.0,
    denoise: bool = False,
    snr: float | None = None,
    corrector_norm: str = "image",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Euler-Maruyama on the reverse SDE (eq. 6); with ``snr`` a corrector before each step (`pc`): (steps + 1, B, ...).

    x <- x - (f(x, t) - g^2 score) dt + g sqrt(dt) z, z = 0 in the last step, on the grid linspace(1, eps, steps).
    """
    x, read = start(model, shape, noise, dtype)
    f, g, score = functions_of(model, x, y, guidance_scale)
    times = np.linspace(1, eps, steps).tolist()
    dt = times[0] - times[1]
    chain = [x]
    for i, time in enumerate(times):
        last = i == len(times) - 1
        if snr is not None:
            x = corrected(model, x, score(x, time), read(), snr, time, dt, corrector_norm)
        s = score(x, time)
        x = denoised(model, x, s, time) if last and denoise else x - (f(x, time) - g(time) ** 2 * s) * dt
        if not last:
            x = x + g(time) * dt**0.5 * read()
        chain.append(x)
    return torch.stack(chain)


def corrected(
    model: ScoreModel, x: Tensor, score: Tensor, z: Tensor, snr: float, time: float, dt: float, norm: str = "image"
) -> Tensor:
    """One Langevin step of size e = 2 alpha (snr |z| / |score|)^2 (Algorithms 4 and 5).

    Norms image by image, or ("batch") their means over the batch (appendix G). alpha is 1 for VE, 1 - beta dt for VP,
    and 0 where that would be negative.
    """
    lengths = [v.flatten(1).norm(dim=1) for v in (z, score)]
    if norm == "batch":
        lengths = [v.mean().expand(len(x)) for v in lengths]
    t = torch.full((len(x),), time, dtype=x.dtype, device=x.device)
    alpha = (1 + 2 * model.sde.drift_coeff(t) * dt).clamp(min=0)
    e = per_image(2 * alpha * (snr * lengths[0] / lengths[1]) ** 2)
    return x + e * score + torch.sqrt(2 * e) * z


def pc(model: ScoreModel, shape: tuple[int, ...], *, snr: float = 0.16, **options) -> Tensor:
    """Predictor-corrector (Algorithm 1): a Langevin step, then Euler-Maruyama's, at every time."""
    return euler(model, shape, snr=snr, **options)


@torch.no_grad()
def heun(
    model: ScoreModel,
    shape: tuple[int, ...],
    *,
    noise: Iterable,
    steps: int = 500,
    eps: float = 1e-3,
    y: Tensor | None = None,
    guidance_scale: float = 1.0,
    denoise: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The probability-flow ODE dx/dt = f(x, t) - g^2 score / 2 (eq. 13) by Heun's method, at `flow_times`."""
    x, _ = start(model, shape, noise, dtype)
    chain = [x]
    for now, after in pairwise(flow_times(model.sde, steps, eps)):
        x = heun_step(model, x, now, after, y, guidance_scale)
        chain.append(x)
    if denoise:
        _, _, score = functions_of(model, x, y, guidance_scale)
        chain.append(denoised(model, x, score(x, eps), eps))
    return torch.stack(chain)


def heun_step(
    model: ScoreModel, x: Tensor, now: float, after: float, y: Tensor | None = None, guidance_scale: float = 1.0
) -> Tensor:
    """One step of Heun's method on eq. 13."""
    f, g, score = functions_of(model, x, y, guidance_scale)

    def slope(x: Tensor, time: float) -> Tensor:
        return f(x, time) - 0.5 * g(time) ** 2 * score(x, time)

    first = slope(x, now)
    second = slope(x + (after - now) * first, after)
    return x + (after - now) * (first + second) / 2


@torch.no_grad()
def ode(
    model: ScoreModel,
    shape: tuple[int, ...],
    *,
    noise: Iterable,
    eps: float = 1e-3,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    y: Tensor | None = None,
    guidance_scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The same ODE by scipy's RK45, which chooses its steps: the state at eps, (B, C, H, W)."""
    from scipy.integrate import solve_ivp

    x, _ = start(model, shape, noise, dtype)
    f, g, score = functions_of(model, x, y, guidance_scale)

    def slope(time: float, flat: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(flat).reshape(shape).to(dtype)
        return (f(x, time) - 0.5 * g(time) ** 2 * score(x, time)).double().numpy().ravel()

    found = solve_ivp(slope, (1.0, eps), x.double().numpy().ravel(), method="RK45", rtol=rtol, atol=atol)
    return torch.from_numpy(found.y[:, -1]).reshape(shape).to(dtype)


SCORE_SAMPLERS = {"euler": euler, "pc": pc, "heun": heun, "ode": ode}
