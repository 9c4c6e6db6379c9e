"""A PyTorch module under `portparity.check`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from ..case import Arrays
from ..dtypes import as_bfloat16
from .double import double
from .side import Call, Given, Run, Weight, given_as
from .trees import NotATree, can_be_replaced, names, put_together, taken_apart

DTYPES = {
    "float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16,
}  # fmt: skip


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as an array of its own dtype."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return as_bfloat16(tensor.float().numpy())
    return tensor.numpy().copy()


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is a tensor."""
    return isinstance(value, torch.Tensor)


class TorchSide:
    """A module, or the function that makes one: in double it is then made in double, tables included.

    Args:
        original: a Module, which is copied, or a function without arguments that makes one. One that went through
            ``torch.compile`` runs compiled as a whole; its weights are those of the module inside.
        precision: in which it computes. "float64": throughout, whatever the module itself says.
    """

    framework = "torch"
    forward_only = False

    def __init__(self, original: Any, precision: str = "float32"):
        self.precision = precision
        with self._precision():
            made = original if isinstance(original, torch.nn.Module) else original()
            inside = getattr(made, "_orig_mod", made)
            self.compiled = inside is not made
            inside = copy.deepcopy(inside) if made is original else inside
            self.module = inside.to(DTYPES[precision]).eval()
        self.called = type(made)(self.module, made.dynamo_ctx) if self.compiled else self.module

    def _precision(self) -> AbstractContextManager:
        return double() if self.precision == "float64" else nullcontext()

    def _tensor(self, value: np.ndarray) -> torch.Tensor:
        made = torch.from_numpy(np.array(value))
        return made.to(DTYPES[self.precision]) if made.is_floating_point() else made

    def weights(self) -> dict[str, Weight]:
        """Parameters and buffers by name."""
        saved = self.module.state_dict().keys()
        found = {
            name: Weight(to_array(value), trainable=value.requires_grad, dtype=str(value.dtype).removeprefix("torch."))
            for name, value in self.module.named_parameters()
        }
        for name, value in self.module.named_buffers():
            dtype = str(value.dtype).removeprefix("torch.")
            found[name] = Weight(to_array(value), is_buffer=True, trainable=False, dtype=dtype, saved=name in saved)
        return found

    def layers(self) -> dict[str, str]:
        """Class names by path; of a compiled module, whose layers are compiled together, its own."""
        there = self.module.named_modules() if not self.compiled else [("", self.module)]
        return {path: type(module).__name__ for path, module in there}

    def argument_names(self, path: str = "") -> list[str]:
        """The names of forward's arguments."""
        return list(inspect.signature(self.module.get_submodule(path).forward).parameters)

    def load(self, weights: Arrays) -> None:
        """Puts arrays into parameters and buffers of these names."""
        kept = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        with torch.no_grad():
            for name, value in weights.items():
                kept[name].copy_(self._tensor(value))

    def run(
        self, given: Given, cotangents: Mapping[str, np.ndarray] | None, *, mode: str = "", tapped: bool = False
    ) -> Run:
        """See `Side`."""
        calls: list[Call] = []
        hooks = self._tap(calls) if tapped else []
        try:
            found = self._run(self.called, given, cotangents, dict(self.module.named_parameters()))
        finally:
            for hook in hooks:
                hook.remove()
        return Run(found, calls)

    def run_layer(
        self, path: str, given: Given, cotangents: Mapping[str, np.ndarray] | None, *, mode: str = ""
    ) -> Arrays:
        """See `Side`."""
        layer = self.module.get_submodule(path)
        own = {".".join(filter(None, (path, name))): value for name, value in layer.named_parameters(recurse=False)}
        return self._run(layer, given, cotangents, own)

    def _run(
        self, call: Callable, given: Given, cotangents: Mapping[str, np.ndarray] | None, own: Mapping[str, torch.Tensor]
    ) -> dict[str, np.ndarray]:
        leaves = [self._tensor(value) for value in given.arrays]
        floats = [i for i, leaf in enumerate(leaves) if leaf.is_floating_point()]
        for i in floats:
            leaves[i].requires_grad_()
        entered = [leaf + 0 if i in floats else leaf for i, leaf in enumerate(leaves)]  # may be written into: no leaf
        args = put_together(given.shape, entered)
        with self._precision(), nullcontext() if cotangents is not None else torch.no_grad():
            output = call(*args["positional"], **args["named"])
            shape, tensors = taken_apart(output, is_tensor)
            outputs = dict(zip(names(shape, "y"), tensors, strict=True))
            found = {name: to_array(value) for name, value in outputs.items()}
            if cotangents is None:
                return found
            pulled = sum(
                (value.double() * torch.from_numpy(np.array(cotangents[name], np.float64))).sum()
                for name, value in outputs.items()
                if value.requires_grad and name in cotangents
            )
            trained = {name: value for name, value in own.items() if value.requires_grad}
            wanted = [leaves[i] for i in floats] + list(trained.values())
            labels = [f"grad.{given.names[i]}" for i in floats] + [f"grad.weight.{name}" for name in trained]
            if wanted and is_tensor(pulled):
                gradients = torch.autograd.grad(pulled, wanted, allow_unused=True)
                for label, leaf, gradient in zip(labels, wanted, gradients, strict=True):
                    found[label] = to_array(torch.zeros_like(leaf) if gradient is None else gradient)
            else:
                found |= {label: to_array(torch.zeros_like(leaf)) for label, leaf in zip(labels, wanted, strict=True)}
        return found

    def behave(self, how: str) -> None:
        """See `Side`."""
        self.module.train(how != "eval")
        for module in self.module.modules():
            if how == "train without dropout" and "drop" in type(module).__name__.lower():
                module.eval()

    def steps(self, given: Given, targets: Mapping[str, np.ndarray], count: int, rate: float) -> Arrays:
        """See `Side`."""
        trained = {name: value for name, value in self.module.named_parameters() if value.requires_grad}
        optimizer = torch.optim.SGD(trained.values(), lr=rate)
        losses = []
        with self._precision():
            for _ in range(count):
                args = put_together(given.shape, [self._tensor(value) for value in given.arrays])
                shape, tensors = taken_apart(self.called(*args["positional"], **args["named"]), is_tensor)
                outputs = dict(zip(names(shape, "y"), tensors, strict=True))
                loss = sum(
                    ((outputs[name] - self._tensor(target)) ** 2).mean() / 2
                    for name, target in targets.items()
                    if outputs[name].requires_grad
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(to_array(loss))
        optimizer.zero_grad()
        return {"loss": np.array(losses)} | {f"weight.{name}": to_array(value) for name, value in trained.items()}

    def give_back(self) -> None:
        """The module is a copy."""

    def close(self) -> None:
        """Nothing is held."""

    def _tap(self, calls: list[Call]) -> list[Any]:
        """Hooks that leave behind every call of every layer."""
        count: dict[str, int] = {}
        waiting: dict[str, list[Call]] = {}
        hooks = []

        def entering(path: str) -> Callable:
            def hook(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
                call = Call(path, count.get(path, 0), order=sum(count.values()))
                count[path] = call.number + 1
                waiting.setdefault(path, []).append(call)
                try:
                    call.given = given_as(args, kwargs, is_tensor, to_array)
                except NotATree as error:
                    call.why_not = f"it is given {error}"

            return hook

        def leaving(path: str) -> Callable:
            def hook(module: torch.nn.Module, args: tuple, output: Any) -> Any:
                call = waiting[path].pop()
                calls.append(call)
                try:
                    shape, leaves = taken_apart(output, is_tensor)
                except NotATree as error:
                    call.why_not = f"it gives {error}"
                    return output
                for name, leaf in zip(names(shape, "y"), leaves, strict=True):
                    call.outputs[name] = to_array(leaf)
                if not can_be_replaced(output, is_tensor):
                    return output
                # A view of its own: what a layer hands on may be used elsewhere too, as it is or before it is handed on
                # (an identity, a list of features), and the gradient wanted is of what comes out here alone.
                views = [leaf.view_as(leaf) for leaf in leaves]
                for name, view in zip(names(shape, "y"), views, strict=True):
                    if view.requires_grad:
                        view.register_hook(lambda g, name=name: call.gradients.update({f"grad.{name}": to_array(g)}))
                return put_together(shape, views)

            return hook

        for path, module in self.module.named_modules():
            if path:
                hooks.append(module.register_forward_pre_hook(entering(path), with_kwargs=True))
                hooks.append(module.register_forward_hook(leaving(path)))
        return hooks
