"""One's own port under the harness: legs from a PyTorch module and a MindSpore cell, and a tap on every layer.

`examples.classifier` shows it. A leg is a plain function, so any other framework needs no more
than one of its own.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .arrays import perturbed, weights
from .case import Arrays, Computation, Leg
from .localise import Sides, Tap

if TYPE_CHECKING:
    from mindspore import nn
    from torch.nn import Module

__all__ = ["layer_taps", "mindspore_leg", "perturbed", "port", "random_weights", "torch_leg"]

NOT_ARGUMENTS = ("weight.", "cotangent")


def _arguments(inputs: Arrays) -> dict[str, np.ndarray]:
    return {name: value for name, value in inputs.items() if not name.startswith(NOT_ARGUMENTS)}


def _differentiable(arguments: Arrays) -> tuple[int, ...]:
    return tuple(i for i, value in enumerate(arguments.values()) if value.dtype.kind == "f")


def torch_leg(make: Callable[[], Module], dtype: str = "float32") -> Leg:
    """The leg that runs a PyTorch module: "y", and "grad.NAME" of its arguments and "grad.weight.NAME" of its weights.

    Args:
        make: builds the module; its weights become the inputs "weight.NAME".
        dtype: "float32" for the reference, "float64" for the truth.
    """

    def run(inputs: Arrays) -> Arrays:
        from . import on_torch

        module = make().eval()
        on_torch.load(module, inputs, dtype)
        given = _arguments(inputs)
        args = {name: on_torch.tensor(value, dtype) for name, value in given.items()}
        cotangent = on_torch.tensor(inputs["cotangent"], dtype)
        return on_torch.vjp(module, module, args, cotangent, _differentiable(given), dtype)

    return run


def mindspore_leg(make: Callable[[], nn.Cell], names: Mapping[str, str] | None = None, mode: str = "pynative") -> Leg:
    """The leg that runs a MindSpore cell; the outputs are called as `torch_leg` calls them.

    Args:
        make: builds the cell.
        names: our parameter names -> PyTorch's, where they differ.
        mode: "graph" or "pynative".
    """

    def run(inputs: Arrays) -> Arrays:
        from . import on_mindspore

        on_mindspore.start()
        cell = make().set_train(False)
        theirs = {name: (names or {}).get(name, name) for name, _ in cell.parameters_and_names()}
        on_mindspore.load(cell, inputs, theirs)
        given = _arguments(inputs)
        positions = _differentiable(given)

        def call(*args):
            return cell(*args)

        args = [(name, on_mindspore.tensor(value)) for name, value in given.items()]
        both = on_mindspore.with_gradients(call, cell, positions, mode)
        return on_mindspore.vjp(both, cell, args, on_mindspore.tensor(inputs["cotangent"]), theirs, positions)

    return run


def random_weights(make: Callable[[], Module], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The inputs "weight.NAME" of a PyTorch module: no gain is 1 and no bias 0, so that none can hide."""
    return weights({name: tuple(p.shape) for name, p in make().named_parameters()}, rng)


def port(
    key: str,
    inputs: Callable[[], Arrays],
    theirs: Callable[[], Module],
    ours: Callable[[], nn.Cell],
    names: Mapping[str, str] | None = None,
    mode: str = "pynative",
) -> Computation:
    """A PyTorch module and its MindSpore port as one computation: PyTorch in double is the truth."""
    reference = torch_leg(theirs)
    references = (reference, *(perturbed(reference, i) for i in (0, 1)))
    return Computation(
        key, inputs, truth=torch_leg(theirs, "float64"), references=references,
        candidates={"mindspore": mindspore_leg(ours, names, mode)}, rule="layers", sources=sources_of(theirs, inputs),
    )  # fmt: skip


def sources_of(*functions: Callable) -> tuple[Path, ...]:
    """The files in which classes and functions are written: a bundle recorded by other code is stale."""
    found = []
    for function in functions:
        if isinstance(function, str):  # FILE.py:NAME
            found.append(Path(function.rpartition(":")[0]).resolve())
            continue
        function = function if isinstance(function, type) or inspect.isroutine(function) else type(function)
        with contextlib.suppress(TypeError, OSError):  # a partial, a notebook's cell
            found.append(Path(inspect.getsourcefile(inspect.unwrap(function))).resolve())
    return tuple(sorted({path for path in found if path.is_file()}))


def layer_taps(
    inputs: Arrays,
    theirs: Module,
    ours: nn.Cell,
    layers: Sequence[str] | Mapping[str, str],
    names: Mapping[str, str] | None = None,
) -> list[Tap]:
    """One tap per layer, for `localise_layers`: each of our layers is fed what PyTorch's layer was given.

    Args:
        inputs: as for the legs.
        theirs, ours: the two models, built alike.
        layers: the layers' paths in order of computation; a mapping where ours are called otherwise: ours -> theirs.
        names: our parameter names -> PyTorch's, where they differ.
    """
    from . import on_mindspore, on_torch

    on_mindspore.start()
    on_mindspore.load(ours, inputs, {name: (names or {}).get(name, name) for name, _ in ours.parameters_and_names()})
    on_torch.load(theirs, inputs, "float32")
    paths = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
    cells, modules, entered = dict(ours.cells_and_names()), dict(theirs.named_modules()), {}
    hooks = [
        modules[path].register_forward_hook(lambda module, args, output, path=path: entered.update({path: args}))
        for path in paths.values()
    ]
    theirs(*(on_torch.tensor(value, "float32") for value in _arguments(inputs).values()))
    for hook in hooks:
        hook.remove()

    def torch_layer(path: str, dtype: str) -> Leg:
        def run(given: Arrays) -> Arrays:
            module = modules[path].to(on_torch.DTYPES[dtype])
            y = module(*(on_torch.tensor(value, dtype) for value in given.values()))
            modules[path].to(on_torch.DTYPES["float32"])
            return on_torch.arrays({"y": y})

        return run

    def tap(own: str, path: str) -> Tap:
        given = {str(i): value.detach().numpy() for i, value in enumerate(entered[path])}
        reference, truth = torch_layer(path, "float32"), torch_layer(path, "float64")
        y = cells[own](*(on_mindspore.tensor(value) for value in given.values()))
        runs = [reference(given), *(perturbed(reference, i)(given) for i in (0, 1))]
        return Tap(own, Sides(on_mindspore.arrays({"y": y}), runs, truth(given)))

    return [tap(own, path) for own, path in paths.items()]
