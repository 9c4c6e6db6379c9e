"""The float64 oracle of the networks' layers, forward alone: a second truth.

The cases of tiers 2 and 3 are judged by PyTorch in double, which has gradients too; test_truths.py holds it to this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from parity_tests import oracle
from parity_tests.oracle.layers import part
from parity_tests.systems import joined
from portparity.arrays import given
from portparity.case import Arrays

GROUPS = 8


def _conv(x: np.ndarray, w: Arrays, stride: int = 1, padding: int = 0) -> np.ndarray:
    return oracle.conv2d(x, w["weight"], w.get("bias"), stride, padding)


def _block(x, w: Arrays, norm: str, scale=None, shift=None, kept=1.0) -> np.ndarray:
    """Convolution, norm, x (scale + 1) + shift, SiLU, and what is ``kept`` of it."""
    kernel = w["proj.weight"]
    y = oracle.conv2d(x, oracle.standardize_weight(kernel) if norm == "group" else kernel, w["proj.bias"], padding=1)
    y = oracle.rms_norm(y, w["norm.g"]) if norm == "rms" else oracle.group_norm(y, GROUPS, **part(w, "norm"))
    if scale is not None:
        y = y * (scale + 1) + shift
    return oracle.silu(y) * kept


def _resnet_block(x, w: Arrays, norm: str, t) -> np.ndarray:
    scale, shift = np.split(oracle.linear(oracle.silu(t), **part(w, "mlp.1"))[:, :, None, None], 2, axis=1)
    y = _block(_block(x, part(w, "block1"), norm, scale, shift), part(w, "block2"), norm)
    return y + (_conv(x, part(w, "res_conv")) if "res_conv.weight" in w else x)


def _time_mlp(embedded: np.ndarray, w: Arrays) -> np.ndarray:
    """Ending with the SiLU with which every block begins."""
    return oracle.silu(oracle.linear(oracle.gelu(oracle.linear(embedded, **part(w, "1"))), **part(w, "3")))


LAYERS: dict[str, Callable] = {  # kind: (arguments, weights, what it is called with) -> output
    "conv2d": lambda a, w, x: _conv(x, w, a.get("stride", 1), a.get("padding", 0)),
    "weight_standardized_conv2d": lambda a, w, x: oracle.conv2d(
        x, oracle.standardize_weight(w["weight"]), w["bias"], padding=a["padding"]
    ),
    "linear": lambda a, w, vector: oracle.linear(vector, **w),
    "rms_norm": lambda a, w, x: oracle.rms_norm(x, **w),
    "group_norm": lambda a, w, x: oracle.group_norm(x, a["groups"], **w),
    "channel_layer_norm": lambda a, w, x: oracle.channel_layer_norm(x, **w),
    "activation": lambda a, w, x: {"silu": oracle.silu, "gelu": oracle.gelu}[a["function"]](x),
    "sinusoidal_embedding": lambda a, w, time: oracle.sinusoidal_embedding(time, **a),
    "fourier_embedding": lambda a, w, fraction: oracle.fourier_embedding(fraction, **w),
    "time_mlp": lambda a, w, time=None, fraction=None: _time_mlp(
        oracle.fourier_embedding(fraction, w["0.weights"]) if a["fourier"]
        else oracle.sinusoidal_embedding(time, a["dim"]), w,
    ),
    "block": lambda a, w, x, **moved: _block(x, w, a["norm"], **moved),
    "dropout_block": lambda a, w, x, key, mask: _block(x, w, a["norm"], kept=mask / (1 - a["dropout"])),
    "resnet_block": lambda a, w, x, t: _resnet_block(x, w, a["norm"], t),
    "linear_attention": lambda a, w, x: oracle.linear_attention_layer(x, w, a["heads"]),
    "attention": lambda a, w, x: oracle.full_attention_layer(x, w, a["heads"]),
    "pre_norm_linear_attention": lambda a, w, x: oracle.linear_attention_layer(
        x, part(w, "fn") | {"norm.g": w["norm.g"]}, a["heads"], "group"
    ),
    "pre_norm_attention": lambda a, w, x: oracle.full_attention_layer(
        x, part(w, "fn") | {"norm.g": w["norm.g"]}, a["heads"], "group"
    ),
    "downsample": lambda a, w, x: (
        _conv(oracle.pixel_unshuffle(x), part(w, "1")) if a["kind"] == "unshuffle" else _conv(x, w, 2, 1)
    ),
    "upsample": lambda a, w, x: _conv(oracle.nearest_upsample(x), part(w, "1"), padding=1),
}  # fmt: skip


def layer(spec: Mapping, inputs: Arrays) -> Arrays:
    """One layer alone: its output."""
    doubled = {name: v.astype(np.float64) if v.dtype.kind == "f" else v for name, v in inputs.items()}
    called = {name: doubled[name] for name in spec["calls"]}
    return {"y": joined("on_numpy", "LAYERS")[spec["layer"]](spec["arguments"], given(doubled, "weight"), **called)}
