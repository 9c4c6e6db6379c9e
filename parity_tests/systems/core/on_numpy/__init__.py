"""numpy in float64: the mathematics (`diffusion`), and the layers alone, forward (`layers`)."""

from .diffusion import (
    chain,
    clip,
    ddim_scales,
    ddim_step,
    ema,
    given_back,
    interpolate,
    loss,
    loss_scale,
    method,
    method_scales,
    optimizer,
    tables,
    times,
)
from .layers import LAYERS, layer

__all__ = ["KINDS", "LAYERS", "OF_NETWORKS"]

KINDS = {
    "tables": tables, "times": times, "method": method, "method_scales": method_scales, "ddim_step": ddim_step,
    "ddim_scales": ddim_scales, "loss": loss, "optimizer": optimizer, "clip": clip, "ema": ema, "chain": chain,
    "interpolate": interpolate, "roundtrip": given_back, "loss_scale": loss_scale, "layer": layer,
}  # fmt: skip
OF_NETWORKS = ("layer", "roundtrip")  # which of them do networks too; the others know the stand-in alone
