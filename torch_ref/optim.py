"""Adam, AdamW and clipping, as the papers and ``torch.optim`` define them. Gradients are arguments, never ``.grad``."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor] | Iterable[Tensor]


def by_name(tensors: Tensors) -> dict:
    """A dict as it is; a list under the names 0, 1, ..."""
    return dict(tensors) if isinstance(tensors, Mapping) else dict(enumerate(tensors))


class Adam:
    """Kingma & Ba 2014 (https://arxiv.org/abs/1412.6980), Algorithm 1; ``weight_decay`` w adds w theta to the gradient.

    ``step`` takes gradients in the form in which ``parameters`` were given: a list in their order, or a dict by name.
    """

    def __init__(
        self,
        parameters: Tensors,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = by_name(parameters)
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.steps = 0
        self.exp_avg = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.exp_avg_sq = {name: torch.zeros_like(p) for name, p in self.parameters.items()}

    def decayed(self, theta: Tensor, g: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """(theta, gradient) after weight decay: an L2 penalty, whose gradient Adam then scales with the rest."""
        return theta, g + self.weight_decay * theta if self.weight_decay else g

    @torch.no_grad()
    def step(self, grads: Tensors, lr: float | None = None) -> None:
        """One update, at learning rate ``lr`` if given."""
        grads = by_name(grads)
        if grads.keys() != self.parameters.keys():
            raise ValueError(f"gradients of {sorted(grads)}, expected of {sorted(self.parameters)}")
        lr = self.lr if lr is None else lr
        beta1, beta2 = self.betas
        self.steps += 1
        for name, parameter in self.parameters.items():
            theta, g = self.decayed(parameter, grads[name], lr)
            m = self.exp_avg[name] = beta1 * self.exp_avg[name] + (1 - beta1) * g
            v = self.exp_avg_sq[name] = beta2 * self.exp_avg_sq[name] + (1 - beta2) * g**2
            m_hat = m / (1 - beta1**self.steps)
            v_hat = v / (1 - beta2**self.steps)
            parameter.data = theta - lr * m_hat / (torch.sqrt(v_hat) + self.eps)


class AdamW(Adam):
    """Loshchilov & Hutter 2017 (https://arxiv.org/abs/1711.05101), Algorithm 2: the decay does not go through Adam."""

    def __init__(
        self,
        parameters: Tensors,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def decayed(self, theta: Tensor, g: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """(theta, gradient) after weight decay: theta shrinks by itself."""
        return theta * (1 - lr * self.weight_decay), g


def clip_by_global_norm(grads: Tensors, max_norm: float) -> tuple[Tensors, Tensor]:
    """(gradients scaled by min(1, max_norm / (norm + 1e-6)), norm), norm being that of all gradients as one vector."""
    named = by_name(grads)
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in named.values()]))
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    clipped = {name: g * factor for name, g in named.items()}
    return clipped if isinstance(grads, Mapping) else list(clipped.values()), norm
