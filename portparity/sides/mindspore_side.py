"""A MindSpore cell under `portparity.check`, in PyNative mode or as one graph.

The context stays PyNative; "graph" compiles with ``ms.jit``, which is how a graph and its eager twin live in one
process. Where the gradient of a layer's output is wanted, a zero is added to that output and differentiated by:
MindSpore's own backward hooks do not see every output.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..case import Arrays
from ..dtypes import as_bfloat16
from ..on_mindspore import start
from .side import Call, Given, Run, Weight, given_as
from .trees import NotATree, Shape, can_be_replaced, names, paths, put_together, taken_apart

import mindspore as ms  # isort: skip  on_mindspore says how it starts
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops  # isort: skip

DTYPES = {"float64": ms.float64, "float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16}
FLOATS = tuple(DTYPES.values())


def dtype_name(value: Tensor) -> str:
    """ "float32" """
    return str(value.dtype).lower()


def to_array(value: Tensor) -> np.ndarray:
    """A tensor as an array of its own dtype."""
    if value.dtype == ms.bfloat16:
        return as_bfloat16(ops.cast(value, ms.float32).asnumpy())
    return np.array(value.asnumpy())


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is a tensor."""
    return isinstance(value, Tensor)


def _picked(output: Any, path: tuple) -> Any:
    """The leaf of ``output`` at ``path``; in graph mode too, where nothing but tuples and dicts comes out."""
    for step in path:
        output = output[step] if isinstance(output, (tuple, list, dict)) else getattr(output, step)
    return output


