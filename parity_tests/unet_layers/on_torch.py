"""A `torch_ref.Unet` with hooks: a free run that remembers every layer, and every layer alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

import torch_ref
from portparity.case import Arrays
from portparity.localise.layers import raised
from portparity.on_torch import DTYPES, HALF, arrays, load, precision, tensor, vjp
from portparity.rounded_products import rounded_products

from .sides import Run, Visit, arguments_of, kind_of, our_paths


def _silu(x: Tensor) -> Tensor:
    """The SiLU with which ms_ddpm's time_mlp ends; not torch.nn.functional's, which a mutant may have replaced."""
    return torch.ops.aten.silu(x)


_CALLS = {  # where `ms_ddpm` draws the line between layers elsewhere, or passes arguments otherwise
    "time_mlp": lambda module, time: _silu(module(time)),
    "block": lambda module, x, *scale_shift: module(x, scale_shift or None),
}
_OUTPUTS = {"time_mlp": _silu}


def _flat(arguments: Iterable) -> list[Tensor]:
    found = []
    for argument in arguments:
        found += _flat(argument) if isinstance(argument, tuple) else [argument] if argument is not None else []
    return found


class TorchSide:
    """One Unet in one precision.

    Args:
        unet: its arguments.
        dtype: "float32", "float64", under autocast "float16" or "bfloat16", or with rounded products "tf32" or "hf32".
    """

    def __init__(self, unet: Mapping, dtype: str):
        self.net, self.dtype = torch_ref.Unet(**unet), dtype
        layers = (name for name, module in self.net.named_modules() if _is_layer(module))
        self.layers = our_paths(layers)
        self.halves: dict[str, set[str]] = {}  # which arguments of a layer are half precision in the free run

    def run(self, inputs: Arrays) -> Run:
        """A free run forward and backward, as far as it goes."""
        entered: dict[str, list[Tensor]] = {}
        left: dict[str, Tensor] = {}
        handles = []
        for path, name in self.layers.items():
            handles += _watch(self.net.get_submodule(name), path, entered, left)
        gradients, cotangents, problem = {}, {}, ""
        try:
            load(self.net, inputs, self.dtype)
            with rounded_products(self.dtype):
                gradients, cotangents = self._forward_and_backward(inputs, left)
        except Exception as error:  # a candidate's; the reference's callers look at `problem`
            problem = raised(error)
        for handle in handles:
            handle.remove()
        named = {path: dict(zip(arguments_of(path), seen, strict=False)) for path, seen in entered.items()}
        half = HALF.get(self.dtype)
        self.halves = {path: {n for n, v in args.items() if v.dtype == half} for path, args in named.items()}
        visits = {path: _visit(path, args, left, cotangents) for path, args in named.items()}
        return Run(visits, arrays(gradients), problem)

    def _forward_and_backward(self, inputs: Arrays, left: Mapping) -> tuple[dict, dict]:
        args = [tensor(inputs[name], self.dtype) for name in ("x", "time", "x_self_cond") if name in inputs]
        cotangent = tensor(inputs["cotangent"], self.dtype)
        with precision(self.dtype):
            y = self.net(*args)
        wanted = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        watched = {path: output for path, output in left.items() if output.requires_grad}
        leaves = [*wanted.values(), *watched.values()]
        found = torch.autograd.grad((y.to(cotangent.dtype) * cotangent).sum(), leaves, allow_unused=True)
        found = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]
        return dict(zip(wanted, found, strict=False)), dict(zip(watched, found[len(wanted) :], strict=True))

    def alone(self, path: str, inputs: Arrays) -> Arrays:
        """One layer on given arguments, weights and cotangent: "y", "grad.ARGUMENT" and "grad.weight.NAME"."""
        module = self.net.get_submodule(self.layers[path])
        load(module, inputs, self.dtype)
        args = {name: tensor(inputs[name], self.dtype) for name in arguments_of(path) if name in inputs}
        args |= {"time": args["time"].to(DTYPES[self.dtype])} if "time" in args else {}
        args |= {name: args[name].to(HALF[self.dtype]) for name in self.halves.get(path, ())}
        positions = [i for i, name in enumerate(args) if name != "time"]
        call = _CALLS.get(kind_of(path), lambda module, *args: module(*args))
        cotangent = tensor(inputs["cotangent"], self.dtype)
        with rounded_products(self.dtype):
            return vjp(lambda *args: call(module, *args), module, args, cotangent, positions, self.dtype)

    def silent(self, path: str) -> tuple[str, ...]:
        """Which of a layer's values in a free run cannot be compared: none."""
        return ()


def _is_layer(module: nn.Module) -> bool:
    """Whether a module computes something that has a name of its own in ms_ddpm: activations and reshapes have not."""
    return isinstance(module, torch_ref.SinusoidalPosEmb) or any(True for _ in module.parameters())


def _watch(module: nn.Module, path: str, entered: dict, left: dict) -> list:
    def enter(_, arguments):
        entered[path] = _flat(arguments)

    def leave(_, arguments, output):
        left[path] = output

    return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


def _visit(path: str, args: Mapping[str, Tensor], left: Mapping, cotangents: Mapping) -> Visit:
    visit = Visit(arrays(args))
    with torch.no_grad():
        if path in left:
            visit.output = arrays({"y": _OUTPUTS.get(kind_of(path), lambda y: y)(left[path])})["y"]
        if path in cotangents:
            visit.cotangent = arrays({"y": cotangents[path]})["y"]
    return visit
