"""The convolutional autoencoder of latent diffusion on small images.

Names in the state dict are ``encoder.0.weight`` ... ``decoder.6.bias``, those of two plain ``nn.Sequential``.
"""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from torch_ref.layers import initialise


class AutoEncoder(nn.Module):
    """(B, in_channels, 28, 28) in [0, 1] -> latents (B, channels[2], 10, 10) -> the same in (0, 1)."""

    def __init__(
        self,
        channels: Sequence[int] = (4, 4, 4),
        *,
        in_channels: int = 1,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        c1, c2, c3 = channels
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, c1, 3),
            nn.BatchNorm2d(c1),
            nn.SiLU(),
            nn.Conv2d(c1, c2, 3, stride=2),
            nn.BatchNorm2d(c2),
            nn.SiLU(),
            nn.Conv2d(c2, c3, 3),
            nn.BatchNorm2d(c3),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(c3, c2, 3),
            nn.BatchNorm2d(c2),
            nn.SiLU(),
            nn.ConvTranspose2d(c2, c1, 3, stride=2, output_padding=1),
            nn.BatchNorm2d(c1),
            nn.SiLU(),
            nn.ConvTranspose2d(c1, in_channels, 3),
            nn.Sigmoid(),
        )
        if rng is not None:
            initialise(self, rng)

    def encode(self, x: Tensor) -> Tensor:
        """Images -> latents."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Latents -> images."""
        return self.decoder(z)

    def forward(self, x: Tensor) -> Tensor:
        """Images -> reconstructions."""
        return self.decode(self.encode(x))


def autoencoder_loss(
    x: Tensor, reconstruction: Tensor, perceptual: Callable | None = None, perceptual_weight: float = 1.0
) -> Tensor:
    """Mean squared error and, weighted, the mean of ``perceptual(x, reconstruction)``; images in [0, 1]."""
    loss = F.mse_loss(reconstruction, x)
    return loss if perceptual is None else loss + perceptual_weight * perceptual(x, reconstruction).mean()
