"""PyTorch's side: `torch_ref` for the harness, and what its legs share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch

import torch_ref
from portparity.case import Arrays
from portparity.on_torch import DTYPES, load

torch.set_num_threads(1)  # the networks are tiny: a second thread costs more than it brings


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


class AffineModel(torch.nn.Module):
    """The stand-in network of tiers 0 and 1: gain * x + mix * x_self_cond + bias, channel by channel."""

    def __init__(self, channels: int, out_dim: int, self_condition: bool):
        super().__init__()
        self.channels = channels
        self.out_dim = out_dim
        self.self_condition = self_condition
        self.copies = out_dim // channels
        self.gain, self.mix, self.bias = (torch.nn.Parameter(torch.zeros(1, out_dim, 1, 1)) for _ in range(3))

    def forward(self, x: torch.Tensor, t: torch.Tensor, x_self_cond: torch.Tensor | None = None) -> torch.Tensor:
        """x (B, C, H, W) -> (B, out_dim, H, W)."""
        y = self.gain * x.repeat(1, self.copies, 1, 1) + self.bias
        if x_self_cond is not None:
            y = y + self.mix * x_self_cond.repeat(1, self.copies, 1, 1)
        return y


def model_of(spec: Mapping) -> torch.nn.Module:
    """The Unet of ``spec``, or the stand-in."""
    return torch_ref.Unet(**spec["unet"]) if "unet" in spec else AffineModel(*spec["affine"])


def diffusion_of(spec: Mapping, inputs: Arrays, dtype: str) -> torch_ref.GaussianDiffusion:
    """The GaussianDiffusion of ``spec``, its weights the given ones."""
    model = model_of(spec)
    if any(name.startswith("weight.") for name in inputs):
        load(model, inputs, dtype)
    return torch_ref.GaussianDiffusion(model, **spec["diffusion"], dtype=DTYPES[dtype])
