"""PyTorch: the reference, `torch_ref`, as the harness drives it."""

from portparity.rounded_products import with_rounded_products

from . import corruption
from .first_ddpm import KINDS as FIRST_DDPM
from .latent import KINDS as LATENT
from .latent import module_shapes
from .maths import ddim_step, method, tables, times
from .nets import layer, layer_scales, network, network_scales, weight_shapes
from .schedulers import KINDS as SCHEDULERS
from .score import KINDS as SCORE
from .training import chain, clip, ema, interpolate, loss, loss_scale, optimizer, roundtrip, train

__all__ = ["KINDS", "module_shapes", "weight_shapes"]

KINDS = {
    "tables": tables, "times": times, "method": method, "ddim_step": ddim_step, "optimizer": optimizer, "clip": clip,
    "ema": ema, "interpolate": interpolate, "roundtrip": roundtrip, "loss_scale": loss_scale,
    **{run.__name__: with_rounded_products(run) for run in (loss, layer, network, train, chain)},
    "score_network": with_rounded_products(network), "layer_scales": layer_scales, "network_scales": network_scales,
    "score_network_scales": network_scales, **SCORE, **LATENT, **SCHEDULERS, **FIRST_DDPM, **corruption.KINDS,
}  # fmt: skip
