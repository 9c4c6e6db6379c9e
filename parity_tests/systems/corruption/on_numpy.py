"""numpy in float64: corruption, one step of its sampler, whole chains, BasicNet's loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from parity_tests.oracle import layers
from portparity.arrays import by_time, given
from portparity.case import Arrays

from . import oracle


def _model(inputs: Arrays) -> Callable[[np.ndarray], np.ndarray]:
    return partial(oracle.basic_net, weights=given(inputs, "weight"))


def noise(spec: Mapping, inputs: Arrays) -> Arrays:
    """Corrupted images, one output each."""
    made = oracle.corrupted(spec["noise"], inputs["x"], inputs["amount"], inputs["z"])
    return by_time({"corrupted": made}, np.arange(len(made)))


def noise_scales(spec: Mapping, inputs: Arrays) -> Arrays:
    """The magnitudes of the larger operands of `noise`."""
    made = oracle.operands_of_corrupted(spec["noise"], inputs["x"], inputs["amount"], inputs["z"])
    return by_time({"corrupted": made}, np.arange(len(made)))


def corruption_step(spec: Mapping, inputs: Arrays) -> Arrays:
    """Step i of n, for every (i, n) of ``spec["steps"]``."""
    found = {}
    for i, n in spec["steps"]:
        x, prediction = oracle.step(_model(inputs), np.asarray(inputs["x"], np.float64), i, n)
        found |= {f"x[step={i} of {n}]": x, f"prediction[step={i} of {n}]": prediction}
    return found


def corruption_loss(spec: Mapping, inputs: Arrays) -> Arrays:
    """The loss alone; its gradients are PyTorch's in double."""
    value = oracle.loss(_model(inputs), spec["noise"], inputs["img"], inputs["amount"], inputs["z"])
    return {"loss": np.asarray(value, np.float64)}


def basic_net(spec: Mapping, inputs: Arrays) -> Arrays:
    """The network's output alone."""
    return {"y": _model(inputs)(inputs["x"])}


def corruption_chain(spec: Mapping, inputs: Arrays) -> Arrays:
    """A whole chain: its states and its predictions, the step first."""
    states, predictions = oracle.chain(_model(inputs), spec["noise"], inputs["z"], spec["steps"])
    return {"states": np.swapaxes(states, 0, 1).copy(), "predictions": np.swapaxes(predictions, 0, 1).copy()}


LAYERS: dict[str, Callable] = {  # kind: (arguments, weights, image) -> output
    "max_pool": lambda a, w, x: layers.max_pool(x, 2, ceil=False),
    "nearest_upsample": lambda a, w, x: layers.nearest_upsample(x),
}
KINDS = {
    run.__name__: run for run in (noise, noise_scales, corruption_step, corruption_loss, basic_net, corruption_chain)
}
