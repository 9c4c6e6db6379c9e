"""Tiers 2 and 3: every layer alone, and the whole network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

import torch_ref
from torch_ref import attention, layers

from ...case import Arrays
from ._common import DTYPES, load, tensor, vjp


class Activation(nn.Module):
    """An activation as the networks call it."""

    def __init__(self, function: str):
        super().__init__()
        self.function = nn.SiLU() if function == "silu" else nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Elementwise."""
        return self.function(x)


def _conv2d(dim_in: int, dim_out: int, kernel_size: int, **options) -> nn.Module:
    return nn.Conv2d(dim_in, dim_out, kernel_size, **options)


def _time_mlp(dim: int, fourier: bool) -> nn.Module:
    embedding, width = (layers.FourierPosEmb(16), 17) if fourier else (layers.SinusoidalPosEmb(dim), dim)
    return layers.time_mlp(embedding, width, dim * 4)


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "conv2d": _conv2d,
    "weight_standardized_conv2d": lambda dim_in, dim_out, kernel_size, **k: layers.WeightStandardizedConv2d(
        dim_in, dim_out, kernel_size, **k
    ),
    "linear": lambda dim_in, dim_out: nn.Linear(dim_in, dim_out),
    "rms_norm": lambda **k: layers.RMSNorm(**k),
    "group_norm": lambda groups, dim: nn.GroupNorm(groups, dim),
    "channel_layer_norm": lambda **k: layers.LayerNorm(**k),
    "activation": Activation,
    "sinusoidal_embedding": lambda **k: layers.SinusoidalPosEmb(**k),
    "fourier_embedding": lambda **k: layers.FourierPosEmb(**k),
    "time_mlp": _time_mlp,
    "block": lambda **k: layers.Block(**k),
    "resnet_block": lambda **k: layers.ResnetBlock(**k),
    "linear_attention": lambda **k: attention.LinearAttention(**k),
    "attention": lambda chunked=False, **k: attention.Attention(**k),
    "pre_norm_linear_attention": lambda dim, **k: attention.PreNorm(dim, attention.LinearAttention(dim, **k)),
    "pre_norm_attention": lambda dim, **k: attention.PreNorm(dim, attention.Attention(dim, **k)),
    "downsample": lambda kind, dim, dim_out: layers.downsample(kind, dim, dim_out),
    "upsample": lambda **k: layers.Upsample(**k),
}


def make_layer(kind: str, arguments: Mapping) -> nn.Module:
    """The layer called ``kind``."""
    return LAYERS[kind](**arguments)


def weight_shapes(kind: str, arguments: Mapping) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters of a layer, or of a "unet"."""
    module = torch_ref.Unet(**arguments) if kind == "unet" else make_layer(kind, arguments)
    return {name: tuple(p.shape) for name, p in module.named_parameters()}


def _call_of(kind: str, module: nn.Module) -> Callable:
    if kind == "block":
        return lambda x, scale=None, shift=None: module(x, None if scale is None else (scale, shift))
    if kind == "time_mlp":  # ours ends with the SiLU with which every block begins
        return lambda time: nn.functional.silu(module(time))
    return module


def layer(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """One layer alone: its output and its vector-Jacobian product."""
    module = make_layer(spec["layer"], spec["arguments"])
    load(module, inputs, dtype)
    args = {name: tensor(inputs[name], dtype) for name in spec["calls"]}
    args |= {"time": args["time"].to(DTYPES[dtype])} if "time" in args else {}  # as Unet does
    cotangent = tensor(inputs["cotangent"], dtype)
    return vjp(_call_of(spec["layer"], module), module, args, cotangent, spec["differentiable"], dtype)


def network(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """A whole Unet: output, gradient of its input and of every parameter."""
    net = torch_ref.Unet(**spec["unet"])
    load(net, inputs, dtype)
    args = {name: tensor(inputs[name], dtype) for name in ("x", "time", "x_self_cond") if name in inputs}
    return vjp(net, net, args, tensor(inputs["cotangent"], dtype), (0,), dtype)
