"""What `portparity.check` asks of a model, whatever framework it is in.

Arrays go in and out by name, under the reference's names: "y..." are outputs, "grad.x" the gradient of argument x,
"grad.weight.NAME" that of a parameter. A side says only what its own model does; the verdict is somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..case import Arrays
from .trees import Shape, names, taken_apart

PRECISIONS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True)
class Weight:
    """A parameter, or a buffer: something that a model keeps and no gradient reaches."""

    value: np.ndarray
    is_buffer: bool = False
    trainable: bool = True
    dtype: str = "float32"
    saved: bool = True  # whether it is in the model's checkpoints


@dataclass(frozen=True)
class Given:
    """Arguments: one tree of ``{"positional": (...), "named": {...}}`` with the arrays in it."""

    shape: Shape
    arrays: Sequence[np.ndarray]
    names: Sequence[str]  # of the arrays


def given_as(
    positional: Sequence[Any], named: Mapping[str, Any], is_tensor: Callable[[Any], bool], to_array: Callable
) -> Given:
    """The arguments of a call, by name and in order, as arrays. Raises NotATree."""
    shape, leaves = taken_apart({"positional": tuple(positional), "named": dict(named)}, is_tensor)
    labels = [label.split(".", 2)[-1] for label in names(shape, "given")]
    return Given(shape, [to_array(leaf) for leaf in leaves], labels)


@dataclass
class Call:
    """One call of a layer in a free run: what it was given and gave, and the gradient of what it gave."""

    path: str
    number: int  # of the calls of this layer
    given: Given | None = None  # None: something that another framework cannot be given
    order: int = 0  # in which it began, among all calls of the run
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    why_not: str = ""
    replaced: bool = True  # whether what it gives could be handed on in another form, without which it has no gradient

    @property
    def name(self) -> str:
        """The layer's path, with the number of the call from the second on."""
        return self.path if self.number == 0 else f"{self.path}#{self.number + 1}"


@dataclass
class Run:
    """What a model gave: outputs and gradients, and the calls of its layers in order of their ends."""

    arrays: dict[str, np.ndarray]
    calls: list[Call] = field(default_factory=list)


class Side(Protocol):
    """One model in one framework."""

    framework: str
    precision: str
    forward_only: bool  # no weights, no layers, no gradients

    def weights(self) -> dict[str, Weight]:
        """Everything it keeps, by its own names."""

    def layers(self) -> dict[str, str]:
        """Class names of its layers by path, the whole model under ""."""

    def argument_names(self, path: str = "") -> list[str]:
        """What the arguments of the model, or of one of its layers, are called, in order."""

    def load(self, weights: Arrays) -> None:
        """Puts arrays into weights of these names; what is not named stays."""

    def run(
        self, given: Given, cotangents: Mapping[str, np.ndarray] | None, *, mode: str = "", tapped: bool = False
    ) -> Run:
        """Runs it forward, and backward where there are cotangents (by output name).

        ``tapped``: with the calls of its layers.
        """

    def run_layer(
        self, path: str, given: Given, cotangents: Mapping[str, np.ndarray] | None, *, mode: str = ""
    ) -> Arrays:
        """Runs one layer alone: outputs, gradients of its arguments and of the parameters that are directly its own."""

    def behave(self, how: str) -> None:
        """ "eval", "train", or "train without dropout": in training mode, but for its dropout layers."""

    def steps(self, given: Given, targets: Mapping[str, np.ndarray], count: int, rate: float) -> Arrays:
        """``count`` steps of plain gradient descent towards ``targets`` (by output name).

        "loss" of each step, half of the mean square, and "weight.NAME" after the last.
        """

    def give_back(self) -> None:
        """Puts back what the model came with."""

    def close(self) -> None:
        """Lets go of what it holds."""
