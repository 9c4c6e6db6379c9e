"""The reference, `torch_ref`, as the harness drives it."""

from portparity.rounded_products import with_rounded_products

from .maths import ddim_step, method, tables, times
from .nets import LAYERS, NETWORKS, layer, layer_scales, network, network_scales
from .training import chain, clip, ema, interpolate, loss, loss_scale, optimizer, roundtrip, train

__all__ = ["KINDS", "LAYERS", "NETWORKS"]

KINDS = {
    "tables": tables, "times": times, "method": method, "ddim_step": ddim_step, "optimizer": optimizer, "clip": clip,
    "ema": ema, "interpolate": interpolate, "roundtrip": roundtrip, "loss_scale": loss_scale,
    **{run.__name__: with_rounded_products(run) for run in (loss, layer, network, train, chain)},
    "layer_scales": layer_scales, "network_scales": network_scales,
}  # fmt: skip
