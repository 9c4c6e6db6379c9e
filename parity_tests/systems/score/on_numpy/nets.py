"""The score networks and their layers in float64, forward alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from parity_tests import oracle as shared
from parity_tests.oracle.layers import conv_transpose2d, part
from portparity.arrays import given
from portparity.case import Arrays

from ..oracle import nets as oracle


def _output_padding(x, a: Mapping) -> tuple[int, ...] | int:
    """What an output size that is asked for adds to the smallest there is."""
    if "output_size" not in a:
        return a.get("output_padding", 0)
    smallest = [(side - 1) * a["stride"] + a["kernel_size"] for side in x.shape[2:]]
    return tuple(wanted - side for wanted, side in zip(a["output_size"], smallest, strict=True))


LAYERS: dict[str, Callable] = {  # kind: (arguments, weights, what it is called with) -> output
    "conv_transpose2d": lambda a, w, x: conv_transpose2d(
        x, w["weight"], w.get("bias"), a.get("stride", 1), a.get("padding", 0), _output_padding(x, a)
    ),
    "gaussian_fourier": lambda a, w, t: oracle.gaussian_fourier(t, w["W"]),
    "layer_norm": lambda a, w, x: oracle.layer_norm(x, **w),
    "linear_of_sequence": lambda a, w, x: shared.linear(x, **w),
    "embedding": lambda a, w, labels: w["weight"][labels],
    "time_stage": lambda a, w, x, shift: shared.silu(
        shared.group_norm(x + shift[:, :, None, None], a["groups"], **part(w, "norm"))
    ),
    "cross_attention": lambda a, w, x, context=None: oracle.cross_attention(x, w, context, a.get("num_heads", 1)),
    "transformer_block": lambda a, w, x, context: oracle.transformer_block(x, w, context),
    "spatial_transformer": lambda a, w, x, context: oracle.spatial_transformer(x, w, context, a["num_heads"]),
}  # fmt: skip


def score_network(spec: Mapping, inputs: Arrays) -> Arrays:
    """A whole score network: its output."""
    a = spec["arguments"]
    y = oracle.score_net(
        inputs["x"], inputs["t"], given(inputs, "weight"), inputs["t"].astype(np.float64) + 0.25, inputs.get("labels"),
        groups=4 if spec["net"] == "latent_score_unet" else 32, heads=a.get("num_heads", 1),
        concat=spec["net"] == "score_unet" and a.get("skips") != "add", whole=a.get("whole", False),
    )  # fmt: skip
    return {"y": y}
