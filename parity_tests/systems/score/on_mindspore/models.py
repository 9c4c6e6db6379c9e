"""Score models: SDEs, one step, losses, training, chains, likelihood."""

from __future__ import annotations

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from ms_ddpm.models.conditional_unet import ConditionalScoreUnet
from ms_ddpm.models.score_unet import ScoreUnet
from ms_ddpm.nn.preconditioning import PreconditionedScore
from ms_ddpm.nn.sde import SDES
from ms_ddpm.samplers import likelihood
from ms_ddpm.samplers import score as samplers
from ms_ddpm.systems.score.score_model import ScoreModel
from ms_ddpm.training.amp import DynamicLossScale
from ms_ddpm.training.optim import OPTIMIZERS
from ms_ddpm.training.train_step import TrainStep
from parity_tests.backends.shared_mindspore import RNG, product_mode
from portparity.case import Arrays
from portparity.memo import memo
from portparity.on_mindspore import arrays, as_graph, load, tensor

from ..names import innermost

FUNCTIONS = ("marginal_prob_coeff", "marginal_prob_std", "drift_coeff", "diffusion_coeff")
NETWORKS = {"score_unet": ScoreUnet, "conditional_score_unet": ConditionalScoreUnet}


class StandIn(nn.Cell):
    """(bias + table[y] - gain x + mix x / (1 + x^2)) / (0.2 + std(t)^2), channel by channel."""

    null_class = True

    def __init__(self, sde, channels: int, num_classes: int):
        super().__init__()
        self.sde = sde
        for name in ("gain", "bias", "mix"):
            setattr(self, name, Parameter(Tensor(np.zeros((1, channels, 1, 1), np.float32)), name=name))
        if num_classes:
            self.table = Parameter(Tensor(np.zeros((num_classes + 1, channels), np.float32)), name="table")

    def construct(self, x, t, y=None):
        value = self.bias - self.gain * x + self.mix * x / (1 + x * x)
        if y is not None:
            value = value + ops.gather(self.table, y, 0).expand_dims(-1).expand_dims(-1)
        std = self.sde.marginal_prob_std(t).reshape(-1, 1, 1, 1)
        return value / (0.2 + std * std)


def model_of(spec: Mapping, inputs: Arrays, mode: str) -> ScoreModel:
    """The ScoreModel of ``spec`` with the given weights."""
    classes = spec.get("num_classes", 0)
    named = ("sde", "sde_arguments", "net", "arguments_of_net", "precondition", "channels", "size")
    what = {name: spec.get(name) for name in named}

    def build():
        sde = SDES[spec["sde"]](**spec.get("sde_arguments", {}))
        if "net" in spec:
            net = NETWORKS[spec["net"]](sde.marginal_prob_std, **spec["arguments_of_net"], rng=RNG, use_kernels=False)
        else:
            net = StandIn(sde, spec["channels"], classes)
        if "precondition" in spec:
            net = PreconditionedScore(net, sde, **spec["precondition"])
        return ScoreModel(
            net, sde, image_size=tuple(spec["size"]), channels=spec["channels"], num_classes=classes,
            class_dropout=0.5 if spec.get("drops") else 0.0,
        )  # fmt: skip

    model = memo(build, "mindspore score model", what, classes, bool(spec.get("drops")), mode)
    load(model.net, inputs, {name: innermost(name) for name, _ in model.net.parameters_and_names()})
    return model