class MindSporeSide:
    """A cell, or the function that makes one.

    Args:
        port: a Cell, which is left with the weights that it had, or a function without arguments that makes one.
        precision: what its floats are to be; by default what most of its parameters are.
    """

    framework = "mindspore"
    forward_only = False

    def __init__(self, port: Any, precision: str = ""):
        start()
        self.cell: nn.Cell = port if isinstance(port, nn.Cell) else port()
        self.cell.set_train(False)
        self._before = {name: np.array(value.asnumpy()) for name, value in self._kept().items()}
        self._dtypes = {name: value.dtype for name, value in self._kept().items() if value.dtype in FLOATS}
        common = self._common()
        self.precision = precision or common
        if self.precision != common:
            self._cast(dict.fromkeys(self._dtypes, DTYPES[precision]))
        self._compiled: dict[Any, Callable] = {}

    def _kept(self) -> dict[str, Parameter]:
        return dict(self.cell.parameters_and_names())

    def _common(self) -> str:
        """The float type that most of the parameters' elements have."""
        sizes: dict[str, int] = {}
        for value in self._kept().values():
            if value.dtype in FLOATS:
                sizes[dtype_name(value)] = sizes.get(dtype_name(value), 0) + value.size
        return max(sizes, key=lambda name: sizes[name], default="float32")

    def _cast(self, dtypes: Mapping[str, Any]) -> None:
        kept = self._kept()
        for name, dtype in dtypes.items():
            kept[name].set_dtype(dtype)

    def _tensor(self, value: np.ndarray) -> Tensor:
        made = Tensor(np.array(value, order="C"))
        return ops.cast(made, DTYPES[self.precision]) if made.dtype in FLOATS else made

    def weights(self) -> dict[str, Weight]:
        """Parameters by the paths of their cells. One that is not trained may be a buffer: the reference knows."""
        return {
            name: Weight(to_array(value), trainable=value.requires_grad, dtype=dtype_name(value))
            for name, value in self._kept().items()
        }

    def layers(self) -> dict[str, str]:
        """Class names by path."""
        return {path: type(cell).__name__ for path, cell in self.cell.cells_and_names()}

    def argument_names(self, path: str = "") -> list[str]:
        """The names of construct's arguments."""
        return list(_signature(self._layer(path)).parameters)

    def _layer(self, path: str) -> nn.Cell:
        return dict(self.cell.cells_and_names())[path]

    def load(self, weights: Arrays) -> None:
        """Writes into the memory there is: a graph that has run goes on reading that (MindSpore 2.10)."""
        kept = self._kept()
        for name, value in weights.items():
            parameter = kept[name]
            made = ops.cast(Tensor(np.array(value, order="C")), parameter.dtype)
            ops.assign(parameter, made.reshape(parameter.shape))

    def give_back(self) -> None:
        """Puts the weights back that the cell came with, in their own dtypes."""
        self._cast(self._dtypes)
        self.load(self._before)

    def close(self) -> None:
        """Nothing is held."""

    def run(
        self, given: Given, cotangents: Mapping[str, np.ndarray] | None, *, mode: str = "pynative", tapped: bool = False
    ) -> Run:
        """See `Side`."""
        if not tapped:
            return Run(self._run(self.cell, given, cotangents, self._own(self.cell, ""), mode))
        return self._run_tapped(given, cotangents or {})

    def run_layer(
        self, path: str, given: Given, cotangents: Mapping[str, np.ndarray] | None, *, mode: str = "pynative"
    ) -> Arrays:
        """See `Side`."""
        layer = self._layer(path)
        own = {name: value for name, value in self._own(layer, path).items() if "." not in name[len(path) :].strip(".")}
        return self._run(layer, given, cotangents, own, mode)

    def behave(self, how: str) -> None:
        """See `Side`."""
        self.cell.set_train(how != "eval")
        for _, cell in self.cell.cells_and_names():
            if how == "train without dropout" and "drop" in type(cell).__name__.lower():
                cell.set_train(False)

    def steps(self, given: Given, targets: Mapping[str, np.ndarray], count: int, rate: float) -> Arrays:
        """See `Side`."""
        leaves = [self._tensor(value) for value in given.arrays]
        call = _caller(self.cell, given.shape, "pynative")
        own = self._own(self.cell, "")
        trained = ParameterTuple(tuple(own.values()))
        optimizer = nn.SGD(list(own.values()), learning_rate=rate)
        wanted = {name: self._tensor(value) for name, value in targets.items()}

        def loss() -> Tensor:
            shape, tensors = taken_apart(call(*leaves), is_tensor)
            outputs = dict(zip(names(shape, "y"), tensors, strict=True))
            found = dict(zip(wanted, outputs.values(), strict=False)) if set(wanted) - set(outputs) else outputs
            parts = [((found[name] - target) ** 2).mean() / 2 for name, target in wanted.items()]
            return sum(parts[1:], parts[0])

        step, losses = ms.value_and_grad(loss, None, trained), []
        for _ in range(count):
            value, gradients = step()
            optimizer(gradients)
            losses.append(to_array(value))
        return {"loss": np.array(losses)} | {f"weight.{name}": to_array(value) for name, value in own.items()}

    def _own(self, layer: nn.Cell, path: str) -> dict[str, Parameter]:
        prefix = f"{path}." if path else ""
        return {f"{prefix}{n}": value for n, value in layer.parameters_and_names() if value.requires_grad}

    def _run(
        self,
        layer: nn.Cell,
        given: Given,
        cotangents: Mapping[str, np.ndarray] | None,
        own: Mapping[str, Parameter],
        mode: str,
    ) -> dict[str, np.ndarray]:
        leaves = [self._tensor(value) for value in given.arrays]
        floats = tuple(i for i, leaf in enumerate(leaves) if leaf.dtype in FLOATS)
        call = _caller(layer, given.shape, mode)
        as_asked = ms.jit if mode == "graph" else lambda function: function
        if not cotangents or not (floats or own):
            shape, tensors = taken_apart(as_asked(call)(*leaves), is_tensor)
            return {name: to_array(value) for name, value in zip(names(shape, "y"), tensors, strict=True)}
        pulled_by = [Tensor(np.array(value, np.float32)) for value in cotangents.values()]
        if mode == "graph":
            shape = self._shape_in_pynative(layer, given)
            loss = _pulled(call, _places(shape, cotangents), len(leaves), paths(shape))
        else:
            loss = _PulledInPyNative(call, tuple(cotangents), len(leaves))
        weights = ParameterTuple(tuple(own.values()))
        both = as_asked(ms.value_and_grad(loss, floats or None, weights if own else None, has_aux=True))
        (_, outputs), gradients = both(*leaves, *pulled_by)
        if mode != "graph":
            shape = loss.shape
        of_leaves, of_own = gradients if floats and own else (gradients, ()) if floats else ((), gradients)
        of_leaves = of_leaves if isinstance(of_leaves, tuple) else (of_leaves,)
        labels = [*names(shape, "y"), *(f"grad.{given.names[i]}" for i in floats), *(f"grad.weight.{n}" for n in own)]
        found = zip(labels, (*outputs, *of_leaves, *of_own), strict=True)
        return {name: to_array(value) for name, value in found}

    def _shape_in_pynative(self, layer: nn.Cell, given: Given) -> Shape:
        """What the layer gives, of which a graph is to pick the tensors."""
        output = _caller(layer, given.shape, "pynative")(*(self._tensor(value) for value in given.arrays))
        return taken_apart(output, is_tensor)[0]

    def _run_tapped(self, given: Given, cotangents: Mapping[str, np.ndarray]) -> Run:
        """One free run, in which every layer's calls are written down, and a second one backward."""
        leaves = [self._tensor(value) for value in given.arrays]
        call = _caller(self.cell, given.shape, "pynative")
        calls: list[Call] = []
        probes: dict[tuple[str, int, str], Tensor] = {}
        with self._wrapped(calls, probes):
            shape, tensors = taken_apart(call(*leaves), is_tensor)
        found = {name: to_array(value) for name, value in zip(names(shape, "y"), tensors, strict=True)}
        where = paths(shape)
        places = _places(shape, cotangents)
        keys = [
            (made.path, made.number, name)
            for made in calls
            for name, value in made.outputs.items()
            if value.dtype.kind == "f" and made.replaced
        ]
        if not (places and keys):
            return Run(found, calls)
        zeros = [
            ops.cast(Tensor(np.zeros(made.outputs[name].shape, np.float32)), DTYPES[self.precision])
            for made in calls
            for name, value in made.outputs.items()
            if value.dtype.kind == "f" and made.replaced
        ]
        pulled_by = [Tensor(np.array(value, np.float32)) for value in cotangents.values()]

        def loss(*given_probes: Tensor) -> Tensor:
            probes.update(zip(keys, given_probes, strict=True))
            output = call(*leaves)
            parts = [
                (ops.cast(_picked(output, where[place]), ms.float32) * pulled).sum()
                for place, pulled in zip(places, pulled_by, strict=True)
            ]
            return sum(parts[1:], parts[0])

        with self._wrapped([], probes):
            gradients = ms.grad(loss, tuple(range(len(zeros))))(*zeros)
        by_name = {(made.path, made.number): made for made in calls}
        for (path, number, name), value in zip(keys, gradients if len(keys) > 1 else [gradients], strict=True):
            array = to_array(value[0] if isinstance(value, tuple) else value)
            by_name[path, number].gradients[f"grad.{name}"] = array
        return Run(found, calls)

    @contextmanager
    def _wrapped(self, calls: list[Call], probes: Mapping[tuple[str, int, str], Tensor]) -> Iterator[None]:
        """Inside, every layer writes down its calls and adds the probes to what it gives."""
        count: dict[str, int] = {}
        originals = {}

        def wrapped(path: str, construct: Callable) -> Callable:
            def call(*args: Any, **kwargs: Any) -> Any:
                made = Call(path, count.get(path, 0), order=sum(count.values()))
                count[path] = made.number + 1
                entered = _entered(made, args, kwargs)
                output = construct(*args, **kwargs)
                made.given = entered
                calls.append(made)
                try:
                    shape, leaves = taken_apart(output, is_tensor)
                except NotATree as error:
                    made.why_not = f"it gives {error}"
                    return output
                labels = names(shape, "y")
                made.outputs = {name: to_array(leaf) for name, leaf in zip(labels, leaves, strict=True)}
                added = [
                    leaf + probes[path, made.number, name] if (path, made.number, name) in probes else leaf
                    for name, leaf in zip(labels, leaves, strict=True)
                ]
                made.replaced = can_be_replaced(output, is_tensor)
                return put_together(shape, added) if probes and made.replaced else output

            return call

        for path, cell in self.cell.cells_and_names():
            if path:
                originals[path] = cell
                cell.construct = wrapped(path, cell.construct)
        try:
            yield
        finally:
            for cell in originals.values():
                del cell.construct


