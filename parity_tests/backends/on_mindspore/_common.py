"""MindSpore started for the harness, tensors and arrays, weights by PyTorch's names, gradients.

Both execution modes live in one process, whose context is PyNative: "graph" compiles with ``ms.jit``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import numpy as np

from ms_ddpm import runtime

from ...case import Arrays
from ...classes import device, matmul_precision
from .._memo import memo

runtime.setup(device(), mode=1, matmul_precision=matmul_precision())

import mindspore as ms  # noqa: E402
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops  # noqa: E402

from ms_ddpm import GaussianDiffusion, Unet, amp, convert  # noqa: E402
from ms_ddpm.ops.assign import set_value  # noqa: E402

ms.runtime.launch_blocking()
RNG = 0  # of initial weights, which are replaced before anything is compared


def as_graph(function: Callable, mode: str) -> Callable:
    """``function`` compiled (mode "graph") or as it is ("pynative")."""
    return ms.jit(function) if mode == "graph" else function


def tensor(value: np.ndarray) -> Tensor:
    """An array as a tensor."""
    return Tensor(np.ascontiguousarray(value))


def arrays(outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors as arrays; half precision as float32, which holds it exactly."""
    halves = tuple(amp.DTYPES.values())
    return {
        name: np.asarray((ops.cast(value, ms.float32) if value.dtype in halves else value).asnumpy())
        for name, value in outputs.items()
    }


class AffineModel(nn.Cell):
    """The stand-in network of tiers 0 and 1: gain * x + mix * x_self_cond + bias, channel by channel."""

    def __init__(self, channels: int, out_dim: int, self_condition: bool):
        super().__init__()
        self.channels, self.out_dim, self.self_condition = channels, out_dim, self_condition
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
        return convert.unet_names(cell)
    if isinstance(cell, GaussianDiffusion):
        return {f"model.{ours}": theirs for ours, theirs in names_of(cell.model).items()}
    names = {}
    for ours, _ in cell.parameters_and_names():
        prefix = next((p for p in _RENAMES.get(layer, {}) if ours.startswith(p)), "")
        names[ours] = _RENAMES[layer][prefix] + ours[len(prefix) :] if prefix else ours
    return names


def load(cell: nn.Cell, inputs: Arrays, names: Mapping[str, str]) -> None:
    """Puts the inputs called "weight.NAME" into the cell's parameters; every parameter gets one."""
    for ours, parameter in cell.parameters_and_names():
        set_value(parameter, inputs[f"weight.{names[ours]}"])


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
        load(diffusion, inputs, names_of(diffusion))
    return diffusion


def with_gradients(
    function: Callable, cell: nn.Cell, differentiable: tuple[int, ...], mode: str
) -> Callable[..., tuple]:
    """(*args, cotangent) -> (y, gradients of the args ``differentiable``, gradients of the cell's parameters)."""
    trained = ParameterTuple(cell.trainable_params())

    def pulled(*args):
        y = function(*args[:-1])
        return (ops.cast(y, ms.float32) * args[-1]).sum(), y

    if not differentiable and not len(trained):
        forward = as_graph(function, mode)
        return lambda *args: (forward(*args[:-1]), (), ())
    both = as_graph(ms.value_and_grad(pulled, differentiable or None, trained or None, has_aux=True), mode)

    def call(*args):
        (_, y), gradients = both(*args)
        if differentiable and len(trained):
            of_args, of_weights = gradients
        else:
            of_args, of_weights = (gradients, ()) if differentiable else ((), gradients)
        return y, of_args if isinstance(of_args, tuple) else (of_args,), of_weights

    return call


def vjp(call: Callable, cell: nn.Cell, args: list[tuple[str, Tensor]], cotangent: Tensor, names, positions) -> Arrays:
    """y, "grad.NAME" of the differentiable args and "grad.weight.NAME" of the parameters."""
    y, of_args, of_weights = call(*(value for _, value in args), cotangent)
    ours = {id(p): name for name, p in cell.parameters_and_names()}
    outputs = {"y": y}
    for position, gradient in zip(positions, of_args, strict=True):
        outputs[f"grad.{args[position][0]}"] = gradient
    for parameter, gradient in zip(cell.trainable_params(), of_weights, strict=True):
        outputs[f"grad.weight.{names[ours[id(parameter)]]}"] = gradient
    return arrays(outputs)
