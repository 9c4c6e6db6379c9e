"""Steps of the few-step samplers as rows of float64 numbers, and the noise levels that they step on.

A network's answer is taken for the image x_0 or for its noise eps. Once that is done, and x_0 limited, a step of every
sampler here is linear in what it knows:

    y' = of_x y + of_outputs[0] m_0 + of_outputs[1] m_1 + ... + of_noise z

with m_0 the newest answer, m_1 the one before, and z standard normal. The coordinate is Karras et al.'s
(https://arxiv.org/abs/2206.00364, section 2 and appendix B.2): y = x / sqrt(abar) = x_0 + sigma eps, with
sigma = sqrt((1 - abar) / abar). In it all formulas are of sigmas alone: half the log-SNR of the DPM-Solvers is
lambda = -log sigma, and the exponential of their step h is a ratio of two sigmas. `preserving` gives the row of x.

    PNDM          Liu et al. 2022, https://arxiv.org/abs/2202.09778
    DPM-Solver    Lu et al. 2022, https://arxiv.org/abs/2206.00927      DPM-Solver++  https://arxiv.org/abs/2211.01095
    UniPC         Zhao et al. 2023, https://arxiv.org/abs/2302.04867
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
    """What a step multiplies the sample, the answers (the newest first) and the noise with."""

    of_x: float
    of_outputs: tuple[float, ...]
    of_noise: float = 0.0


# --- noise levels ----------------------------------------------------------------------------------------------------


def sigmas_of(abar: np.ndarray) -> np.ndarray:
    """sigma = sqrt((1 - abar) / abar) of every abar in (0, 1]."""
    abar = np.asarray(abar, np.float64)
    return np.sqrt((1 - abar) / abar)


def signal_of(sigma: float) -> float:
    """sqrt(abar) = 1 / sqrt(1 + sigma^2): what x_0 is multiplied with in x."""
    return 1 / math.sqrt(1 + sigma**2)


def karras_sigmas(largest: float, smallest: float, count: int, rho: float = 7.0) -> np.ndarray:
    """``count`` sigmas from the largest to the smallest, evenly spaced in sigma^(1/rho) (Karras et al., eq. 5)."""
    return _between(largest, smallest, np.linspace(largest ** (1 / rho), smallest ** (1 / rho), count) ** rho)


def exponential_sigmas(largest: float, smallest: float, count: int) -> np.ndarray:
    """``count`` sigmas from the largest to the smallest, evenly spaced in lambda (Lu et al. 2022, section 3.4)."""
    return _between(largest, smallest, np.exp(np.linspace(math.log(largest), math.log(smallest), count)))


def beta_sigmas(largest: float, smallest: float, count: int, shape: float = 0.6) -> np.ndarray:
    """``count`` sigmas at the quantiles of Beta(``shape``, ``shape``) between the two: dense at both ends.

    Lee et al., "Beta Sampling is All You Need", https://arxiv.org/abs/2407.12173, section 3.
    """
    return _between(
        largest, smallest, smallest + (largest - smallest) * beta_quantiles(np.linspace(1, 0, count), shape)
    )


def beta_quantiles(shares: np.ndarray, shape: float) -> np.ndarray:
    """Below which a share of Beta(``shape``, ``shape``) lies, of each of ``shares`` in [0, 1], to about 1e-15.

    The distribution function is x^a / B(a, a) sum_n (1 - a)_n / (n! (a + n)) x^n (Abramowitz & Stegun, 26.5.4), in
    which 60 terms are enough up to x = 1/2; the other half is its mirror image. It is inverted by halving intervals.
    """
    n = np.arange(60)
    rising = np.concatenate([[1.0], np.cumprod((1 - shape + n[:-1]) / (n[:-1] + 1))])
    terms = rising / (shape + n) * math.gamma(2 * shape) / math.gamma(shape) ** 2
    shares = np.asarray(shares, np.float64)
    wanted = np.minimum(shares, 1 - shares)
    below, above = np.zeros_like(wanted), np.full_like(wanted, 0.5)
    for _ in range(64):
        middle = (below + above) / 2
        less = middle**shape * (middle[:, None] ** n @ terms) < wanted
        below, above = np.where(less, middle, below), np.where(less, above, middle)
    return np.where(shares <= 0.5, above, 1 - above)


def _between(largest: float, smallest: float, sigmas: np.ndarray) -> np.ndarray:
    """The ends as they were given, not as roots and powers left them: a whole time stays whole."""
    sigmas[-1] = smallest
    sigmas[0] = largest
    return sigmas


def times_of_sigmas(sigmas: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Where the ``sigmas`` lie in the ``table`` of all times' sigmas: linear in log sigma, kept inside.

    Above the last of the table that is not larger. It ascends, but for its end where that was made finite.
    """
    levels, known = np.log(np.maximum(sigmas, 1e-10)), np.log(table)
    last = len(table) - 1 - np.argmax(known[::-1] <= levels[:, None], axis=1)
    below = np.where(levels < known[0], 0, np.minimum(last, len(table) - 2))
    share = (levels - known[below]) / (known[below + 1] - known[below])
    return below + np.clip(share, 0, 1)


