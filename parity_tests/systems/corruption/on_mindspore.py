"""Corruption, BasicNet, its loss, training and chains, by the product."""

from __future__ import annotations

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple

from ms_ddpm.models.basic import BasicNet
from ms_ddpm.ops import pooling
from ms_ddpm.systems.corruption.corruption import NOISES, Corruption
from ms_ddpm.training.amp import DynamicLossScale
from ms_ddpm.training.optim import OPTIMIZERS
from ms_ddpm.training.train_step import TrainStep
from parity_tests.backends.shared_mindspore import RNG, names_of, product_mode
from portparity.arrays import by_time
from portparity.case import Arrays
from portparity.memo import memo
from portparity.on_mindspore import arrays, as_graph, load, tensor, vjp, with_gradients


def _corruption(spec: Mapping, inputs: Arrays, mode: str) -> Corruption:
    by_kernels = bool(spec.get("kernels"))

    def build():
        net = BasicNet(**spec["basic_net"], rng=RNG, use_kernels=by_kernels)
        return Corruption(net, image_size=spec["side"], noise_kind=spec.get("noise", "uniform"))

    what = (spec["basic_net"], spec["side"], spec.get("noise", "uniform"), by_kernels, mode)
    model = memo(build, "mindspore corruption", *what)
    load(model.model, inputs, names_of(model.model))
    return model


def noise(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """Corrupted images, one output each."""

    def build():
        apply = NOISES[spec["noise"]].apply

        def call(x, amount, z):
            return apply(x, amount, z)

        return as_graph(call, mode)

    call = memo(build, "mindspore noise", spec["noise"], mode)
    made = call(*(tensor(inputs[name]) for name in ("x", "amount", "z")))
    return by_time(arrays({"corrupted": made}), np.arange(len(made)))


def corruption_step(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """Step i of n, for every (i, n) of ``spec["steps"]``."""
    model, found = _corruption(spec, inputs, mode), {}
    with product_mode(mode):
        step = model.compiled_step()
    for i, n in spec["steps"]:
        x, prediction = step(tensor(inputs["x"]), tensor(np.float32(1 / (n - i))))
        found |= {f"x[step={i} of {n}]": x, f"prediction[step={i} of {n}]": prediction}
    return arrays(found)


def basic_net(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """A whole BasicNet: output, gradient of its input and of every parameter."""
    net = _corruption(spec, inputs, mode).model

    def build():
        def call(x):
            return net(x)

        return with_gradients(call, net, (0,), mode)

    call = memo(build, "mindspore basic_net", spec["basic_net"], spec["side"], bool(spec.get("kernels")), mode)
    return vjp(call, net, [("x", tensor(inputs["x"]))], tensor(inputs["cotangent"]), names_of(net), (0,))


def corruption_loss(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The loss and its gradients."""
    model = _corruption(spec, inputs, mode)

    def build():
        def value(img, amount, z):
            return model(img, amount, z)

        return as_graph(ms.value_and_grad(value, None, ParameterTuple(model.trainable_params())), mode)

    call = memo(build, "mindspore corruption_loss", dict(spec), mode)
    value, gradients = call(*(tensor(inputs[name]) for name in ("img", "amount", "z")))
    names = {id(p): name for name, p in model.model.parameters_and_names()}
    found = {f"grad.weight.{names[id(p)]}": g for p, g in zip(model.trainable_params(), gradients, strict=True)}
    return arrays({"loss": value, **found})


def corruption_train(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """Free-running training by the product's step: the loss of every step and the weights at the end."""
    model, losses = _corruption(spec, inputs, mode).set_train(True), []
    with product_mode(mode):
        adam = OPTIMIZERS["adam"](model.trainable_params(), **spec["arguments"])
        scaler = DynamicLossScale(enabled=False)
        step = TrainStep(model, adam, scaler, max_grad_norm=1e9, accumulate=1)
    for batch in zip(*(inputs[name] for name in ("img", "amount", "z")), strict=True):
        losses.append(step(spec["arguments"]["lr"], [batch]).loss)
    weights = {f"weight.{name}": p for name, p in model.model.parameters_and_names()}
    return {"loss": np.array(losses, np.float32)} | arrays(weights)


def corruption_chain(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """A whole chain: its states and its predictions, the step first."""
    model = _corruption(spec, inputs, mode)
    with product_mode(mode):
        states, predictions = model.chain(len(inputs["z"]), noise=[inputs["z"]], steps=spec["steps"])
    found = arrays({"states": states, "predictions": predictions})
    return {name: np.swapaxes(value, 0, 1).copy() for name, value in found.items()}


LAYERS = {"max_pool": pooling.MaxPool2, "nearest_upsample": pooling.Upsample2}
KINDS = {
    run.__name__: run
    for run in (noise, corruption_step, basic_net, corruption_loss, corruption_train, corruption_chain)
}
