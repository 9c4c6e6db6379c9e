"""The class of docs/first_ddpm.md, a beginner's DDPM (Ho et al. 2020, https://arxiv.org/abs/2006.11239)."""

import numpy as np
import torch
from torch import Tensor, nn


class FirstDDPM(nn.Module):
    """Noise in (`forward`), noise out (`backward`), images in [-1, 1]; its state_dict is ``network.*``.

    The tables are float64 rounded to ``dtype``; the article multiplies every prefix anew in float32.
    """

    def __init__(
        self,
        network: nn.Module,
        n_steps: int = 200,
        min_beta: float = 1e-4,
        max_beta: float = 0.02,
        image_chw: tuple[int, int, int] = (1, 28, 28),
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.n_steps = n_steps
        self.image_chw = image_chw
        self.network = network
        betas = np.linspace(min_beta, max_beta, n_steps)
        tables = {"betas": betas, "alphas": 1 - betas, "alpha_bars": np.cumprod(1 - betas)}
        tables |= {"signal": np.sqrt(tables["alpha_bars"]), "spread": np.sqrt(1 - tables["alpha_bars"])}
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table).to(dtype), persistent=False)

    def forward(self, x0: Tensor, t: Tensor, eta: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eta   (eq. 4)."""
        t = t.reshape(-1, 1, 1, 1)
        return self.signal[t] * x0 + self.spread[t] * eta

    def backward(self, x: Tensor, t: Tensor) -> Tensor:
        """The network's estimate of the noise in x."""
        return self.network(x, t.reshape(-1))