# --- steps -----------------------------------------------------------------------------------------------------------


def preserving(row: Row, sigma: float, sigma_next: float) -> Row:
    """The ``row`` of y from ``sigma`` to ``sigma_next`` as one of x = y / sqrt(1 + sigma^2), of variance about 1."""
    scale = signal_of(sigma_next)
    return Row(
        row.of_x * scale / signal_of(sigma), tuple(scale * weight for weight in row.of_outputs), scale * row.of_noise
    )


def euler_row(sigma: float, sigma_next: float) -> Row:
    """Along dy/dsigma = (y - x_0) / sigma (Karras et al., Algorithm 1); m is x_0."""
    ratio = sigma_next / sigma
    return Row(ratio, (1 - ratio,))


def ancestral_row(sigma: float, sigma_next: float) -> Row:
    """An Euler step down to less than ``sigma_next``, and noise back up to it; m is x_0.

    Of Ho et al.'s posterior (https://arxiv.org/abs/2006.11239, eq. 7) the variance is
    up^2 = sigma'^2 (sigma^2 - sigma'^2) / sigma^2, and down^2 + up^2 = sigma'^2.
    """
    ratio = sigma_next / sigma
    up = sigma_next * math.sqrt(1 - ratio**2)
    return Row(*euler_row(sigma, sigma_next * ratio)[:2], up)


# Of Adams and Bashforth, by the number of answers there are (PNDM, eq. 9 and appendix A).
ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}
HEUN = (1 / 2, 1 / 2)  # the second call of a step: the mean of its answer and the first one's
RUNGE_KUTTA = (1 / 6, 1 / 3, 1 / 3, 1 / 6)  # of the four answers of a step (PNDM, eq. 10)


def transfer_row(sigma: float, sigma_next: float, weights: Sequence[float] = (1.0,)) -> Row:
    """y + (sigma' - sigma) eps with eps the weighted sum of the answers: PNDM's transfer part (eq. 11); m is eps."""
    return Row(1.0, tuple((sigma_next - sigma) * weight for weight in weights))


class _Exponential(NamedTuple):
    """y' = of_x y - scale (e^z - 1) m_0 - ... + noise: the exponential integrator of one form of the ODE or SDE."""

    z: float
    of_x: float
    scale: float
    of_noise: float


def _of_start(sigma: float, sigma_next: float) -> _Exponential:
    ratio = sigma_next / sigma
    return _Exponential(math.log(ratio) if ratio else -math.inf, ratio, 1.0, 0.0)


def _of_eps(sigma: float, sigma_next: float) -> _Exponential:
    return _Exponential(math.log(sigma / sigma_next), 1.0, sigma_next, 0.0)


def _of_start_sde(sigma: float, sigma_next: float) -> _Exponential:
    ratio = sigma_next / sigma
    noise = sigma_next * math.sqrt(max(1 - ratio**2, 0.0))
    return _Exponential(2 * math.log(ratio) if ratio else -math.inf, ratio**2, 1.0, noise)


def _of_eps_sde(sigma: float, sigma_next: float) -> _Exponential:
    noise = math.sqrt(max(sigma**2 - sigma_next**2, 0.0))
    return _Exponential(math.log(sigma / sigma_next), 1.0, 2 * sigma_next, noise)


FORMS: dict[str, Callable[[float, float], _Exponential]] = {  # what the answers are taken for
    "x_start": _of_start,  # DPM-Solver++, eq. 8
    "eps": _of_eps,  # DPM-Solver, eq. 3.4; does not reach sigma 0
    "x_start_sde": _of_start_sde,  # DPM-Solver++, appendix A
    "eps_sde": _of_eps_sde,
}


