"""PyTorch for the harness: tensors and arrays, weights, gradients.

``dtype`` "float32" is the reference, "float64" the oracle of networks; "float16" and "bfloat16" run float32 weights
under PyTorch's autocast, as mixed precision does; "tf32" and "hf32" are float32 with rounded products (`products`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

import torch_ref

from ...case import Arrays

torch.set_num_threads(1)  # the networks are tiny: a second thread costs more than it brings

HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
DTYPES = {"float64": torch.float64} | dict.fromkeys(("float32", "tf32", "hf32", *HALF), torch.float32)


def precision(dtype: str) -> AbstractContextManager:
    """The context in which ``dtype`` computes."""
    return torch.autocast("cpu", dtype=HALF[dtype]) if dtype in HALF else nullcontext()


def kernels(run: Callable) -> Callable:
    """Gives a leg the option ``onednn``: False takes PyTorch's own convolution kernels."""

    @functools.wraps(run)
    def with_kernels(*args, onednn: bool = True, **options) -> Arrays:
        before = torch._C._get_mkldnn_enabled()
        torch._C._set_mkldnn_enabled(onednn)
        try:
            return run(*args, **options)
        finally:
            torch._C._set_mkldnn_enabled(before)

    return with_kernels


def tensor(value: np.ndarray, dtype: str) -> torch.Tensor:
    """An array as a tensor; floats in ``dtype``."""
    made = torch.from_numpy(np.array(value))
    return made.to(DTYPES[dtype]) if made.is_floating_point() else made.long()


def arrays(outputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Tensors as arrays; half precision as float32, which holds it exactly."""
    halves = tuple(HALF.values())
    found = {name: v.detach().float() if v.dtype in halves else v.detach() for name, v in outputs.items()}
    return {name: value.numpy().copy() for name, value in found.items()}


class AffineModel(torch.nn.Module):
    """The stand-in network of tiers 0 and 1: gain * x + mix * x_self_cond + bias, channel by channel."""

    def __init__(self, channels: int, out_dim: int, self_condition: bool):
        super().__init__()
        self.channels, self.out_dim, self.self_condition = channels, out_dim, self_condition
        self.copies = out_dim // channels
        self.gain, self.mix, self.bias = (torch.nn.Parameter(torch.zeros(1, out_dim, 1, 1)) for _ in range(3))

    def forward(self, x: torch.Tensor, t: torch.Tensor, x_self_cond: torch.Tensor | None = None) -> torch.Tensor:
        """x (B, C, H, W) -> (B, out_dim, H, W)."""
        y = self.gain * x.repeat(1, self.copies, 1, 1) + self.bias
        if x_self_cond is not None:
            y = y + self.mix * x_self_cond.repeat(1, self.copies, 1, 1)
        return y


def load(module: torch.nn.Module, inputs: Arrays, dtype: str) -> None:
    """Puts the inputs called "weight.NAME" into the module's parameters; every parameter gets one."""
    module.to(DTYPES[dtype])
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(tensor(inputs[f"weight.{name}"], dtype))


def model_of(spec: Mapping) -> torch.nn.Module:
    """The Unet of ``spec``, or the stand-in."""
    return torch_ref.Unet(**spec["unet"]) if "unet" in spec else AffineModel(*spec["affine"])


def diffusion_of(spec: Mapping, inputs: Arrays, dtype: str) -> torch_ref.GaussianDiffusion:
    """The GaussianDiffusion of ``spec``, its weights the given ones."""
    model = model_of(spec)
    if any(name.startswith("weight.") for name in inputs):
        load(model, inputs, dtype)
    return torch_ref.GaussianDiffusion(model, **spec["diffusion"], dtype=DTYPES[dtype])


def vjp(
    call: Callable, module: torch.nn.Module, args: Mapping[str, torch.Tensor], cotangent: torch.Tensor, positions, dtype
) -> Arrays:
    """y, "grad.NAME" of the differentiable args and "grad.weight.NAME" of the parameters."""
    names = list(args)
    leaves = {names[i]: args[names[i]].requires_grad_() for i in positions}
    with precision(dtype):
        y = call(*args.values())
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    wanted = [*leaves.values(), *trained.values()]
    outputs = {"y": y}
    if wanted:
        found = torch.autograd.grad((y.to(cotangent.dtype) * cotangent).sum(), wanted, allow_unused=True)
        labels = [f"grad.{name}" for name in leaves] + [f"grad.weight.{name}" for name in trained]
        for label, leaf, gradient in zip(labels, wanted, found, strict=True):
            outputs[label] = torch.zeros_like(leaf) if gradient is None else gradient
    return arrays(outputs)
