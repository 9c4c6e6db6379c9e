"""What only computes forward under `portparity.check`: a model in ONNX Runtime, a function of numpy arrays.

Neither has weights that could be set, layers that could be called or gradients: it is judged on its outputs, with the
original's weights as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..case import Arrays
from .side import Given, Run, Weight
from .trees import names, put_together, taken_apart


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic))


class ForwardSide:
    """A function of arrays, given as the original's are, to an array or a tree of arrays."""

    framework = "function"
    precision = "float32"
    forward_only = True

    def __init__(self, function: Callable):
        self.function = function

    def weights(self) -> dict[str, Weight]:
        """None that could be set."""
        return {}

    def layers(self) -> dict[str, str]:
        """Itself."""
        return {"": getattr(self.function, "__name__", type(self.function).__name__)}

    def argument_names(self, path: str = "") -> list[str]:
        """None that are known."""
        return []

    def load(self, weights: Arrays) -> None:
        """It keeps what it has."""

    def _call(self, given: Given) -> Any:
        args = put_together(given.shape, [np.array(value) for value in given.arrays])
        return self.function(*args["positional"], **args["named"])

    def run(
        self, given: Given, cotangents: Mapping[str, np.ndarray] | None, *, mode: str = "", tapped: bool = False
    ) -> Run:
        """See `Side`; forward only."""
        shape, leaves = taken_apart(self._call(given), _is_array)
        return Run({name: np.asarray(leaf) for name, leaf in zip(names(shape, "y"), leaves, strict=True)})

    def run_layer(
        self, path: str, given: Given, cotangents: Mapping[str, np.ndarray] | None, *, mode: str = ""
    ) -> Arrays:
        """It has no layers."""
        raise NotImplementedError("no layers")

    def behave(self, how: str) -> None:
        """It does not train."""

    def steps(self, given: Given, targets: Mapping[str, np.ndarray], count: int, rate: float) -> Arrays:
        """It does not train."""
        raise NotImplementedError("no training")

    def give_back(self) -> None:
        """Nothing was changed."""

    def close(self) -> None:
        """Nothing is held."""


class OnnxSide(ForwardSide):
    """An ONNX file or a session of ONNX Runtime; None and numbers among the arguments are part of what was exported."""

    def __init__(self, model: Any):
        if isinstance(model, (str, Path)):
            import onnxruntime

            model = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        super().__init__(model)

    def layers(self) -> dict[str, str]:
        """The graph's name."""
        return {"": f"ONNX {self.function.get_modelmeta().graph_name}".strip()}

    def _call(self, given: Given) -> Any:
        wanted = [entry.name for entry in self.function.get_inputs()]
        by_name = dict(zip(given.names, given.arrays, strict=True))
        if not set(wanted) <= set(by_name):
            by_name = dict(zip(wanted, given.arrays, strict=True))
        found = self.function.run(None, {name: np.array(by_name[name]) for name in wanted})
        return found[0] if len(found) == 1 else tuple(found)