def _entered(made: Call, args: tuple, kwargs: dict) -> Given | None:
    try:
        return given_as(args, kwargs, is_tensor, to_array)
    except NotATree as error:
        made.why_not = f"it is given {error}"
        return None


def _caller(layer: nn.Cell, shape: Shape, mode: str) -> Callable:
    """``layer`` as a function of tensors alone. A graph is given its arguments by position: it knows no trees."""
    content = shape["dict"]
    positional, named = content["positional"]["tuple"], content["named"]["dict"]
    in_order = mode == "graph" or hasattr(layer, "called_as")
    if in_order and not any(set(part) - {"tensor", "literal"} for part in (*positional, *named.values())):
        return _by_position(layer, positional, named)

    def call(*leaves: Tensor) -> Any:
        args = put_together(shape, leaves)
        return layer(*args["positional"], **args["named"])

    return call


def _signature(layer: nn.Cell) -> inspect.Signature:
    """Of construct, or of the function that the cell stands for, see `functions`."""
    if hasattr(layer, "called_as"):
        return inspect.signature(layer.called_as)
    found = inspect.signature(type(layer).construct)
    return found.replace(parameters=list(found.parameters.values())[1:])


def _by_position(layer: nn.Cell, positional: list[Shape], named: Mapping[str, Shape]) -> Callable:
    parameters = list(_signature(layer).parameters.values())[len(positional) :]
    while parameters and parameters[-1].name not in named:
        parameters.pop()
    parts = [*positional, *(named.get(p.name, {"literal": p.default}) for p in parameters)]
    order = tuple((True, part["tensor"]) if "tensor" in part else (False, part["literal"]) for part in parts)

    def call(*leaves: Tensor) -> Any:
        args = ()
        for is_leaf, value in order:
            args = args + ((leaves[value],) if is_leaf else (value,))
        return layer(*args)

    return call


