"""Latent diffusion: a score model over an autoencoder's latents; Rombach et al., https://arxiv.org/abs/2112.10752."""

from __future__ import annotations

from ..score import ScoreSystem
from .config import LatentConfig


class LatentSystem(ScoreSystem):
    """What the score system does, over the latents of a trained autoencoder."""

    name = "latent"
    summary = "score matching over the latents of an autoencoder"
    Config = LatentConfig

    def build(self, config):
        from .latent_diffusion import build_latent

        return build_latent(config)

    def describe(self, cell):
        from .described import describe

        return describe(cell)

    def parameter_count(self, config):
        from .size import parameter_count

        return parameter_count(config)

    def open_data(self, config, cell):
        return cell.open_data(config)

    def keep_data(self, cell, folder):
        cell.keep_data(folder)

    def to_images(self, cell, batch):
        return cell.to_images(batch)

    def torch_part(self, cell):
        return super(ScoreSystem, self).torch_part(cell)


SYSTEM = LatentSystem()
