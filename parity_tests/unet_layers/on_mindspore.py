"""A `ms_ddpm.Unet` with hooks, in PyNative: a free run that remembers every layer, and every layer alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
from mindspore import Tensor, nn, ops

from ms_ddpm import Unet, amp
from ms_ddpm.nn import blocks
from portparity.case import Arrays
from portparity.localise.layers import raised
from portparity.on_mindspore import arrays, load, tensor, vjp, with_gradients

from ..backends.shared_mindspore import RNG, names_of
from ..systems.core.on_mindspore.nets import one_of, with_kernels
from .sides import Run, Visit, arguments_of, kind_of


def _plain(cell: nn.Cell) -> Callable:
    def call(*args):
        return cell(*args)

    return call


def _resnet_block(cell: nn.Cell) -> Callable:
    """PyTorch's takes the time before its SiLU, ours after it."""

    def call(x, t):
        return cell(x, ops.silu(t))

    return call


def _block(cell: nn.Cell) -> Callable:
    """PyTorch's takes scale and shift, ours both in one."""

    def call(x, *scale_and_shift):
        return cell(x, *one_of(scale_and_shift))

    return call


_CALLS = {"resnet_block": _resnet_block, "block": _block}
_SILENT = {  # what a free run does not show as PyTorch's does
    "time_mlp": ("grad.y",),  # ours ends with the SiLU
    "resnet_block": ("input.t",),  # and this begins after it
}
_NORM_OF_BLOCK = re.compile(r".*\.block[12]\.norm")  # called with the SiLU behind it, which no hook sees
_ENDS_WITH_RESIDUAL = re.compile(r".*block\d?\.block2|.*attn|.*attn\.out_norm")  # added inside
# With the C++ kernels: layers that are part of another's.
_FUSED = re.compile(r".*\.block[12]\.norm|.*\.resample\.conv")


class MindSporeSide:
    """One Unet.

    Args:
        unet: its arguments.
        layers: our path -> PyTorch's, of the layers.
        level, dtype: of mixed precision.
        mode: how a layer alone is run; free runs are in PyNative, where hooks are.
        kernels: whether it runs by the C++ kernels, with channels last inside. A norm is then one with the SiLU behind
            it, and a convolution with the unshuffling before it.
    """

    def __init__(
        self, unet: Mapping, layers: Mapping[str, str], level: str = "O0", mode: str = "pynative",
        kernels: bool = False, dtype: str = "float16",
    ):  # fmt: skip
        self.net = Unet(**unet, rng=RNG, use_kernels=kernels)
        self.layers = layers
        self.mode = mode
        self.kernels = kernels
        amp.apply_amp(self.net, level, dtype)
        self.half = amp.DTYPES[dtype]
        self.names = names_of(self.net)
        self.cells = dict(self.net.cells_and_names())
        self.halves: dict[str, set[str]] = {}  # which arguments of a layer are half precision in the free run

    def run(self, inputs: Arrays) -> Run:
        """A free run forward and backward, as far as it goes."""
        seen: dict[str, tuple[dict[str, Tensor], Tensor]] = {}
        cotangents: dict[str, Tensor] = {}
        handles = [_watch(self.cells[path], path, seen, cotangents) for path in self.layers if path in self.cells]
        args = [(name, tensor(inputs[name])) for name in ("x", "time", "x_self_cond") if name in inputs]
        gradients, problem = {}, ""
        try:
            load(self.net, inputs, self.names)
            call = with_gradients(lambda *args: self.net(*args), self.net, (0,), "pynative")
            gradients = vjp(call, self.net, args, tensor(inputs["cotangent"]), self.names, (0,))
        except Exception as error:
            problem = raised(error)
        for handle in handles:
            handle.remove()
        self.halves = {path: {n for n, v in args.items() if v.dtype == self.half} for path, (args, _) in seen.items()}
        visits = {path: self._visit(*both, cotangents.get(path)) for path, both in seen.items()}
        of_weights = {name.removeprefix("grad.weight."): value for name, value in gradients.items()}
        return Run(visits, of_weights, problem)

    def alone(self, path: str, inputs: Arrays) -> Arrays | None:
        """One layer on given arguments, weights and cotangent: "y", "grad.ARGUMENT" and "grad.weight.NAME".

        None for one that is part of another's kernel.
        """
        if path not in self.cells:
            raise LookupError(f"the network has no cell called {path}")
        if self._is_fused(path):
            return None
        cell = self.cells[path]
        prefix = self.layers[path] + "."
        names = {name: self.names[f"{path}.{name}"].removeprefix(prefix) for name, _ in cell.parameters_and_names()}
        load(cell, inputs, names)
        args = [(name, tensor(inputs[name])) for name in arguments_of(path) if name in inputs]
        halves = self.halves.get(path, set())
        halves = halves | {"shift"} if "scale" in halves else halves  # which came in one with it
        args = [(name, ops.cast(v, self.half) if name in halves else v) for name, v in args]
        positions = tuple(i for i, (name, _) in enumerate(args) if name != "time")
        call = _CALLS.get(kind_of(path), _plain)(cell)
        if self.kernels:
            call = with_kernels(call)
        call = with_gradients(call, cell, positions, self.mode)
        return vjp(call, cell, args, tensor(inputs["cotangent"]), names, positions)

    def silent(self, path: str) -> tuple[str, ...]:
        """Which of a layer's values in a free run cannot be compared with PyTorch's."""
        if self._is_fused(path) or _NORM_OF_BLOCK.fullmatch(path):
            return ("y", "grad.y", "input.x")
        residual = ("y",) if _ENDS_WITH_RESIDUAL.fullmatch(path) else ()
        return (*_SILENT.get(kind_of(path), ()), *residual)

    def _is_fused(self, path: str) -> bool:
        """Whether a layer is not called, because another's kernel does what it does."""
        if not self.kernels or not _FUSED.fullmatch(path):
            return False
        return not path.endswith("resample.conv") or isinstance(self._parent(path), blocks.UnshuffleDownsample)

    def _parent(self, path: str) -> nn.Cell:
        return self.cells[path.rpartition(".")[0]]

    def _image(self, value: np.ndarray) -> np.ndarray:
        """An array with the axes that it has in PyTorch."""
        return np.ascontiguousarray(value.transpose(0, 3, 1, 2)) if self.kernels and value.ndim == 4 else value

    def _visit(self, arguments: Mapping[str, Tensor], output: Tensor, cotangent: Tensor | None) -> Visit:
        returned = None if cotangent is None else self._image(arrays({"y": cotangent})["y"])
        given = {name: self._image(value) for name, value in arrays(arguments).items()}
        return Visit(given, self._image(arrays({"y": output})["y"]), returned)


def _watch(cell: nn.Cell, path: str, seen: dict, cotangents: dict):
    def leave(_, arguments, output):
        tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        seen[path] = (dict(zip(arguments_of(path), tensors, strict=False)), output)
        output.register_hook(lambda gradient: cotangents.update({path: gradient}))

    return cell.register_forward_hook(leave)