def sde(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The four functions at each of the times."""
    process = SDES[spec["sde"]](**spec.get("sde_arguments", {}))

    def all_four(t):
        return (
            process.marginal_prob_coeff(t), process.marginal_prob_std(t), process.drift_coeff(t),
            process.diffusion_coeff(t),
        )  # fmt: skip

    values = arrays(dict(zip(FUNCTIONS, as_graph(all_four, mode)(tensor(inputs["t"])), strict=True)))
    return {f"{n}[t={time:.3g}]": np.asarray(v[i]) for n, v in values.items() for i, time in enumerate(inputs["t"])}


def _row(numbers) -> Tensor:
    return Tensor(np.array(numbers, np.float64).astype(np.float32))


def score_step(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """One step of a sampler at each of ``spec["times"]``."""
    model, x = model_of(spec, inputs, mode), tensor(inputs["x"])
    y = tensor(inputs["labels"]) if "labels" in inputs else None
    kind, dt, found = spec["step"], spec["dt"], {}
    if kind == "flow":
        with product_mode(mode):
            flow = likelihood.Flow(model, y, tensor(inputs["probe"]))
            for t in spec["times"]:
                found[f"x_next[t={t:g}]"], found[f"divergence[t={t:g}]"] = flow(t, inputs["x"].astype(np.float64))
        return found
    makers = {"euler": samplers.euler_step, "denoise": samplers.euler_step, "heun": samplers.heun_step}
    make = makers[kind] if kind in makers else samplers.CORRECTOR_NORMS[kind.removeprefix("pc_")]
    with product_mode(mode):
        step = model.compiled_step(make, spec.get("scale", 1.0) != 1)
    scale = Tensor(spec.get("scale", 1.0), ms.float32)
    for time in spec["times"]:
        t, noise = (Tensor(np.full(len(inputs["x"]), time, np.float32)), tensor(inputs["noise"]))
        row = _row(samplers.reverse_row(model.sde, time, dt, noise=True))
        if kind == "heun":
            after = time * (1 - dt)
            row = _row((*samplers.flow_row(model.sde, time), *samplers.flow_row(model.sde, after), time - after))
            x_next = step(x, t, y, scale, Tensor(np.full(len(inputs["x"]), after, np.float32)), row)
        elif kind == "denoise":
            x_next = step(x, t, y, scale, _row(samplers.denoising_row(model.sde, time)), noise)
        elif kind == "euler":
            x_next = step(x, t, y, scale, row, noise)
        else:
            size = samplers.corrector_weight(model.sde, time, dt, spec["snr"])
            x_next = step(x, t, y, scale, row, _row((size,)), tensor(inputs["corrector_noise"]), noise)
        found[f"x_next[t={time:g}]"] = x_next
    return arrays(found)


def _batch(inputs: Arrays, i: int | None = None) -> tuple:
    names = [name for name in ("img", "labels", "t", "z", "dropped") if name in inputs]
    return tuple(tensor(inputs[name] if i is None else inputs[name][i]) for name in names)


def score_loss(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The loss and its gradients."""
    model = model_of(spec, inputs, mode)
    trained = model.net.trainable_params()

    def build():
        def value(*batch):
            return model(*batch)

        return as_graph(ms.value_and_grad(value, None, ParameterTuple(trained)), mode)

    value, gradients = memo(build, "mindspore score loss", dict(spec), mode)(*_batch(inputs))
    found = {"loss": value}
    for parameter, gradient in zip(trained, gradients, strict=True):
        found[f"grad.weight.{innermost(parameter.name)}"] = gradient
    return arrays(found)


def score_train(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """Free steps of Adam: loss and gradient norm of every one, the weights at the end."""
    model = model_of(spec, inputs, mode)
    trained = model.trainable_params()
    with product_mode(mode):
        adam = OPTIMIZERS["adam"](trained, **spec["adam"])
        step = TrainStep(
            model, adam, DynamicLossScale(enabled=False), max_grad_norm=spec["max_grad_norm"], accumulate=1
        )
        log = [step(spec["adam"]["lr"], [_batch(inputs, i)])[:2] for i in range(len(inputs["img"]))]
    losses, norms = np.array(log, np.float32).T
    weights = {f"weight.{innermost(p.name)}": p.asnumpy().copy() for p in trained}
    return {"loss": losses.copy(), "grad_norm": norms.copy()} | weights


def score_chain(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The states between, and the images at the end."""
    model, options = model_of(spec, inputs, mode), dict(spec["arguments"])
    with product_mode(mode):
        states = model.sample(
            inputs["tape"].shape[1], sampler=spec["sampler"], noise=list(inputs["tape"]), labels=inputs.get("labels"),
            guidance_scale=options.pop("scale", None), return_all_timesteps=True, **options,
        )  # fmt: skip
    states = np.swapaxes(states.asnumpy(), 0, 1)
    found = {} if spec["sampler"] == "ode" else {"chain": states[:-1].copy()}
    return found | {"images": states[-1].copy()}


def score_likelihood(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """log p_0(x), nats."""
    model = model_of(spec, inputs, mode)
    with product_mode(mode):
        nats = likelihood.log_likelihood(model, inputs["x"], inputs["probe"], method="heun", **spec["arguments"])
    return {"nats": nats}


KINDS = {
    "sde": sde, "score_step": score_step, "score_loss": score_loss, "score_train": score_train,
    "score_chain": score_chain, "score_likelihood": score_likelihood,
}  # fmt: skip
