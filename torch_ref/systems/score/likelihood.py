"""log p_0(x) of a score model, by the probability-flow ODE (Song et al. 2021, https://arxiv.org/abs/2011.13456)."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from .model import ScoreModel, per_image
from .sde import flow_times


def slope_and_divergence(
    model: ScoreModel, x: Tensor, time: float, probe: Tensor, y: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """f~ = f - g^2 score / 2 at (x, t) (eq. 13), and the estimate probe^T (df~/dx) probe of its divergence (eq. 40)."""
    t = torch.full((len(x),), time, dtype=x.dtype, device=x.device)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        slope = per_image(model.sde.drift_coeff(t)) * x
        slope = slope - 0.5 * per_image(model.sde.diffusion_coeff(t)) ** 2 * model.score(x, t, y)
        pulled = torch.autograd.grad((slope * probe).sum(), x)[0]
    return slope.detach(), (pulled * probe).flatten(1).sum(1)


def log_likelihood(
    model: ScoreModel, x: Tensor, probe: Tensor, *, steps: int = 100, eps: float = 1e-5, y: Tensor | None = None
) -> Tensor:
    """log p_0(x), (B,) in nats, with one probe: log p_1(x_1) + the integral of the divergence (eq. 39), by Heun."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for now, after in pairwise(flow_times(model.sde, steps, eps)[::-1]):
        first, div_first = slope_and_divergence(model, x, now, probe, y)
        second, div_second = slope_and_divergence(model, x + (after - now) * first, after, probe, y)
        x = x + (after - now) * (first + second) / 2
        total += (after - now) * (div_first + div_second).double() / 2
    variance, z = model.sde.prior_std**2, x.double().flatten(1)
    prior = -0.5 * (z.shape[1] * math.log(2 * math.pi * variance) + (z**2).sum(1) / variance)
    return prior + total


def bits_per_dim(log_p: Tensor, dimensions: int, levels: int | None = None) -> Tensor:
    """-log2 p / dimensions; where ``levels`` grey levels were spread evenly over [0, 1], plus log2 levels."""
    return -log_p / (dimensions * math.log(2)) + (math.log2(levels) if levels else 0.0)
