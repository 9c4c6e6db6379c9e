"""PyTorch: the reference, `torch_ref`, as the harness drives it."""

from .maths import ddim_step, method, tables, times
from .nets import layer, layer_scales, network, network_scales, weight_shapes
from .training import chain, clip, ema, interpolate, loss, optimizer, roundtrip, train

__all__ = ["KINDS", "weight_shapes"]

KINDS = {
    "tables": tables, "times": times, "method": method, "ddim_step": ddim_step, "loss": loss, "layer": layer,
    "network": network, "optimizer": optimizer, "clip": clip, "ema": ema, "train": train, "chain": chain,
    "interpolate": interpolate, "roundtrip": roundtrip,
    "layer_scales": layer_scales, "network_scales": network_scales,
}  # fmt: skip
