"""Score matching (Song et al. 2021, https://arxiv.org/abs/2011.13456) and classifier-free guidance.

The network is any ``net(x, t)`` or ``net(x, t, y)`` -> grad log p_t(x | y); class ``num_classes`` means "none".
"""

import torch
from torch import Tensor, nn

from .sde import VESDE


def per_image(t: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return t[:, None, None, None]


class PreconditionedScore(nn.Module):
    """``net`` in the terms of Karras et al. 2022, https://arxiv.org/abs/2206.00364, table 1: D = c_skip x + c_out F.

    ``net`` gives F / std. x = coeff x_0 + std z, where x_0 has the mean ``data_mean`` and the deviation ``sigma_data``.
    """

    def __init__(self, net: nn.Module, sde: VESDE, sigma_data: float, data_mean: float = 0.0) -> None:
        super().__init__()
        self.net = net
        self.sde = sde
        self.sigma_data = sigma_data
        self.data_mean = data_mean

    def coeff_and_total(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """coeff, and the variance of x."""
        coeff, std = per_image(self.sde.marginal_prob_coeff(t)), per_image(self.sde.marginal_prob_std(t))
        return coeff, (coeff * self.sigma_data) ** 2 + std**2

    def loss_scale(self, t: Tensor) -> Tensor:
        """From an error of z to one of F: the loss is weighted by 1 / c_out^2."""
        coeff, total = self.coeff_and_total(t)
        return torch.sqrt(total) / (coeff * self.sigma_data)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The score (B, C, H, W)."""
        coeff, total = self.coeff_and_total(t)
        centred = x - coeff * self.data_mean
        scaled = centred / torch.sqrt(total)
        f = self.net(scaled, t) if y is None else self.net(scaled, t, y)
        return coeff * self.sigma_data / torch.sqrt(total) * f - centred / total


class ScoreModel(nn.Module):
    """A score network and the SDE whose scores it knows."""

    def __init__(self, net: nn.Module, sde: VESDE, *, num_classes: int = 0) -> None:
        super().__init__()
        self.net = net
        self.sde = sde
        self.num_classes = num_classes

    def perturb(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """A sample of p(x_t | x_0)   (eq. 29)."""
        return per_image(self.sde.marginal_prob_coeff(t)) * x + per_image(self.sde.marginal_prob_std(t)) * z

    def forward(
        self, x: Tensor, t: Tensor, z: Tensor, y: Tensor | None = None, dropped: Tensor | None = None
    ) -> Tensor:
        """The loss (eq. 7, weighted by std^2): p(x_t | x_0) has the score -z / std. ``dropped`` classes are hidden.

        A preconditioned network's is weighted as Karras et al. do.
        """
        if dropped is not None:
            y = torch.where(dropped > 0, self.num_classes, y)
        std = per_image(self.sde.marginal_prob_std(t))
        error = self.score(self.perturb(x, t, z), t, y) * std + z
        if isinstance(self.net, PreconditionedScore):
            error = error * self.net.loss_scale(t)
        return torch.mean(torch.sum(error**2, dim=(1, 2, 3)))

    def score(self, x: Tensor, t: Tensor, y: Tensor | None = None, guidance_scale: float = 1.0) -> Tensor:
        """The score; guided (Ho & Salimans 2022, https://arxiv.org/abs/2207.12598, eq. 6, w = scale - 1) unless 1."""
        if y is None:
            return self.net(x, t)
        of_class = self.net(x, t, y)
        if guidance_scale == 1:
            return of_class
        of_none = self.net(x, t, torch.full_like(y, self.num_classes))
        return of_none + guidance_scale * (of_class - of_none)
