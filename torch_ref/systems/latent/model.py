"""Latent diffusion (Rombach et al. 2022, https://arxiv.org/abs/2112.10752): a score model over normalised latents."""

import torch
from torch import Tensor, nn

from torch_ref.systems.score.model import ScoreModel

from .autoencoder import AutoEncoder


def channel_statistics(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) standard deviation of latents (N, C, H, W) over all but the channels: (1, C, 1, 1) each."""
    over = (0, 2, 3)
    return latents.mean(dim=over, keepdim=True), latents.std(dim=over, keepdim=True, correction=0)


class LatentDiffusion(nn.Module):
    """``model`` knows the score of (z - mean) / std, z an image's latent."""

    def __init__(self, model: ScoreModel, autoencoder: AutoEncoder, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, z: Tensor, *inputs: Tensor) -> Tensor:
        """The model's loss of latents as the encoder gave them; ``inputs`` as of `ScoreModel`."""
        return self.model((z - self.mean) / self.std, *inputs)

    @torch.no_grad()
    def decode(self, sampled: Tensor) -> Tensor:
        """Images in (0, 1) of latents that a sampler made with ``model``."""
        return self.autoencoder.decode(sampled * self.std + self.mean)
