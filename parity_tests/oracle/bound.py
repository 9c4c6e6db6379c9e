"""The two kinds of terms of the variational bound, for learned variances. In nats, elementwise."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .layers import sigmoid

Array = np.ndarray


def normal_kl(mean1: ArrayLike, logvar1: ArrayLike, mean2: ArrayLike, logvar2: ArrayLike) -> Array:
    """KL(N(mean1, e^logvar1) || N(mean2, e^logvar2)), elementwise (the L_{t-1} of DDPM eq. 5)."""
    mean1, logvar1, mean2, logvar2 = (np.asarray(a, np.float64) for a in (mean1, logvar1, mean2, logvar2))
    d = logvar1 - logvar2
    with np.errstate(over="ignore"):
        return 0.5 * (np.expm1(d) - d + np.square(mean1 - mean2) * np.exp(-logvar2))


def _logit_of_cdf(x: Array) -> Array:
    """y with sigmoid(y) = 0.5 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the usual approximation of Phi(x)."""
    return 2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)


def discretized_gaussian_log_likelihood(x: ArrayLike, means: ArrayLike, log_scales: ArrayLike) -> Array:
    """log of the probability of x's grey level under N(means, e^(2 log_scales)); DDPM eq. 13.

    ``x`` is one of 256 levels in [-1, 1]. Phi is the tanh approximation of IDDPM's code, the outer bins (x beyond
    +-0.999) are open, and no probability is taken below 1e-15. The mass of a bin is a difference of sigmoids:
    s(a) - s(b) = s(a) s(-b) (1 - e^(b-a)).
    """
    x, means, log_scales = (np.asarray(a, np.float64) for a in (x, means, log_scales))
    centred, precision = x - means, np.exp(-log_scales)
    upper = _logit_of_cdf((centred + 1 / 255) * precision)
    lower = _logit_of_cdf((centred - 1 / 255) * precision)
    below, above = sigmoid(upper), sigmoid(-lower)
    inside = below * above * -np.expm1(lower - upper)
    mass = np.where(x < -0.999, below, np.where(x > 0.999, above, inside))
    return np.log(np.maximum(mass, 1e-15))
