"""Stable Diffusion of `torch_ref`: its blocks and networks, and what is drawn with them."""

from portparity.rounded_products import with_rounded_products

from .drawing import sd_drawing, sd_guided, sd_latents
from .networks import LAYERS, NETWORKS, sd_files, sd_network, sd_network_scales

__all__ = ["KINDS", "LAYERS", "NETWORKS"]

KINDS = {
    "sd_guided": sd_guided, "sd_files": sd_files, "sd_network_scales": sd_network_scales,
    **{run.__name__: with_rounded_products(run) for run in (sd_network, sd_latents, sd_drawing)},
}  # fmt: skip
