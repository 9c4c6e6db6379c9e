"""MindSpore for the harness: tensors and arrays, weights, gradients. Imported where a leg runs, and nowhere before.

Both execution modes live in one process, whose context is PyNative: "graph" compiles with ``ms.jit``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping

import numpy as np

from .case import Arrays
from .classes import DEVICE
from .dtypes import as_bfloat16
from .errors import HarnessError

os.environ.setdefault("GLOG_v", "3")  # without MindSpore's warnings at its start

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops


@functools.cache
def start() -> None:
    """Says where MindSpore runs, once; whoever has legs of his own may have said it before."""
    if np.__version__.startswith("2.") and ms.__version__.startswith(("2.9.", "2.10.")):
        versions = f"MindSpore {ms.__version__} cannot take arrays of numpy {np.__version__}"
        raise HarnessError(f"{versions}: pip install 'numpy<2'")
    target = os.environ.get(DEVICE) or ms.get_context("device_target")
    try:
        ms.set_device(target)  # also where it is that already: it must be said before the first kernel, or never
    except RuntimeError:  # a kernel has run
        if ms.get_context("device_target") != target:
            raise
    ms.set_context(mode=ms.PYNATIVE_MODE)


def as_graph(function: Callable, mode: str) -> Callable:
    """``function`` compiled (mode "graph") or as it is ("pynative")."""
    return ms.jit(function) if mode == "graph" else function


def tensor(value: np.ndarray) -> Tensor:
    """An array as a tensor."""
    return Tensor(np.ascontiguousarray(value))


def arrays(outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors as arrays of their own dtype, which the verdict compares; see `dtypes` for bfloat16."""
    return {
        name: as_bfloat16(ops.cast(value, ms.float32).asnumpy()) if value.dtype == ms.bfloat16 else value.asnumpy()
        for name, value in outputs.items()
    }


def _set(parameter: Parameter, value: np.ndarray) -> None:
    """Writes into the memory there is: a graph that has run goes on reading it after ``set_data`` (MindSpore 2.10)."""
    ops.assign(parameter, Tensor(np.ascontiguousarray(value, np.float32)).reshape(parameter.shape))


def load(cell: nn.Cell, inputs: Arrays, names: Mapping[str, str]) -> None:
    """Puts the inputs called "weight.NAME" into the cell's parameters; every parameter gets one."""
    for ours, parameter in cell.parameters_and_names():
        _set(parameter, inputs[f"weight.{names[ours]}"])


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
