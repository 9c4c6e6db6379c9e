"""Tiers 2 and 3 of the networks (`networks`), 6 of their files (`files`), 1, 3 and 5 of what is drawn (`drawing`)."""

from __future__ import annotations

from collections.abc import Iterator

from portparity.case import Case

from . import drawing, networks
from .drawing import tier1, tier5
from .files import tier6
from .networks import tier2

__all__ = ["PRODUCTS", "SMALL_SET", "WITHOUT_PRODUCTS", "tier1", "tier2", "tier3", "tier5", "tier6"]


def tier3(seed: int = 0) -> Iterator[Case]:
    """Each network, and the way of an image to latents and back through the pipeline."""
    yield from networks.tier3(seed)
    yield from drawing.tier3(seed)


PRODUCTS = {"sd_network": "", "sd_latents": "", "sd_drawing": ""}
WITHOUT_PRODUCTS = ("sd_timesteps",)
SMALL_SET = ("sampling/sd_pndm",)  # what parity_tests/bundles holds of it
