"""The layers of Stable Diffusion's networks in float64, forward alone, and guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from parity_tests.oracle.layers import part
from portparity.case import Arrays

from . import oracle

LAYERS: dict[str, Callable] = {  # kind: (arguments, weights, what it is called with) -> output
    "sd_timesteps": lambda a, w, t: oracle.timesteps(t, a["dim"], a["cos_first"], a["shift"]),
    "sd_timestep_embedding": lambda a, w, x: oracle.timestep_embedding(x, w),
    "sd_resnet_block": lambda a, w, x, emb=None: oracle.resnet_block(x, w, a["groups"], a["eps"], emb),
    "sd_downsample": lambda a, w, x: oracle.downsample(x, w, a["padding"]),
    "sd_upsample": lambda a, w, x: oracle.upsample(x, part(w, "upsample"), a["size"]),
    "sd_attention": lambda a, w, x, context=None: oracle.attention(x, w, a["heads"], context),
    "sd_image_attention": lambda a, w, x: oracle.image_attention(x, w, a["heads"], a["groups"], a["eps"]),
    "sd_geglu": lambda a, w, x: oracle.geglu(x, w),
    "sd_feed_forward": lambda a, w, x: oracle.feed_forward(x, w),
    "sd_transformer": lambda a, w, x, context: oracle.transformer(x, w, a["heads"], a["layers"], a["groups"], context),
}


def sd_guided(spec: Mapping, inputs: Arrays) -> Arrays:
    """The guided output."""
    return {"eps": oracle.guided(inputs["plain"], inputs["prompted"], spec["scale"], spec["share"])[0]}


def sd_guided_scales(spec: Mapping, inputs: Arrays) -> Arrays:
    """The magnitude of its larger operand."""
    return {"eps": oracle.guided(inputs["plain"], inputs["prompted"], spec["scale"], spec["share"])[1]}


def sd_files(spec: Mapping, inputs: Arrays) -> Arrays:
    """The weights as they are."""
    return dict(inputs)


KINDS = {"sd_guided": sd_guided, "sd_guided_scales": sd_guided_scales, "sd_files": sd_files}
OF_NETWORKS = ("sd_files",)
