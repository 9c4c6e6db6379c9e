"""Tiers 2 and 3: every layer alone, and the whole network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from mindspore import nn, ops

from ms_ddpm import Unet, amp, convert
from ms_ddpm.models.unet import TimeMLP
from ms_ddpm.nn import attention, blocks, embeddings, layers, norms
from ms_ddpm.ops import by_kernels, kernels
from parity_tests.backends.shared_mindspore import RNG, names_of
from parity_tests.systems import joined
from portparity import classes
from portparity.arrays import given
from portparity.case import Arrays
from portparity.memo import memo
from portparity.on_mindspore import load, tensor, vjp, with_gradients


def _block(dim, dim_out, norm):
    return blocks.Block(dim, dim_out, norm, 0.0, 0, np.random.default_rng(RNG))


def _dropout_block(dim, dim_out, norm, dropout, number):
    return blocks.Block(dim, dim_out, norm, dropout, number, np.random.default_rng(RNG))


def _resnet_block(dim, dim_out, time_dim, norm):
    rng = np.random.default_rng(RNG)
    return blocks.ResnetBlock(dim, dim_out, time_dim, norm=norm, dropout=0.0, layer=0, rng=rng)


def _time_mlp(dim, fourier):
    rng = np.random.default_rng(RNG)
    embedding = embeddings.FourierPosEmb(16, rng=rng) if fourier else embeddings.SinusoidalPosEmb(dim)
    return TimeMLP(embedding, dim * 4, rng)


class Activation(nn.Cell):
    """An activation as the networks call it."""

    def __init__(self, function: str):
        super().__init__()
        self.function = function

    def construct(self, x):
        return ops.silu(x) if self.function == "silu" else ops.gelu(x, approximate="none")


def _rng() -> np.random.Generator:
    return np.random.default_rng(RNG)


LAYERS: dict[str, Callable[..., nn.Cell]] = {
    "conv2d": lambda **k: layers.Conv2d(**k),
    "weight_standardized_conv2d": lambda **k: layers.WeightStandardizedConv2d(**k),
    "linear": lambda **k: layers.Linear(**k),
    "rms_norm": lambda **k: norms.RMSNorm(**k),
    "group_norm": lambda **k: norms.GroupNorm(**k),
    "channel_layer_norm": lambda **k: norms.ChannelLayerNorm(**k),
    "activation": Activation,
    "sinusoidal_embedding": lambda **k: embeddings.SinusoidalPosEmb(**k),
    "fourier_embedding": lambda **k: embeddings.FourierPosEmb(**k),
    "time_mlp": _time_mlp,
    "block": _block,
    "dropout_block": _dropout_block,
    "resnet_block": _resnet_block,
    "linear_attention": lambda **k: attention.LinearAttention(**k, rng=_rng()),
    "attention": lambda **k: attention.Attention(**k, rng=_rng()),
    "pre_norm_linear_attention": lambda **k: attention.LinearAttention(**k, rng=_rng()),
    "pre_norm_attention": lambda **k: attention.Attention(**k, rng=_rng()),
    "downsample": lambda **k: blocks.downsample(**k, rng=_rng()),
    "upsample": lambda **k: blocks.Upsample(**k, rng=_rng()),
}


def why_not(spec: Mapping) -> str:
    """Why a computation cannot run here, in its precision class; nothing where it can."""
    precision = spec.get("precision", "float32")
    if precision in classes.HALF:
        return amp.why_not(precision)
    if precision in classes.ROUNDED and not classes.runs_in(precision):
        return f"{precision} is for --device_target {classes.device_of(precision)} --matmul_precision high"
    reason = kernels.why_not() if spec.get("kernels") else ""
    return f"the C++ kernels cannot be used: {reason}" if reason else ""


def one_of(scale_and_shift: tuple) -> tuple:
    """PyTorch's scale and shift, (B, C, 1, 1) each or neither there, as our one array (B, 2 C)."""
    if not scale_and_shift:
        return ()
    both = ops.concat(scale_and_shift, 1)
    return (both.reshape(both.shape[:2]),)


def with_kernels(call: Callable) -> Callable:
    """A call of layers with channels last, on an image (B, C, H, W), or a vector, and with the same axes returned."""

    def call_channels_last(x, *more):
        y = call(by_kernels.enter(x) if x.ndim == 4 else x, *more)
        return by_kernels.leave(y) if y.ndim == 4 else y

    return call_channels_last


def _call_of(layer: str, cell: nn.Cell, residual: bool) -> Callable:
    """How a layer is called; the places where our arguments are not PyTorch's."""
    if residual:  # added inside, where the kernels do it with the norm

        def with_residual(x):
            return cell(x, x)

        return with_residual

    if layer == "resnet_block":  # ours takes the time after its SiLU

        def resnet_block(x, t):
            return cell(x, ops.silu(t))

        return resnet_block

    if layer == "dropout_block":  # ours makes the mask from a key

        def dropout_block(x, key, mask):
            return cell(x, None, key)

        return dropout_block

    if layer == "block":  # ours takes the scale and the shift in one

        def block(x, *scale_and_shift):
            return cell(x, *one_of(scale_and_shift))

        return block

    def plain(*args):
        return cell(*args)

    return plain


def layer(spec: Mapping, inputs: Arrays, mode: str = "graph", level: str = "O0", dtype: str = "float16") -> Arrays:
    """One layer alone: its output and its vector-Jacobian product."""
    kind, positions = spec["layer"], tuple(spec["differentiable"])
    by_kernels, residual = bool(spec.get("kernels")), bool(spec.get("residual"))

    def build():
        cell = joined("on_mindspore", "LAYERS")[kind](**spec["arguments"])
        amp.apply_amp(cell, level, dtype)
        call = _call_of(kind, cell, residual)
        if by_kernels:
            layers.use_kernels(cell, on=True)
            call = with_kernels(call)
        return cell, with_gradients(call, cell, positions, mode)

    what = (kind, spec["arguments"], positions, mode, level, dtype, by_kernels, residual)
    cell, call = memo(build, "mindspore layer", *what)
    names = names_of(cell, kind)
    load(cell, inputs, names)
    half = level == "O2" and spec.get("half_input", True)
    args = [(name, tensor(inputs[name])) for name in spec["calls"]]
    args = [(name, ops.cast(v, amp.DTYPES[dtype]) if half and v.ndim == 4 else v) for name, v in args]
    return vjp(call, cell, args, tensor(inputs["cotangent"]), names, positions)


# --- tier 3: the network -----------------------------------------------------------------------------------------


def network(spec: Mapping, inputs: Arrays, mode: str = "graph", level: str = "O0", dtype: str = "float16") -> Arrays:
    """A whole Unet: output, gradient of its input and of every parameter."""
    by_kernels = bool(spec.get("kernels"))

    def build():
        net = Unet(**spec["unet"], rng=RNG, use_kernels=by_kernels)
        amp.apply_amp(net, level, dtype)

        def call(x, time, x_self_cond=None):
            return net(x, time, x_self_cond)

        return net, with_gradients(call, net, (0,), mode)

    what = (spec["unet"], "x_self_cond" in inputs, mode, level, dtype, by_kernels)
    net, call = memo(build, "mindspore network", *what)
    names = names_of(net)
    if spec.get("convert"):
        convert.from_torch(net, given(inputs, "weight"))
    else:
        load(net, inputs, names)
    args = [(name, tensor(inputs[name])) for name in ("x", "time", "x_self_cond") if name in inputs]
    return vjp(call, net, args, tensor(inputs["cotangent"]), names, (0,))
