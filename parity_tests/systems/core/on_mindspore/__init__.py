"""The product, `ms_ddpm`, as the harness drives it."""

from .maths import ddim_step, method, tables, times
from .nets import LAYERS, layer, network
from .training import chain, clip, ema, interpolate, loss, loss_scale, optimizer, resume, roundtrip, train

__all__ = ["KINDS", "LAYERS"]

KINDS = {
    "tables": tables, "times": times, "method": method, "ddim_step": ddim_step, "loss": loss, "layer": layer,
    "network": network, "optimizer": optimizer, "clip": clip, "ema": ema, "train": train, "chain": chain,
    "interpolate": interpolate, "roundtrip": roundtrip, "resume": resume, "loss_scale": loss_scale,
}  # fmt: skip
