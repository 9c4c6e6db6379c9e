"""Tiers 4 to 6: losses, optimizer, averages, training runs, sampling chains, state."""

from __future__ import annotations

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from ms_ddpm import EMA, GaussianDiffusion, Unet, convert, samplers
from ms_ddpm.ops.assign import set_value
from ms_ddpm.training.amp import DynamicLossScale, needs_loss_scale
from ms_ddpm.training.optim import OPTIMIZERS, clip_by_global_norm
from ms_ddpm.training.train_step import TrainStep
from parity_tests.backends.shared_mindspore import RNG, diffusion_of, names_inside, product_mode
from portparity.arrays import given
from portparity.case import Arrays
from portparity.memo import memo
from portparity.on_mindspore import arrays, as_graph, tensor


def loss(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """GaussianDiffusion's loss and its gradients."""
    diffusion = diffusion_of(spec, inputs)

    def build():
        flag = bool(spec.get("self_cond", False))

        def value(img, t, noise, offset_noise=None):
            return diffusion(img, t, noise, flag, offset_noise)

        return as_graph(ms.value_and_grad(value, None, ParameterTuple(diffusion.trainable_params())), mode)

    call = memo(build, "mindspore loss", dict(spec), mode)
    more = (tensor(inputs["offset_noise"]),) if "offset_noise" in inputs else ()
    value, gradients = call(*(tensor(inputs[name]) for name in ("img", "t", "noise")), *more)
    names = names_inside(diffusion)
    ours = {id(p): name for name, p in diffusion.parameters_and_names()}
    outputs = {"loss": value}
    for parameter, gradient in zip(diffusion.trainable_params(), gradients, strict=True):
        outputs[f"grad.weight.{names[ours[id(parameter)]]}"] = gradient
    return arrays(outputs)


def optimizer(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """An optimizer fed given gradients: the weights after every step of ``spec["shown"]``."""
    weights = given(inputs, "weight")
    parameters = [Parameter(Tensor(value), name=name) for name, value in weights.items()]
    step = OPTIMIZERS[spec["optimizer"]](parameters, **spec["arguments"], fused=bool(spec.get("kernels")))

    def apply(lr, *gradients):
        return step(gradients, lr)

    run, outputs = as_graph(apply, mode), {}
    rates = spec.get("rates", [spec["arguments"]["lr"]] * spec["steps"])
    for i in range(spec["steps"]):
        run(Tensor(rates[i], ms.float32), *(tensor(inputs[f"gradient.{name}"][i]) for name in weights))
        if i + 1 in spec["shown"]:
            outputs |= {f"{p.name}[step={i + 1}]": p.asnumpy().copy() for p in parameters}
    return outputs


def clip(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """Gradients clipped by their global norm, and the norm."""
    gradients = given(inputs, "gradient")
    flat = np.concatenate([g.ravel() for g in gradients.values()])

    def call(flat):
        return clip_by_global_norm(flat, spec["max_norm"])

    clipped, norm = as_graph(call, mode)(tensor(flat))
    ends = np.cumsum([g.size for g in gradients.values()])[:-1]
    pieces = np.split(clipped.asnumpy(), ends)
    outputs = {name: p.reshape(g.shape) for (name, g), p in zip(gradients.items(), pieces, strict=True)}
    return outputs | {"norm": norm.asnumpy()}


class Weights(nn.Cell):
    """A Cell that holds one vector of weights."""

    def __init__(self, size: int):
        super().__init__()
        self.w = Parameter(Tensor(np.zeros(size, np.float32)), name="w")


def ema(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The averaged weights after the calls in ``spec["shown"]``, and what the model holds after a swap."""
    weights = Weights(inputs["w"].shape[1])
    with product_mode(mode):
        average = EMA(weights, **spec["arguments"])
    outputs = {}
    for i, value in enumerate(inputs["w"]):
        set_value(weights.w, value)
        average.update()
        if i + 1 in spec["shown"]:
            outputs[f"average[call={i + 1}]"] = average.state()["w"]
            with average.swapped():
                outputs[f"swapped in[call={i + 1}]"] = weights.w.asnumpy().copy()
            outputs[f"swapped back[call={i + 1}]"] = weights.w.asnumpy().copy()
    return outputs


def batches_of(spec: Mapping, inputs: Arrays, step: int) -> list[tuple]:
    """The (img, t, noise, self_cond, offset_noise) of the batches of one optimizer step."""
    n = spec.get("accumulate", 1)
    found = []
    for i in range(step * n, step * n + n):
        flag = bool(inputs["self_cond"][i]) if "self_cond" in inputs else False
        offset = inputs["offset_noise"][i] if "offset_noise" in inputs else None
        found.append((inputs["img"][i], inputs["t"][i], inputs["noise"][i], flag, offset))
    return found


class Run:
    """A training run as the product does it: `TrainStep`, an optimizer, `EMA`, on the batches of the inputs."""

    def __init__(
        self, spec: Mapping, inputs: Arrays, diffusion: GaussianDiffusion, mode: str, scaler: DynamicLossScale
    ):
        self.spec = spec
        self.inputs = inputs
        self.diffusion = diffusion.set_train(True)
        with product_mode(mode):
            self.optimizer = OPTIMIZERS[spec["optimizer"]](diffusion.trainable_params(), **spec["arguments"])
            self.average = EMA(diffusion, **spec["ema"]) if "ema" in spec else None
            self.update = TrainStep(
                self.diffusion, self.optimizer, scaler, max_grad_norm=spec["max_grad_norm"],
                accumulate=spec.get("accumulate", 1),
            )  # fmt: skip
        self.log: list[tuple[float, float]] = []

    def steps(self, first: int, last: int) -> None:
        """Optimizer steps ``first`` to ``last`` - 1."""
        for i in range(first, last):
            loss, norm, *_ = self.update(self.spec["arguments"]["lr"], batches_of(self.spec, self.inputs, i))
            if self.average is not None:
                self.average.update()
            self.log.append((loss, norm))

    def weights(self) -> dict[str, np.ndarray]:
        """The trained weights, by our names."""
        return {n: p.asnumpy().copy() for n, p in self.diffusion.parameters_and_names() if p.requires_grad}

    def save(self) -> bytes:
        """Everything that goes on, as a safetensors file."""
        state = {f"model.{name}": value for name, value in self.weights().items()}
        state |= {f"optimizer.{k}": v for k, v in self.optimizer.state(list(self.weights())).items()}
        state |= {f"ema.{name}": value for name, value in self.average.state().items()}
        return to_bytes(state | {"calls": np.array([self.average.calls])})

    def load(self, content: bytes) -> None:
        """Restores what `save` gave."""
        state = from_bytes(content)
        for name, parameter in self.diffusion.parameters_and_names():
            if parameter.requires_grad:
                set_value(parameter, state[f"model.{name}"])
        self.optimizer.load_state(list(self.weights()), given(state, "optimizer"))
        self.average.load_state(given(state, "ema"), int(state["calls"][0]))

    def outputs(self) -> Arrays:
        """Loss and gradient norm of every step, the weights and the average at the end."""
        losses, norms = np.array(self.log, np.float32).T
        names = names_inside(self.diffusion)
        found = {"loss": losses.copy(), "grad_norm": norms.copy()}
        found |= {f"weight.{names[ours]}": value for ours, value in self.weights().items()}
        if self.average is not None:
            found |= {f"average.{names[ours]}": value for ours, value in self.average.state().items()}
        return found


def scaler_of(spec: Mapping, level: str = "O0", dtype: str = "float16") -> DynamicLossScale:
    """The loss scale that the product would take at ``level`` in ``dtype``; it begins at ``spec["loss_scale"]``."""
    enabled = needs_loss_scale(level, dtype)
    return DynamicLossScale(init_scale=spec["loss_scale"]) if enabled else DynamicLossScale(enabled=False)


def train(spec: Mapping, inputs: Arrays, mode: str = "graph", level: str = "O0", dtype: str = "float16") -> Arrays:
    """Free-running training: loss and gradient norm of every step, the weights and the average at the end."""
    diffusion = diffusion_of(spec, inputs, level=level, dtype=dtype)
    run = Run(spec, inputs, diffusion, mode, scaler_of(spec, level, dtype))
    run.steps(0, spec["steps"])
    return run.outputs()


def resume(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """`train`, stopped after ``spec["interrupt"]`` steps, saved, and gone on with by objects made anew."""
    first = Run(spec, inputs, diffusion_of(spec, inputs), mode, scaler_of(spec))
    first.steps(0, spec["interrupt"])
    content = first.save()
    diffusion = diffusion_of({**spec, "unet": {**spec["unet"], "dropout": 0}}, inputs)  # another object
    second = Run(spec, inputs, diffusion, mode, scaler_of(spec))
    second.load(content)
    second.steps(spec["interrupt"], spec["steps"])
    second.log = first.log + second.log
    return second.outputs()


def loss_scale(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The product's loss scale after every step, of which ``inputs["finite"]`` had finite gradients."""
    scaler, scales = DynamicLossScale(**spec["arguments"]), []

    def update(finite):
        return scaler.update(finite)

    run = as_graph(update, mode)
    for finite in inputs["finite"]:
        run(Tensor(bool(finite)))
        scales.append(scaler.state()["scale"])
    return {"scale": np.array(scales, np.float32)}


def chain(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """A whole sampling chain from one noise tape, x_T first: (steps + 1, B, C, H, W)."""
    diffusion = diffusion_of(spec, inputs, mode)
    with product_mode(mode):
        options = {"noise": list(inputs["tape"]), "return_all_timesteps": True, **spec.get("arguments", {})}
        if spec["sampler"] == "sample":
            images = diffusion.sample(inputs["tape"].shape[1], **options)
        else:
            images = samplers.SAMPLERS[spec["sampler"]](diffusion, inputs["tape"].shape[1], progress=False, **options)
    return {"chain": np.swapaxes(images.asnumpy(), 0, 1).copy()}


def interpolate(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """Images between two."""
    diffusion = diffusion_of(spec, inputs, mode)
    with product_mode(mode):
        images = samplers.interpolate(
            diffusion, inputs["x1"], inputs["x2"], spec["t"], spec["lam"], noise=list(inputs["tape"]), progress=False
        )
    return arrays({"images": images})


def roundtrip(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """PyTorch's weights into our Unet and out again."""
    net = Unet(**spec["unet"], rng=RNG)
    convert.from_torch(net, given(inputs, "weight"))
    return {f"weight.{name}": value for name, value in convert.to_torch(net).items()}
