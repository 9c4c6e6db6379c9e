"""LoRA: Hu et al., "Low-Rank Adaptation of Large Language Models", https://arxiv.org/abs/2106.09685.

    h = W_0 x + scale alpha / r B A x        eq. 3 and section 4.1, W_0 frozen

Section 4.1: A starts random, B at 0; here A is normal with deviation 1 / r, as in diffusers' training. ``scale`` is
what a user turns the finished adapter up or down with.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class LoRA(nn.Module):
    """A frozen layer with a low-rank change beside it; around another LoRA it adds a second one.

    Args:
        layer: a Linear, a Conv2d or a LoRA.
        rank: of the change, 1 or more.
        alpha: the change is multiplied by alpha / rank.
        rng: where A is drawn from.
    """

    def __init__(self, layer: nn.Module, rank: int, alpha: float, rng: np.random.Generator):
        super().__init__()
        self.layer = layer.requires_grad_(False) if not isinstance(layer, LoRA) else layer
        self.rank = rank
        self.alpha = alpha
        self.scale = 1.0
        out, *inner = self.base().weight.shape
        drawn = rng.standard_normal((rank, *inner), dtype=np.float32) * np.float32(1 / rank)
        self.A = nn.Parameter(torch.from_numpy(drawn))
        self.B = nn.Parameter(torch.zeros(out, rank, *(1 for _ in inner[1:])))

    def base(self) -> nn.Module:
        """The layer at the bottom."""
        return self.layer.base() if isinstance(self.layer, LoRA) else self.layer

    def factor(self) -> float:
        """scale alpha / r."""
        return self.scale * self.alpha / self.rank

    def change(self, x: Tensor) -> Tensor:
        """B A x. Of a convolution, A is one with its kernel, stride and padding, and B one of 1x1."""
        base = self.base()
        if isinstance(base, nn.Linear):
            return x @ self.A.T @ self.B.T
        return functional.conv2d(functional.conv2d(x, self.A, None, base.stride, base.padding), self.B)

    def forward(self, x: Tensor) -> Tensor:
        """h, as above."""
        return self.layer(x) + self.factor() * self.change(x)

    def merged(self) -> Tensor:
        """W_0 + scale alpha / r B A: no slower than the layer alone (section 4.1)."""
        weight = self.layer.merged() if isinstance(self.layer, LoRA) else self.layer.weight
        return weight + self.factor() * torch.einsum("or,r...->o...", self.B.flatten(1), self.A)


def add_lora(
    network: nn.Module, targets: Iterable[str], rank: int, alpha: float, rng: np.random.Generator
) -> dict[str, LoRA]:
    """Puts a LoRA around each layer whose name is, or ends in a dot and, one of ``targets``; the rest is frozen.

    Returns the LoRAs by the names of the layers, in the network's order.
    """
    network.requires_grad_(False)
    made = {}
    for name, layer in list(network.named_modules()):
        base = name.replace(".layer", "")
        if base in made or not any(f".{base}".endswith(f".{target}") for target in targets):
            continue
        made[base] = LoRA(layer, rank, alpha, rng)
        holder, _, last = name.rpartition(".")
        setattr(network.get_submodule(holder), last, made[base])
    for module in network.modules():
        if isinstance(module, LoRA):
            module.A.requires_grad_(True)
            module.B.requires_grad_(True)
    return made
