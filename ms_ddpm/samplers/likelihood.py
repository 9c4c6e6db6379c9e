"""The likelihood of images under a score model, in bits per dimension.

The probability-flow ODE dx/dt = f~(x, t) = f(x, t) - g(t)^2 score(x, t) / 2 has the SDE's marginals, so by the change
of variables log p_0(x_0) = log p_1(x_1) + integral of div f~(x_t, t) dt (Song et al., https://arxiv.org/abs/2011.13456,
eq. 39). The divergence is estimated as probe^T (df~/dx) probe (Skilling 1989; Hutchinson 1990; eq. 40) with one
vector-Jacobian product, and one probe for the whole path, so that the ODE stays an ODE.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..bars import bar
from ..config.limits import SMALLEST_EPS
from ..data.labels import labels_of_images
from ..errors import UserError, quoted
from ..maths.random import host_rng, normal
from .flow_ode import flow_row, flow_times, require_scipy
from .request import Score

LEVELS = 256  # of 8-bit images


class Likelihood(NamedTuple):
    """Of each image: ``bits_per_dim`` (B,), and ``nats`` (B,), the natural logarithm of the density of what was given
    to the model; both float64, means over the probes.
    """

    bits_per_dim: np.ndarray
    nats: np.ndarray


def rademacher(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """+1 or -1, float32: of all probes of variance 1 the one whose estimate varies least."""
    return (2 * rng.integers(0, 2, shape) - 1).astype(np.float32)


PROBES: dict[str, Callable] = {"rademacher": rademacher, "gaussian": normal}


def score_and_pull(score: Callable) -> Callable:
    """(score(x, t), probe^T dscore/dx) as one step."""

    def pulled(x, t, y, scale, probe):
        value = score(x, t, y, scale)
        return (value * probe).sum(), value

    gradient = ms.value_and_grad(pulled, 0, None, has_aux=True)

    def step(x, t, y, scale, probe):
        (_, value), product = gradient(x, t, y, scale, probe)
        return value, product

    return step


def dequantise(images: np.ndarray, rng: np.random.Generator, levels: int = LEVELS) -> np.ndarray:
    """Images (B, ...) of ``levels`` grey levels, in [0, 1], spread evenly over the cells of [0, 1): float32.

    (levels - 1) image + u, u uniform in [0, 1), over ``levels`` (Theis et al., https://arxiv.org/abs/1511.01844, 3.1).
    """
    images = np.asarray(images, np.float64)
    return ((np.rint(images * (levels - 1)) + rng.random(images.shape)) / levels).astype(np.float32)


def bits_per_dim(
    model: Score,
    images: np.ndarray,
    *,
    rng: np.random.Generator | int,
    labels: int | Iterable[int] | None = None,
    levels: int | None = LEVELS,
    probe: str = "rademacher",
    probes: int = 1,
    method: str = "rk45",
    steps: int = 100,
    eps: float = SMALLEST_EPS,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    progress: bool = False,
) -> Likelihood:
    """The likelihood of ``images`` (B, C, H, W) in [0, 1] under ``model``; lower bits are better.

    Args:
        rng: numpy Generator or seed: of the dequantisation first, then of each probe.
        labels: the classes, for log p(x | y); by default image i has class i mod num_classes.
        levels: grey levels of the images. They are spread over [0, 1) by `dequantise`; a cell's probability is about
            density / levels^D, so that -log2(density) / D + log2(levels) bits per dimension bound the discrete ones
            from above. None: the values are continuous; the density's own bits, which can be negative.
        probe, probes: distribution (a key of `PROBES`) and number of the estimate's probes.
        method: "rk45", scipy's, its step chosen for the whole batch; or "heun", ``steps`` steps, see `flow_times`.
        eps: where the path begins; at t = 0 the score is infinite.

    Raises:
        UserError: for a value that does not exist or does not fit.
    """
    images = np.asarray(images)
    shape = (len(images), model.channels, *model.image_size)
    if images.shape != shape or not len(images):
        raise UserError(f"images of shape {images.shape}, expected (B, {', '.join(map(str, shape[1:]))})")
    for name, value, known in (("probe", probe, PROBES), ("method", method, METHODS)):
        if value not in known:
            raise UserError(f"{name} is {quoted(value)}, expected one of: {', '.join(known)}")
    for name, value, least in (("probes", probes, 1), ("steps", steps, 1), ("levels", levels or 2, 2)):
        if not (isinstance(value, int | np.integer) and value >= least):
            raise UserError(f"{name} of the likelihood is {quoted(value)}, expected at least {least}")
    if not 0 < eps < 1:
        raise UserError(f"eps of the likelihood is {quoted(eps)}, expected above 0 and below 1; usual: 1e-5")
    if levels and not (images.min() >= 0 and images.max() <= 1):
        raise UserError(
            f"images from {images.min():.3g} to {images.max():.3g}, expected [0, 1]; "
            "levels=None takes values that are no grey levels"
        )
    rng = host_rng(rng)
    x = dequantise(images, rng, levels) if levels else images.astype(np.float32)
    labels = labels_of_images(model, labels, len(x))
    options = {"labels": labels, "method": method, "steps": steps, "eps": eps, "rtol": rtol, "atol": atol}
    found = [
        log_likelihood(model, x, PROBES[probe](rng, x.shape), **options)
        for _ in bar(range(probes), f"likelihood {method}", show=progress, leave=False)
    ]
    nats = np.mean(found, axis=0)
    offset = math.log2(levels) if levels else 0.0
    return Likelihood(-nats / (math.prod(x.shape[1:]) * math.log(2)) + offset, nats)


def log_likelihood(
    model: Score,
    x: np.ndarray,
    probe: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    method: str = "rk45",
    steps: int = 100,
    eps: float = SMALLEST_EPS,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> np.ndarray:
    """log p_0(x) in nats, (B,) float64, of x (B, C, H, W) with one probe of its shape: see `bits_per_dim`.

    ``labels``: (B,) int32 of a conditional model. Under VE the prior leaves out the data's own spread s at t = 1, which
    costs about s^2 / (2 prior_std^2) nats per dimension on average.
    """
    flow = Flow(model, None if labels is None else Tensor(labels), Tensor(probe.astype(np.float32)))
    return METHODS[method](flow, np.asarray(x, np.float64), eps=eps, steps=steps, rtol=rtol, atol=atol)


class Flow:
    """f~ and the estimate of its divergence, float64 on the host around the compiled network."""

    def __init__(self, model: Score, y: Tensor | None, probe: Tensor):
        self.model = model
        self.y = y
        self.probe = probe
        self.step = model.compiled_step(score_and_pull, guided=False)
        self.scale = Tensor(1.0, ms.float32)
        # The drift's own part, probe^T drift_coeff probe, is known without the network.
        self.norm = (probe.asnumpy().astype(np.float64) ** 2).reshape(len(probe), -1).sum(axis=1)

    def __call__(self, time: float, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(f~ like x, its divergence (B,)) at x (B, C, H, W)."""
        of_x, of_score = flow_row(self.model.sde, time)
        if not np.isfinite(x).all():  # scipy would go on with it
            raise UserError(f"the score is not finite around t = {time:.4g}: the model's weights are damaged")
        t = Tensor(np.full(len(x), time, np.float32))
        score, pulled = self.step(Tensor(x.astype(np.float32)), t, self.y, self.scale, self.probe)
        product = (pulled.asnumpy().astype(np.float64) * self.probe.asnumpy()).reshape(len(x), -1).sum(axis=1)
        return of_x * x + of_score * score.asnumpy().astype(np.float64), of_x * self.norm + of_score * product


def _heun(flow: Flow, x: np.ndarray, *, eps: float, steps: int, rtol: float, atol: float) -> np.ndarray:
    total = np.zeros(len(x))
    times = flow_times(flow.model.sde, steps, eps)[::-1]
    for now, after in pairwise(times):
        slope, divergence = flow(now, x)
        slope_after, divergence_after = flow(after, x + (after - now) * slope)
        x = x + (after - now) * (slope + slope_after) / 2
        total += (after - now) * (divergence + divergence_after) / 2
    return flow.model.sde.prior_logp(x) + total


def _rk45(flow: Flow, x: np.ndarray, *, eps: float, steps: int, rtol: float, atol: float) -> np.ndarray:
    require_scipy("method rk45", "method heun")
    from scipy.integrate import solve_ivp

    def slope(time, state):
        return np.concatenate([part.ravel() for part in flow(time, state[: x.size].reshape(x.shape))])

    start = np.concatenate([x.ravel(), np.zeros(len(x))])
    found = solve_ivp(slope, (eps, 1.0), start, method="RK45", rtol=rtol, atol=atol, t_eval=[1.0])
    if not found.success:
        raise UserError(f"the likelihood's ODE solver gave up: {found.message} Use the method heun, or check the model")
    end = found.y[:, -1]
    return flow.model.sde.prior_logp(end[: x.size].reshape(x.shape)) + end[x.size :]


METHODS: dict[str, Callable[..., np.ndarray]] = {"rk45": _rk45, "heun": _heun}
