"""Gaussian divergences and likelihoods of the variational bound, elementwise, in nats."""

from __future__ import annotations

import math

from mindspore import Tensor, ops

from ..arrays import takes_arrays
from ..ops.elementary import exp, wide


@takes_arrays
def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """KL divergence between two diagonal Gaussians, elementwise, in nats."""
    return 0.5 * (
        -1.0
        + log_variance2
        - log_variance1
        + exp(log_variance1 - log_variance2)
        + (mean1 - mean2) * (mean1 - mean2) * exp(-log_variance2)
    )


@takes_arrays
def discretized_gaussian_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-probability of x, of 256 levels in [-1, 1], under a Gaussian binned to the levels (Ho et al., eq. 13)."""

    def log_clamped(p):
        return ops.log(ops.maximum(p, 1e-15))

    def normal_cdf(z):  # the tanh approximation of the reference implementations
        return 0.5 * (1.0 + ops.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z * z * z)))

    dtype, x, mean, log_scale = x.dtype, wide(x), wide(mean), wide(log_scale)
    inverse_scale = ops.exp(-log_scale)
    cdf_above = normal_cdf(inverse_scale * (x - mean + 1.0 / 255.0))
    cdf_below = normal_cdf(inverse_scale * (x - mean - 1.0 / 255.0))
    inside = log_clamped(cdf_above - cdf_below)
    outside = ops.select(x < -0.999, log_clamped(cdf_above), log_clamped(1.0 - cdf_below))
    return ops.cast(ops.select(ops.abs(x) > 0.999, outside, inside), dtype)
