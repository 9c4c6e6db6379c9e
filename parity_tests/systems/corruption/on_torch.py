"""Corruption, BasicNet, its loss, training and chains, by `torch_ref`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from parity_tests.backends.shared_torch import kernels
from portparity.arrays import by_time
from portparity.case import Arrays
from portparity.on_torch import arrays, load, tensor, vjp
from torch_ref import optim
from torch_ref.systems.corruption.basic_net import BasicNet
from torch_ref.systems.corruption.model import NOISES, Corruption


def _corruption(spec: Mapping, inputs: Arrays, dtype: str) -> Corruption:
    net = BasicNet(**spec["basic_net"])
    load(net, inputs, dtype)
    return Corruption(net, spec.get("noise", "uniform"))


def noise(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Corrupted images, one output each."""
    made = NOISES[spec["noise"]](*(tensor(inputs[name], dtype) for name in ("x", "amount", "z")))
    return by_time(arrays({"corrupted": made}), np.arange(len(made)))


@torch.no_grad()
def corruption_step(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Step i of n, for every (i, n) of ``spec["steps"]``."""
    model, found = _corruption(spec, inputs, dtype), {}
    for i, n in spec["steps"]:
        x, prediction = model.step(tensor(inputs["x"], dtype), 1 / (n - i))
        found |= {f"x[step={i} of {n}]": x, f"prediction[step={i} of {n}]": prediction}
    return arrays(found)


@kernels
def basic_net(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """A whole BasicNet: output, gradient of its input and of every parameter."""
    net = _corruption(spec, inputs, dtype).model
    return vjp(net, net, {"x": tensor(inputs["x"], dtype)}, tensor(inputs["cotangent"], dtype), (0,), dtype)


@kernels
def corruption_loss(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The loss and its gradients."""
    model = _corruption(spec, inputs, dtype)
    value = model(*(tensor(inputs[name], dtype) for name in ("img", "amount", "z")))
    trained = dict(model.model.named_parameters())
    gradients = torch.autograd.grad(value, list(trained.values()))
    found = {f"grad.weight.{name}": g for name, g in zip(trained, gradients, strict=True)}
    return arrays({"loss": value, **found})


@kernels
def corruption_train(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Free-running training by Adam: the loss of every step and the weights at the end."""
    model, losses = _corruption(spec, inputs, dtype), []
    trained = dict(model.model.named_parameters())
    adam = optim.Adam(list(trained.values()), **spec["arguments"])
    for img, amount, z in zip(*(inputs[name] for name in ("img", "amount", "z")), strict=True):
        value = model(*(tensor(array, dtype) for array in (img, amount, z)))
        adam.step(list(torch.autograd.grad(value, list(trained.values()))))
        losses.append(value.item())
    kind = np.float64 if dtype == "float64" else np.float32
    return {"loss": np.array(losses, kind)} | arrays({f"weight.{name}": p for name, p in trained.items()})


@kernels
def corruption_chain(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """A whole chain: its states and its predictions, the step first."""
    states, predictions = _corruption(spec, inputs, dtype).chain(tensor(inputs["z"], dtype), spec["steps"])
    return arrays({"states": states.transpose(0, 1), "predictions": predictions.transpose(0, 1)})


LAYERS = {
    "max_pool": lambda: nn.MaxPool2d(2),
    "nearest_upsample": lambda: nn.Upsample(scale_factor=2),
}
NETWORKS = {"basic_net": BasicNet}
KINDS = {
    run.__name__: run
    for run in (noise, corruption_step, basic_net, corruption_loss, corruption_train, corruption_chain)
}
