"""Tiers 2 and 3: every layer alone, and the whole network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

import torch_ref
from parity_tests.backends.shared_torch import kernels
from parity_tests.systems import joined
from portparity.case import Arrays
from portparity.on_torch import DTYPES, load, tensor, vjp
from torch_ref import attention, layers


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
    "dropout_block": lambda number, **k: layers.Block(**k),
    "resnet_block": lambda **k: layers.ResnetBlock(**k),
    "linear_attention": lambda **k: attention.LinearAttention(**k),
    "attention": lambda chunked=False, **k: attention.Attention(**k),
    "pre_norm_linear_attention": lambda dim, **k: attention.PreNorm(dim, attention.LinearAttention(dim, **k)),
    "pre_norm_attention": lambda dim, **k: attention.PreNorm(dim, attention.Attention(dim, **k)),
    "downsample": lambda kind, dim, dim_out: layers.downsample(kind, dim, dim_out),
    "upsample": lambda **k: layers.Upsample(**k),
}
NETWORKS = {"unet": torch_ref.Unet}


def make(kind: str, arguments: Mapping) -> nn.Module:
    """The layer or network called ``kind``."""
    return (joined("on_torch", "LAYERS") | joined("on_torch", "NETWORKS"))[kind](**arguments)


def weight_shapes(kind: str, arguments: Mapping) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters of a layer or network."""
    return {name: tuple(p.shape) for name, p in make(kind, arguments).named_parameters()}


def _call_of(kind: str, module: nn.Module) -> Callable:
    if kind == "block":
        return lambda x, scale=None, shift=None: module(x, None if scale is None else (scale, shift))
    if kind == "dropout_block":  # the mask is given

        def dropout_block(x: torch.Tensor, key: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            module.dropout.mask = mask
            return module(x)

        return dropout_block
    if kind == "time_mlp":  # ours ends with the SiLU with which every block begins
        return lambda time: nn.functional.silu(module(time))
    return module


def _terms(module: nn.Module, y: torch.Tensor, grad: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the gradients of a module's per-channel gain and bias are sums of, channels first, magnitudes."""
    channels = 1 if y.ndim == 4 else -1

    def per_channel(x: torch.Tensor) -> torch.Tensor:
        return x.movedim(channels, 0).flatten(1).abs()

    def spread(parameter: torch.Tensor) -> torch.Tensor:
        return parameter.reshape(-1, *[1] * (y.ndim - 2)) if channels == 1 else parameter

    own = dict(module.named_parameters(recurse=False))
    terms = {"bias": per_channel(grad)} if own.get("bias") is not None else {}
    gain = next((name for name in ("g", "weight") if name in own and own[name].numel() == y.shape[channels]), None)
    if gain:
        bias = spread(own["bias"]) if "bias" in own else 0
        terms[gain] = per_channel((y - bias) / spread(own[gain]) * grad)
    return terms


def magnitudes(call: Callable, module: nn.Module, args: Mapping[str, torch.Tensor], cotangent: torch.Tensor) -> Arrays:
    """The summed magnitudes of the terms of every gain's and bias's gradient: the operands of what may be a difference.

    Such a gradient is one signed sum over all pixels of a batch. It can come out near 0 by accident, and its rounding
    error, which belongs to the terms, does not.
    """
    captured, hooks = {}, []
    names = {layer: name for name, layer in module.named_modules() if list(layer.parameters(recurse=False))}
    for layer in names:
        hooks.append(layer.register_forward_hook(lambda layer, given, y: captured.update({layer: y})))
    y = call(*args.values())
    for hook in hooks:
        hook.remove()
    layers = [layer for layer, output in captured.items() if output.requires_grad]
    if not layers:
        return {}
    gradients = torch.autograd.grad((y * cotangent).sum(), [captured[layer] for layer in layers], allow_unused=True)
    found = {}
    for layer, gradient in zip(layers, gradients, strict=True):
        if gradient is None:
            continue
        prefix = f"{names[layer]}." if names[layer] else ""
        for name, terms in _terms(layer, captured[layer].detach(), gradient).items():
            shape = layer.get_parameter(name).shape
            found[f"grad.weight.{prefix}{name}"] = terms.sum(1).reshape(shape).detach().numpy()
    return found


@kernels
def layer(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """One layer alone: its output and its vector-Jacobian product."""
    call, module, args, cotangent = _layer(spec, inputs, dtype)
    return vjp(call, module, args, cotangent, spec["differentiable"], dtype)


def layer_scales(spec: Mapping, inputs: Arrays) -> Arrays:
    """`magnitudes` of one layer."""
    return magnitudes(*_layer(spec, inputs, "float64"))


def _layer(spec: Mapping, inputs: Arrays, dtype: str) -> tuple:
    module = make(spec["layer"], spec["arguments"])
    load(module, inputs, dtype)
    args = {name: tensor(inputs[name], dtype) for name in spec["calls"]}
    args |= {"time": args["time"].to(DTYPES[dtype])} if "time" in args else {}  # as Unet does
    return _call_of(spec["layer"], module), module, args, tensor(inputs["cotangent"], dtype)


@kernels
def network(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """A whole network: output, gradient of its input and of every parameter."""
    net, args, cotangent = _network(spec, inputs, dtype)
    return vjp(net, net, args, cotangent, (0,), dtype)


def network_scales(spec: Mapping, inputs: Arrays) -> Arrays:
    """`magnitudes` of a whole network."""
    net, args, cotangent = _network(spec, inputs, "float64")
    return magnitudes(net, net, args, cotangent)


def _network(spec: Mapping, inputs: Arrays, dtype: str) -> tuple:
    net = make("unet", spec["unet"]) if "unet" in spec else make(spec["net"], spec["arguments"])
    load(net, inputs, dtype)
    names = [name for name in ("x", "time", "t", "x_self_cond", "labels") if name in inputs]  # as both take them
    args = {name: tensor(inputs[name], dtype) for name in names}
    return net, args, tensor(inputs["cotangent"], dtype)
