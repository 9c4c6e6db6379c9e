"""The SDEs that turn an image into noise, as models and samplers have them: on the host and in compiled graphs.

The formulas are those of `maths.sde_formulas`, written once and computed on both sides: given numpy arrays or numbers
in float64, given a MindSpore tensor (inside compiled graphs too) in the tensor's own dtype, float32 to the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from mindspore import Tensor, ops

from ..errors import UserError, quoted
from ..maths.sde_formulas import (
    HOST,
    Formulas,
    Maths,
    normal_logp,
    subvp_formulas,
    subvp_integral_of_ratio,
    time_of_integral,
    ve_formulas,
    ve_time_of_ratio,
    vp_formulas,
    vp_integral_of_ratio,
)
from ..ops.elementary import wide, wide_constant
from ..ops.expm1 import expm1
from ..storage.fingerprint import remembers

GRAPH = Maths(wide_constant, ops.exp, expm1, ops.sqrt)


def _either(on_host: Callable, in_graph: Callable) -> Callable:
    """One function of t for arrays (in float64) and for tensors (inside, in the device's exact precision)."""

    def of_time(t):
        if isinstance(t, Tensor):
            return ops.cast(in_graph(wide(t)), t.dtype)
        return on_host(np.asarray(t, np.float64))

    return of_time


class SDE:
    """An SDE of the table `SDES`.

    The four functions of t (B,) or a number, from 0 to 1: ``marginal_prob_coeff`` (what multiplies x_0),
    ``marginal_prob_std``, ``drift_coeff`` (f(x, t) = drift_coeff(t) x), ``diffusion_coeff`` (g). numpy in, float64 out;
    tensor in, tensor of its dtype out, also in graphs. ``prior_std``: the standard deviation of x_1, of mean 0.
    """

    prior_std: float

    def __init__(self, formulas: Callable[..., Formulas], **arguments: float):
        for name, on_host, in_graph in zip(
            Formulas._fields, formulas(HOST, **arguments), formulas(GRAPH, **arguments), strict=True
        ):
            setattr(self, name, _either(on_host, in_graph))
        self.arguments = arguments

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value:g}' for name, value in self.arguments.items())})"

    def same_as(self, other: SDE) -> bool:
        """Whether both are of one kind with the same numbers."""
        return type(self) is type(other) and self.arguments == other.arguments

    def noise_ratio(self, t: np.ndarray) -> np.ndarray:
        """marginal_prob_std / marginal_prob_coeff: noise over signal, float64; it grows with t."""
        return self.marginal_prob_std(t) / self.marginal_prob_coeff(t)

    def time_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """The t of a `noise_ratio`, float64."""
        raise NotImplementedError

    def prior_logp(self, z: np.ndarray) -> np.ndarray:
        """Log-density (B,) of z (B, ...) under the prior N(0, prior_std^2 I), in nats, float64."""
        return normal_logp(z, self.prior_std)


@remembers()
class VESDE(SDE):
    """Variance exploding: see `ve_formulas`. Raises UserError unless sigma is above 1."""

    def __init__(self, sigma: float = 25.0):
        if not 1 < sigma < math.inf:
            raise UserError(f"sigma is {quoted(sigma)}, expected above 1: noise that grows with t (default 25)")
        super().__init__(ve_formulas, sigma=float(sigma))
        self.prior_std = float(self.marginal_prob_std(1.0))

    def time_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """See `SDE`."""
        return ve_time_of_ratio(np.asarray(ratio, np.float64), **self.arguments)


@remembers()
class _VariancePreserving(SDE):
    formulas: Callable[..., Formulas]
    integral_of_ratio: Callable[[np.ndarray], np.ndarray]  # B of a `noise_ratio`
    prior_std = 1.0

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        if not 0 < beta_min <= beta_max < math.inf:
            raise UserError(
                f"beta_min and beta_max are {quoted(beta_min)} and {quoted(beta_max)}, "
                "expected 0 < beta_min <= beta_max; the paper's: 0.1 and 20"
            )
        super().__init__(type(self).formulas, beta_min=float(beta_min), beta_max=float(beta_max))

    def time_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """See `SDE`."""
        return time_of_integral(self.integral_of_ratio(np.asarray(ratio, np.float64)), **self.arguments)


class VPSDE(_VariancePreserving):
    """Variance preserving: see `vp_formulas`. Raises UserError unless 0 < beta_min <= beta_max."""

    formulas = staticmethod(vp_formulas)
    integral_of_ratio = staticmethod(vp_integral_of_ratio)


class SubVPSDE(_VariancePreserving):
    """Sub-variance preserving: see `subvp_formulas`. Raises UserError unless 0 < beta_min <= beta_max."""

    formulas = staticmethod(subvp_formulas)
    integral_of_ratio = staticmethod(subvp_integral_of_ratio)


SDES: dict[str, type[SDE]] = {"ve": VESDE, "vp": VPSDE, "subvp": SubVPSDE}