def _places(shape: Shape, cotangents: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """Which leaves of the output are multiplied by the cotangents: of their names, or in their order."""
    order = names(shape, "y")
    known = all(name in order for name in cotangents)
    return tuple(order.index(name) if known else i for i, name in enumerate(cotangents))


def _pulled(call: Callable, places: tuple[int, ...], count: int, picked: list[tuple]) -> Callable:
    """(*leaves, *cotangents) -> the sum of outputs times cotangents, and the outputs: as a graph can have it."""
    picked = tuple(picked)

    def loss(*given: Tensor) -> tuple:
        output = call(*given[:count])
        outputs = ()
        for path in picked:
            outputs = outputs + (_picked(output, path),)
        total = (ops.cast(outputs[places[0]], ms.float32) * given[count]).sum()
        for i in range(1, len(places)):
            total = total + (ops.cast(outputs[places[i]], ms.float32) * given[count + i]).sum()
        return total, outputs

    return loss


class _PulledInPyNative:
    """The same, once and whatever comes out; ``shape`` is of what came out last."""

    def __init__(self, call: Callable, cotangents: tuple[str, ...], count: int):
        self.call = call
        self.cotangents = cotangents
        self.count = count
        self.shape: Shape = {}

    def __call__(self, *given: Tensor) -> tuple:
        self.shape, outputs = taken_apart(self.call(*given[: self.count]), is_tensor)
        places = _places(self.shape, dict.fromkeys(self.cotangents))
        parts = [
            (ops.cast(outputs[place], ms.float32) * pulled).sum()
            for place, pulled in zip(places, given[self.count :], strict=True)
        ]
        return sum(parts[1:], parts[0]), tuple(outputs)
