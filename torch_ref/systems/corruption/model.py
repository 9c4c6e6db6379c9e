"""Learning by corruption: damage an image by an amount a in [0, 1], learn to undo it, sample by going step by step.

x is (B, C, H, W) in [0, 1], amount (B,), z what is random: of x's shape and drawn by the caller.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def column(amount: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return amount.view(-1, 1, 1, 1)


def corrupt(x: Tensor, amount: Tensor, noise: Tensor) -> Tensor:
    """x (1 - a) + noise a."""
    return x * (1 - column(amount)) + noise * column(amount)


def gaussian(x: Tensor, amount: Tensor, z: Tensor) -> Tensor:
    """Additive, of standard deviation a (Gonzalez & Woods, Digital Image Processing, 5.2); z standard normal."""
    return x + column(amount) * z


def salt_and_pepper(x: Tensor, amount: Tensor, z: Tensor) -> Tensor:
    """Impulses: 0 where z is in [0, a/2), 1 where it is in [a/2, a) (Gonzalez & Woods, 5.2); z uniform in [0, 1)."""
    pepper, damaged = z < column(amount) / 2, z < column(amount)
    return x.masked_fill(damaged, 1.0).masked_fill(pepper, 0.0)


def poisson(x: Tensor, amount: Tensor, z: Tensor) -> Tensor:
    """Shot noise: z ~ Poisson(x / a^2) photons, where a white pixel gets 1 / a^2; none for a < 2^-24."""
    return torch.where(column(amount) < 2.0**-24, x, z * column(amount) ** 2)


def multiplicative(x: Tensor, amount: Tensor, z: Tensor) -> Tensor:
    """Speckle: x times noise of mean 1 and standard deviation a (Lee 1980); z standard normal."""
    return x * (1 + column(amount) * z)


NOISES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "uniform": corrupt, "gaussian": gaussian, "salt_and_pepper": salt_and_pepper, "poisson": poisson,
    "multiplicative": multiplicative,
}  # fmt: skip


class Corruption(nn.Module):
    """A network that answers a corrupted image with the image: ``model(x)``, and the kind of noise it undoes."""

    def __init__(self, model: nn.Module, noise_kind: str = "uniform") -> None:
        super().__init__()
        self.model = model
        self.noise_kind = noise_kind

    def forward(self, img: Tensor, amount: Tensor, z: Tensor) -> Tensor:
        """The mean squared error of the answer, a scalar."""
        corrupted = NOISES[self.noise_kind](img, amount, z)
        return nn.functional.mse_loss(self.model(corrupted), img)

    def step(self, x: Tensor, mix: float) -> tuple[Tensor, Tensor]:
        """(x moved by the share ``mix`` towards the answer, the answer)."""
        prediction = self.model(x)
        return x * (1 - mix) + prediction * mix, prediction

    @torch.no_grad()
    def chain(self, z: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """From grey at amount 1: every state (B, steps + 1, C, H, W) and every answer (B, steps, C, H, W)."""
        grey = torch.full_like(z, 0.5)
        x = NOISES[self.noise_kind](grey, torch.ones(len(z), dtype=z.dtype), z)
        states, predictions = [x], []
        for i in range(steps):
            x, prediction = self.step(x, 1 / (steps - i))
            states.append(x)
            predictions.append(prediction)
        return torch.stack(states, 1), torch.stack(predictions, 1)
