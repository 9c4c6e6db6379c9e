"""How long the sums behind a gradient are, and what that allows.

The gradient of a bias is a sum over every place where it was used: over the batch, over an image. PyTorch adds in
pairs, and its own error says nothing of that; MindSpore on CPU adds one after the other (2.10), which is right too and
loses, measured in units u of the result (n terms; random ones, and n equal ones, as mean pooling leaves them):

    n            64    256   1024   4096   65536
    random       3.1    2.7    6.5     24      69     0.4 sqrt(n) is what theory says
    equal        9.0     35    114    483    8885     n / 8
    PyTorch    <2.7    2.5    3.9    2.5     4.7
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ..case import Arrays
from ..sides.side import Call

RANDOM = 0.25  # of sqrt(n), by which the magnitude of a sum counts as larger; with F = 4 that allows sqrt(n) units
EQUAL = 1 / 16  # of n, in a whole model, whose terms may be equal; with F = 4 that allows n / 4 units


def scaled(truth: Arrays, factors: Mapping[str, float]) -> dict[str, np.ndarray]:
    """The magnitudes by which results are judged: those of sums as if they were ``factors`` times as large."""
    return {name: value * max(1.0, factors.get(name, 0)) for name, value in truth.items()}


def of_layer(outputs: Arrays, results: Arrays) -> dict[str, float]:
    """The factors of one layer's gradients, whose cotangents are random numbers.

    There are as many terms as it gives numbers for each that a gradient holds.
    """
    size = max((value.size for value in outputs.values()), default=0)
    return {name: RANDOM * length**0.5 for name, length in _lengths(size, results).items()}


def of_model(calls: Iterable[Call], results: Arrays) -> dict[str, float]:
    """The same for a whole model: by the layer that has the parameter, and by the largest for what is given.

    A matrix's gradient is a product of matrices, and none adds one after the other.
    """
    largest, by_owner = 0, {}
    for call in calls:
        size = max((value.size for value in call.outputs.values()), default=0)
        largest = max(largest, size)
        by_owner[call.path] = by_owner.get(call.path, 0) + size
    found = {}
    for name, value in results.items():
        owner = name.removeprefix("grad.weight.").rpartition(".")[0]
        for length in _lengths(by_owner.get(owner, largest), {name: value}).values():
            is_matrix = name.startswith("grad.weight.") and value.ndim > 1
            found[name] = RANDOM * length**0.5 if is_matrix else max(RANDOM * length**0.5, EQUAL * length)
    return found


def _lengths(size: int, results: Arrays) -> dict[str, float]:
    found = {}
    for name, value in results.items():
        if name.startswith("grad.weight."):
            found[name] = size / max(value.shape[0] if value.ndim else 1, 1)
        elif name.startswith("grad."):
            found[name] = size / max(value.size, 1)
    return found
