"""From noise at t = 1 back to t = eps by the probability-flow ODE: `heun` and `ode`, samplers of a score model.

The ODE has the SDE's marginals (Song et al., https://arxiv.org/abs/2011.13456, eq. 13). See `score` for what both take.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
from mindspore import Tensor, ops

from ..errors import UserError, quoted
from ..nn.sde import SDE
from .chain import numbers
from .request import Request, Score, begin
from .reverse_sde import denoising_row, euler_step

# --- the steps, made around score(x, t, y, scale) ---------------------------------------------------------------------


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


# --- their numbers ----------------------------------------------------------------------------------------------------


def flow_times(sde: SDE, steps: int, eps: float) -> np.ndarray:
    """steps + 1 times from 1 to eps, float64, whose noise ratios are Karras et al.'s (eq. 5, rho 7).

    Near t = 0 an image's noise shrinks like sqrt(t): on an even grid Heun's last of 50 steps, from 0.02 to 0.001, would
    double that noise.
    """
    first, last = sde.noise_ratio(np.array([1.0, eps])) ** (1 / 7)
    times = sde.time_of_ratio(np.linspace(first, last, steps + 1) ** 7)
    times[0], times[-1] = 1.0, eps
    return times


def flow_row(sde: SDE, time: float) -> tuple[float, float]:
    """What multiplies x and score in the probability-flow ODE, dx/dt = f(x, t) - g^2 score / 2 (eq. 13)."""
    return float(sde.drift_coeff(time)), -0.5 * float(sde.diffusion_coeff(time)) ** 2


# --- the samplers -----------------------------------------------------------------------------------------------------


def heun(model: Score, batch_size: int = 16, *, steps: int | None = None, **request) -> Tensor:
    """Heun's method on the probability-flow ODE (eq. 13): ``steps`` steps from 1 to eps of two calls each.

    The times are chosen as in Karras et al., https://arxiv.org/abs/2206.00364; ends as `ode` does. The tape:
    nothing more.

    Under VE an ODE, unlike the SDE, never makes good that x_1 was drawn around 0 and not around the data's mean: with
    sigma 25, 20 steps, and the exact score of the digits as 28x28 the Frechet distance was 0.44, and 0.17 around it
    (`euler`, 1000 steps: 0.22). A larger sigma makes that smaller.
    """
    run = begin(model, batch_size, "heun", "x_1 alone", steps, **request)
    times = flow_times(model.sde, run.steps, run.eps)
    ends = np.array([flow_row(model.sde, time) for time in times])
    table = np.column_stack([times[:-1], times[1:], ends[:-1], ends[1:], times[:-1] - times[1:]])
    step = run.step(heun_step)

    def advance(x, row):
        return step(x, row[0], run.chain.at(row[1]), numbers(row[2:]))

    run.chain.run(run.start(), table, advance, "heun", noises=0)
    return _end_of_flow(run)


def require_scipy(what: str, instead: str) -> None:
    """Raises UserError where there is no scipy: ``what`` needs it, and ``instead`` does not."""
    if importlib.util.find_spec("scipy") is None:
        raise UserError(f"the {what} needs scipy; run: pip install 'ms_ddpm[digits]', or use the {instead}")


def ode(model: Score, batch_size: int = 16, *, rtol: float = 1e-5, atol: float = 1e-5, **request) -> Tensor:
    """scipy's RK45 (``solve_ivp``) on the probability-flow ODE (eq. 13), from 1 to eps; its states are float64.

    The step is chosen for the whole batch, so an image depends on those it was made with, by about ``rtol``. Returns
    the state at eps, as the authors' sampler of that name does; ``denoise`` adds one call. The tape: nothing more.
    """
    require_scipy("ode sampler", "heun sampler")
    from scipy.integrate import solve_ivp

    for name, value in (("rtol", rtol), ("atol", atol)):
        if not 0 < value < 1:
            raise UserError(f"{name} of the ode sampler is {quoted(value)}, expected above 0 and below 1; usual: 1e-5")
    run = begin(model, batch_size, "ode", "x_1 alone", **request)
    score, start, shape = run.step(plain_score), run.chain.note(run.start()), run.chain.tape.shape
    with run.chain.bar(None, "ode") as bar:

        def drift(time, state):
            bar.update()
            of_x, of_score = flow_row(model.sde, time)
            x = Tensor(state.reshape(shape).astype(np.float32))
            slope = of_x * state + of_score * score(x, time).asnumpy().astype(np.float64).ravel()
            if not np.isfinite(slope).all():  # scipy would go on with it
                raise UserError(f"the score is not finite at t = {time:.4g}: the model's weights are damaged")
            return slope

        found = solve_ivp(
            drift, (1.0, run.eps), start.asnumpy().astype(np.float64).ravel(), method="RK45", rtol=rtol, atol=atol,
            t_eval=None if run.chain.keep else [run.eps],
        )  # fmt: skip
    if not found.success:
        raise UserError(f"the ode sampler gave up: {found.message} Use the heun sampler, or a larger rtol")
    for state in found.y.T[1 if run.chain.keep else 0 :]:
        run.chain.note(Tensor(state.reshape(shape).astype(np.float32)))
    return _end_of_flow(run)


def _end_of_flow(run: Request) -> Tensor:
    chain = run.chain
    if run.denoise:
        row = numbers(np.array(denoising_row(run.model.sde, run.eps)))
        chain.note(run.step(euler_step)(chain.states[-1], run.eps, row, chain.silence))
    return chain.result()