def dpm_row(sigmas: Sequence[float], order: int, form: str = "x_start", heun: bool = False) -> Row:
    """A multistep step of the DPM-Solvers.

    Args:
        sigmas: the one that is stepped to, that of the sample, and those of the answers before: ``order`` + 1 in all.
        order: 1 to 3; of "eps_sde" 1 or 2. To sigma 0: 1.
        form: one of `FORMS`.
        heun: order 2 integrates the line through two answers; otherwise, as the paper (DPM-Solver++, Algorithm 2), it
            takes that line's middle.

    With r_k the distances of the earlier answers in units of the step, D_1 and D_2 are the line's slope and the
    parabola's curvature (DPM-Solver++, appendix B):
        order 2  D_1 = (m_0 - m_1) / r_0
        order 3  D_1 = d_0 + r_0 D_2, D_2 = (d_0 - d_1) / (r_0 + r_1), d_k = (m_k - m_(k+1)) / r_k
    The weight of D_2 is that of the authors' code, which is half of the parabola's integral.
    """
    sigma_next, sigma, *before = sigmas[: order + 1]
    if sigma_next == sigma:  # a step of no length; the slopes below would divide by it
        return Row(1.0, (0.0,) * order)
    z, of_x, scale, of_noise = FORMS[form](sigma, sigma_next)
    whole = math.expm1(z)
    m = np.eye(order)
    outputs = whole * m[0]
    if order > 1:
        h = math.log(sigma / sigma_next)
        knots = (sigma, *before)
        r = [math.log(earlier / later) / h for later, earlier in pairwise(knots)]
        slopes = [(m[k] - m[k + 1]) / r[k] for k in range(order - 1)]
        slope = slopes[0]
        if order == 3:
            curvature = (slopes[0] - slopes[1]) / (r[0] + r[1])
            slope = slope + r[0] * curvature
            outputs = outputs + ((whole - z) / z**2 - 0.5) * curvature
        of_slope = whole / z - 1 if heun or order == 3 else whole / 2
        outputs = outputs + of_slope * slope
    return Row(of_x, tuple((-scale * outputs).tolist()), of_noise)


UNIPC_B: dict[str, Callable[[float], float]] = {"bh1": lambda z: z, "bh2": math.expm1}  # UniPC, section 3.1: B(h)


def unipc_row(
    sigmas: Sequence[float], order: int, form: str = "x_start", b: str = "bh2", corrector: bool = False
) -> Row:
    """UniP-p's step, or (``corrector``) UniC-p's once the answer at the step's end is there.

    Args:
        sigmas: the one that is stepped to, that of the sample, and those of the answers before: ``order`` + 1 in all.
        order: p, 1 to 3. To sigma 0: 1, and no corrector.
        form: "x_start" or "eps".
        b: "bh1" or "bh2".

    Returns:
        The row. Of a corrector the first of ``of_outputs`` is the answer at the end, m_0 and those before follow.

    The weights a solve sum_k a_k r_k^(i-1) = i! phi_(i+1) / B, i = 1, 2, ... (UniPC, eqs. 5 to 9), with r_k where the
    answers lie in units of the step (the end: 1). The lowest of each kind are 1/2 exactly, as in the paper's code.
    """
    sigma_next, sigma, *before = sigmas[: order + 1]
    if sigma_next == sigma:
        return Row(1.0, (0.0,) * (order + corrector))
    z, of_x, scale, _ = FORMS[form](sigma, sigma_next)
    h = math.log(sigma / sigma_next) if sigma_next else math.inf
    r = [math.log(sigma / earlier) / h for earlier in before] + [1.0] * corrector
    whole, size = math.expm1(z), UNIPC_B[b](z)
    if len(r) == 1:
        weights = [0.5]
    elif r:
        integral, right = whole / z - 1, []
        for i in range(1, len(r) + 1):
            right.append(integral * math.factorial(i) / size)
            integral = integral / z - 1 / math.factorial(i + 1)
        weights = np.linalg.solve(np.vander(r, increasing=True).T, right).tolist()
    else:
        weights = []
    differences = [scale * size * weight / place for weight, place in zip(weights, r, strict=True)]
    newest = -scale * whole + sum(differences)
    earlier = [-weight for weight in differences]
    end = earlier[-1:] if corrector else []
    return Row(of_x, (*end, newest, *earlier[: order - 1]))
