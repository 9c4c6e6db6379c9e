"""MindSpore: the product, `ms_ddpm`, as the harness drives it."""

from ..shared_mindspore import runtime  # noqa: F401  MindSpore starts before anything below is imported
from .corruption import KINDS as CORRUPTION
from .first_ddpm import KINDS as FIRST_DDPM
from .latent import KINDS as LATENT
from .maths import ddim_step, method, tables, times
from .nets import layer, network, why_not  # noqa: F401  why_not is asked by backends
from .schedulers import KINDS as SCHEDULERS
from .score import KINDS as SCORE
from .score_nets import score_network
from .training import chain, clip, ema, interpolate, loss, loss_scale, optimizer, resume, roundtrip, train

KINDS = {
    "tables": tables, "times": times, "method": method, "ddim_step": ddim_step, "loss": loss, "layer": layer,
    "network": network, "score_network": score_network, "optimizer": optimizer, "clip": clip, "ema": ema,
    "train": train, "chain": chain, "interpolate": interpolate, "roundtrip": roundtrip, "resume": resume,
    "loss_scale": loss_scale, **SCORE, **LATENT, **SCHEDULERS, **FIRST_DDPM, **CORRUPTION,
}  # fmt: skip
