"""numpy in float64: the oracle (`parity_tests.oracle` and that of each system), called like a framework."""

from __future__ import annotations

from collections.abc import Mapping

from ..systems import joined, parts

KINDS, LAYERS = joined("on_numpy"), joined("on_numpy", "LAYERS")
OF_NETWORKS = {kind for module in parts("on_numpy") for kind in getattr(module, "OF_NETWORKS", ())}


def why_not(spec: Mapping) -> str:
    """Why numpy does not do a computation: it has no U-Net nor its blocks, and no network in losses."""
    known = spec["kind"] in KINDS and (spec["kind"] in OF_NETWORKS or not {"unet", "net"} & set(spec))
    if spec["kind"] == "layer":
        known = spec["layer"] in LAYERS
    return "" if known else f"the oracle in numpy has no {spec['kind']!r} of this network"
