"""Stable Diffusion of `ms_ddpm`: its blocks and networks, their files, and the pipeline that draws with them."""

from .drawing import sd_drawing, sd_guided, sd_latents
from .files import sd_files
from .networks import LAYERS, NETWORKS, sd_network

__all__ = ["KINDS", "LAYERS", "NETWORKS"]

KINDS = {run.__name__: run for run in (sd_network, sd_guided, sd_latents, sd_drawing, sd_files)}
