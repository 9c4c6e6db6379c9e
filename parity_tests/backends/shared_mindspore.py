"""MindSpore started for this project's legs, `ms_ddpm` for the harness, weights by PyTorch's names."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import numpy as np

from ms_ddpm import runtime
from portparity.case import Arrays
from portparity.classes import device, matmul_precision
from portparity.memo import memo

runtime.setup(device(), mode=1, matmul_precision=matmul_precision())

import mindspore as ms  # noqa: E402
from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from ms_ddpm import GaussianDiffusion, Unet, amp, convert  # noqa: E402
from portparity.on_mindspore import load  # noqa: E402

ms.runtime.launch_blocking()
RNG = 0  # of initial weights, which are replaced before anything is compared


class AffineModel(nn.Cell):
    """The stand-in network of tiers 0 and 1: gain * x + mix * x_self_cond + bias, channel by channel."""

    def __init__(self, channels: int, out_dim: int, self_condition: bool):
        super().__init__()
        self.channels = channels
        self.out_dim = out_dim
        self.self_condition = self_condition
        self.copies = out_dim // channels
        zeros = np.zeros((1, out_dim, 1, 1), np.float32)
        self.gain = Parameter(Tensor(zeros), name="gain")
        self.mix = Parameter(Tensor(zeros), name="mix")
        self.bias = Parameter(Tensor(zeros), name="bias")

    def construct(self, x, t, x_self_cond=None):
        y = self.gain * ops.tile(x, (1, self.copies, 1, 1)) + self.bias
        if x_self_cond is not None:
            y = y + self.mix * ops.tile(x_self_cond, (1, self.copies, 1, 1))
        return y


_RENAMES = {  # prefixes of ours -> PyTorch's, by kind of layer, where they differ
    "resnet_block": {"mlp.": "mlp.1."},
    "linear_attention": {"to_out.": "to_out.0.", "out_norm.": "to_out.1."},
    "pre_norm_linear_attention": {"to_qkv.": "fn.to_qkv.", "to_out.": "fn.to_out.0.", "out_norm.": "fn.to_out.1."},
    "pre_norm_attention": {"to_qkv.": "fn.to_qkv.", "to_out.": "fn.to_out."},
    "downsample": {"conv.": "1."},
    "upsample": {"conv.": "1."},
    "conv_transpose2d": {"tconv.": ""},
    "time_mlp": {"embedding.": "0.", "linear1.": "1.", "linear2.": "3."},
}


def names_of(cell: nn.Cell, layer: str = "") -> dict[str, str]:
    """Our parameter names -> PyTorch's."""
    if isinstance(cell, Unet):
        return convert.torch_names(cell)
    names = {}
    for ours, _ in cell.parameters_and_names():
        prefix = next((p for p in _RENAMES.get(layer, {}) if ours.startswith(p)), "")
        names[ours] = _RENAMES[layer][prefix] + ours[len(prefix) :] if prefix else ours
    return names


def names_inside(diffusion: GaussianDiffusion) -> dict[str, str]:
    """Our names of a diffusion's parameters -> PyTorch's of its network's, which cases go by."""
    return {f"model.{ours}": theirs for ours, theirs in names_of(diffusion.model).items()}


def product_mode(mode: str) -> AbstractContextManager:
    """What the product compiles for itself inside the ``with`` block is run in ``mode``."""
    return runtime.execution_mode(0 if mode == "graph" else 1)


def diffusion_of(
    spec: Mapping, inputs: Arrays, mode: str = "graph", level: str = "O0", dtype: str = "float16"
) -> GaussianDiffusion:
    """The GaussianDiffusion of ``spec`` around a Unet or the stand-in, with the given weights."""

    def build():
        model = Unet(**spec["unet"], rng=RNG) if "unet" in spec else AffineModel(*spec["affine"])
        amp.apply_amp(model, level, dtype)
        return GaussianDiffusion(model, **spec["diffusion"])

    what = (spec.get("unet"), spec.get("affine"), spec["diffusion"], mode, level, dtype)
    diffusion = memo(build, "mindspore diffusion", *what)
    if any(name.startswith("weight.") for name in inputs):
        load(diffusion, inputs, names_inside(diffusion))
    return diffusion
