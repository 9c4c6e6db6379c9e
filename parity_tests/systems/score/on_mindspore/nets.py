"""Tiers 2 and 3 of the score networks: their layers alone, and each network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from mindspore import Tensor, nn

from ms_ddpm import amp, convert
from ms_ddpm.models import conditional_unet, score_unet
from ms_ddpm.nn import embeddings, layers, norms, transformer
from parity_tests.backends.shared_mindspore import RNG, names_of
from portparity.arrays import given
from portparity.case import Arrays
from portparity.memo import memo
from portparity.on_mindspore import load, tensor, vjp, with_gradients


def deviation(t: Tensor) -> Tensor:
    """The stand-in for std(t)."""
    return t + 0.25


class TimeStage(nn.Cell):
    """SiLU of the group norm of an image and what the time adds to each channel."""

    def __init__(self, groups: int, dim: int):
        super().__init__()
        self.norm = norms.GroupNorm(groups, dim)

    def construct(self, x, shift):
        return self.norm.silu_of_sum(x, shift)


class ConvTranspose2d(nn.Cell):
    """Ours, asked for an output size."""

    def __init__(self, output_size, **arguments):
        super().__init__(auto_prefix=False)
        self.tconv = layers.ConvTranspose2d(**arguments)
        self.asked = tuple(output_size)

    def construct(self, x):
        return self.tconv(x, self.asked)


def _conv_transpose2d(output_size=None, **arguments):
    return ConvTranspose2d(output_size, **arguments) if output_size else layers.ConvTranspose2d(**arguments)


def _rng() -> np.random.Generator:
    return np.random.default_rng(RNG)


LAYERS: dict[str, Callable[..., nn.Cell]] = {
    "conv_transpose2d": _conv_transpose2d,
    "gaussian_fourier": lambda **k: embeddings.GaussianFourierProjection(**k, rng=_rng()),
    "layer_norm": lambda **k: norms.LayerNorm(**k),
    "linear_of_sequence": lambda **k: layers.Linear(**k, rng=_rng()),
    "embedding": lambda **k: layers.Embedding(**k, rng=_rng()),
    "time_stage": TimeStage,
    "cross_attention": lambda **k: transformer.CrossAttention(**k, rng=_rng()),
    "transformer_block": lambda **k: transformer.TransformerBlock(**k, rng=_rng()),
    "spatial_transformer": lambda **k: transformer.SpatialTransformer(**k, rng=_rng()),
}
NETWORKS: dict[str, Callable[..., nn.Cell]] = {
    "score_unet": lambda **k: score_unet.ScoreUnet(deviation, **k, rng=_rng()),
    "conditional_score_unet": lambda **k: conditional_unet.ConditionalScoreUnet(deviation, **k, rng=_rng()),
    "latent_score_unet": lambda **k: conditional_unet.LatentScoreUnet(deviation, **k, rng=_rng()),
}


def score_network(
    spec: Mapping, inputs: Arrays, mode: str = "graph", level: str = "O0", dtype: str = "float16"
) -> Arrays:
    """A whole score network: output, gradient of its input and of every parameter. Weights come by `convert`."""
    by_kernels = bool(spec.get("kernels"))

    def build():
        net = NETWORKS[spec["net"]](**spec["arguments"], use_kernels=by_kernels)
        amp.apply_amp(net, level, dtype)

        def call(*args):
            return net(*args)

        return net, with_gradients(call, net, (0,), mode)

    net, call = memo(build, "mindspore score network", spec["net"], spec["arguments"], mode, level, dtype, by_kernels)
    names = names_of(net)
    if spec.get("convert"):
        convert.from_torch(net, given(inputs, "weight"))
    else:
        load(net, inputs, names)
    args = [(name, tensor(inputs[name])) for name in ("x", "t", "labels") if name in inputs]
    return vjp(call, net, args, tensor(inputs["cotangent"]), names, (0,))
