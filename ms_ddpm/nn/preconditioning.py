"""Score networks that see data of size 1 at every time, and only learn what a straight line does not know."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mindspore import Tensor, nn, ops

from ..arrays import TakesArrays, takes_arrays
from ..errors import UserError, quoted
from ..storage.fingerprint import remembers
from .contract import said_by

if TYPE_CHECKING:
    from .sde import SDE


@remembers()
class PreconditionedScore(TakesArrays):
    """``net`` within the preconditioning of Karras et al., https://arxiv.org/abs/2206.00364, eq. 7 and table 1.

    Theirs is D(x) = c_skip x + c_out F(c_in x) for x = x_0 + std z. With the data's mean m and deviation sigma_data, of
    all pixels, and x = coeff x_0 + std z of any SDE:

        total = coeff^2 sigma_data^2 + std^2                                           the variance of x's pixels
        score = -(x - coeff m) / total + coeff sigma_data / sqrt(total) net((x - coeff m) / sqrt(total), t)

    The first term is the score of Gaussian data; with all noise it is nearly everything, and ``net`` is multiplied by
    nearly 0. A bare network has to find that first, and its error there moves every image that is sampled. The loss of
    a `ScoreModel` around it has their weight 1 / c_out^2, see `error`.

    Called as ``net`` is, with its shapes: net(x, t) or net(x, t, y). ``net`` divides by std(t) itself, as all of ours.

    Args:
        net: a score network.
        sde: see `ms_ddpm.nn.sde`.
        sigma_data: the data's standard deviation, above 0.
        data_mean: the data's mean.

    Raises:
        UserError: for a sigma_data of 0 or less.
    """

    whole_numbers = frozenset({"y"})
    named_as_torch = True  # see `ms_ddpm.storage.convert`

    def __init__(self, net: nn.Cell, sde: SDE, sigma_data: float, data_mean: float = 0.0):
        super().__init__()
        if not 0 < sigma_data < math.inf:
            raise UserError(f"sigma_data is {quoted(sigma_data)}, expected the data's standard deviation, above 0")
        if not math.isfinite(data_mean):
            raise UserError(f"data_mean is {quoted(data_mean)}, expected the data's mean")
        self.net, self.sde = net, sde
        self.sigma_data, self.data_mean = float(sigma_data), float(data_mean)
        self.num_classes, self.null_class = said_by(net, "num_classes"), said_by(net, "null_class")
        self.check_size = said_by(net, "check_size")

    def per_image(self, value: Tensor) -> Tensor:
        """(B,) -> (B, 1, 1, 1)."""
        return value.reshape(-1, 1, 1, 1)

    def spread_and_total(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The deviation of coeff x_0 and the variance of x, (B, 1, 1, 1)."""
        spread = self.per_image(self.sde.marginal_prob_coeff(t)) * self.sigma_data
        noise = self.per_image(self.sde.marginal_prob_std(t))
        return spread, spread * spread + noise * noise

    def output(self, x: Tensor, t: Tensor, *y: Tensor) -> Tensor:
        """``net`` of what it is given for x; it is F / std."""
        _, total = self.spread_and_total(t)
        return self.net(self.centred(x, t) / ops.sqrt(total), t, *y)

    def centred(self, x: Tensor, t: Tensor) -> Tensor:
        """x without the data's mean."""
        return x - self.per_image(self.sde.marginal_prob_coeff(t)) * self.data_mean

    @takes_arrays
    def error(self, x_0: Tensor, x: Tensor, t: Tensor, z: Tensor, *y: Tensor) -> Tensor:
        """F - (std (x_0 - m) / sigma_data - coeff sigma_data z) / sqrt(total), of x's shape, for x = coeff x_0 + std z.

        It is std score + z, multiplied by sqrt(total) / (coeff sigma_data), without the difference of two large
        numbers: Karras et al.'s loss, lambda = 1 / c_out^2. Times all count alike then; in terms of z the noisiest,
        where images get their shapes, count least, because the straight line knows their z almost.
        """
        spread, total = self.spread_and_total(t)
        std = self.per_image(self.sde.marginal_prob_std(t))
        target = (std * (x_0 - self.data_mean) / self.sigma_data - spread * z) / ops.sqrt(total)
        return std * self.output(x, t, *y) - target

    def construct(self, x: Tensor, t: Tensor, *y: Tensor) -> Tensor:
        spread, total = self.spread_and_total(t)
        return spread / ops.sqrt(total) * self.output(x, t, *y) - self.centred(x, t) / total
