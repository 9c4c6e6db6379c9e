"""The oracle of the mathematics (`parity_tests.oracle`), called like a framework."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from parity_tests import oracle
from portparity.arrays import by_time, given
from portparity.case import Arrays


class AffineModel:
    """The stand-in network of tiers 0 and 1: gain * x + mix * x_self_cond + bias, channel by channel."""

    def __init__(self, channels: int, out_dim: int, self_condition: bool, weights: Arrays | None = None):
        self.channels = channels
        self.out_dim = out_dim
        self.self_condition = self_condition
        self.copies = out_dim // channels
        self.weights = {name: np.asarray(value, np.float64) for name, value in (weights or {}).items()}

    def __call__(self, x: np.ndarray, t: np.ndarray, x_self_cond: np.ndarray | None = None) -> np.ndarray:
        w = self.weights
        y = w["gain"] * np.tile(x, (1, self.copies, 1, 1)) + w["bias"]
        return y if x_self_cond is None else y + w["mix"] * np.tile(x_self_cond, (1, self.copies, 1, 1))


def diffusion_of(spec: Mapping, inputs: Arrays) -> oracle.Diffusion:
    """The oracle's Diffusion of ``spec`` around the stand-in."""
    return oracle.Diffusion(AffineModel(*spec["affine"], given(inputs, "weight")), **spec["diffusion"])


def tables(spec: Mapping, inputs: Arrays) -> Arrays:
    """Every table, by the formulas."""
    return dict(diffusion_of(spec, inputs).tables)


def times(spec: Mapping, inputs: Arrays) -> Arrays:
    """The DDIM times of every number of steps in ``spec["steps"]``."""
    return {f"S={s}": np.array(oracle.ddim_times(spec["timesteps"], s), np.int64) for s in spec["steps"]}


def _named(spec: Mapping, result) -> dict[str, np.ndarray]:
    result = result if isinstance(result, tuple) else (result,)
    return dict(zip(spec["outputs"], result, strict=False))


def method(spec: Mapping, inputs: Arrays) -> Arrays:
    """One method of the Diffusion, image by image."""
    diffusion = diffusion_of(spec, inputs)
    args = [inputs[name] for name in spec["arguments"]]
    result = getattr(diffusion, spec["method"])(*args, **spec.get("constants", {}))
    return by_time(_named(spec, result), inputs["t"])


def method_scales(spec: Mapping, inputs: Arrays) -> Arrays:
    """The magnitudes of the larger operands of `method`'s results, where the oracle names them."""
    if spec["method"] not in oracle.operands:
        return {}
    diffusion = diffusion_of(spec, inputs)
    args = [inputs[name] for name in spec["arguments"]]
    return by_time(oracle.operands[spec["method"]](diffusion, *args, **spec.get("constants", {})), inputs["t"])


def ddim_step(spec: Mapping, inputs: Arrays) -> Arrays:
    """DDIM steps between the pairs of times in ``spec["pairs"]``."""
    diffusion = diffusion_of(spec, inputs)
    outputs = {}
    for time, time_next in spec["pairs"]:
        x_next, x_start = diffusion.ddim_step(
            inputs["x"], time, time_next, inputs["noise"], spec["eta"], inputs.get("x_self_cond")
        )
        outputs |= {f"x_next[t={time}]": x_next, f"x_start[t={time}]": x_start}
    return outputs


def ddim_scales(spec: Mapping, inputs: Arrays) -> Arrays:
    """The magnitudes of the larger operands of `ddim_step`'s results."""
    diffusion = diffusion_of(spec, inputs)
    outputs = {}
    for time, time_next in spec["pairs"]:
        found = oracle.operands["ddim_step"](
            diffusion, inputs["x"], time, time_next, inputs["noise"], spec["eta"], inputs.get("x_self_cond")
        )
        outputs |= {f"{name}[t={time}]": value for name, value in found.items()}
    return outputs


def loss(spec: Mapping, inputs: Arrays) -> Arrays:
    """The loss alone; its gradients are PyTorch's in double."""
    diffusion = diffusion_of(spec, inputs)
    value = diffusion.loss(
        inputs["img"], inputs["t"], inputs["noise"], bool(spec.get("self_cond", False)), inputs.get("offset_noise")
    )
    return {"loss": np.asarray(value, np.float64)}


DECAYS = {"adam": 0.0, "adamw": 0.01}  # PyTorch's defaults


def optimizer(spec: Mapping, inputs: Arrays) -> Arrays:
    """An optimizer fed given gradients: the weights after every step of ``spec["shown"]``."""
    weights = {name: np.asarray(value, np.float64) for name, value in given(inputs, "weight").items()}
    arguments = {"weight_decay": DECAYS[spec["optimizer"]], **spec["arguments"]}
    state, outputs = None, {}
    for i in range(spec["steps"]):
        gradients = {name: np.asarray(inputs[f"gradient.{name}"][i], np.float64) for name in weights}
        rate = {"lr": spec["rates"][i]} if "rates" in spec else {}
        weights, state = oracle.adam_step(
            weights, gradients, state, **arguments | rate, decoupled=spec["optimizer"] == "adamw"
        )
        if i + 1 in spec["shown"]:
            outputs |= {f"{name}[step={i + 1}]": w.copy() for name, w in weights.items()}
    return outputs


def clip(spec: Mapping, inputs: Arrays) -> Arrays:
    """Gradients clipped by their global norm, and the norm."""
    clipped, norm = oracle.clip_by_global_norm(given(inputs, "gradient"), spec["max_norm"])
    return dict(clipped) | {"norm": np.asarray(norm, np.float64)}


def ema(spec: Mapping, inputs: Arrays) -> Arrays:
    """The averaged weights after the calls in ``spec["shown"]``, and what the model holds after a swap."""
    weights = np.asarray(inputs["w"], np.float64)
    averages, outputs = oracle.ema_run(weights, **spec["arguments"]), {}
    for call in spec["shown"]:
        average, own = averages[call - 1], weights[call - 1]
        outputs |= {f"average[call={call}]": average, f"swapped in[call={call}]": average}
        outputs[f"swapped back[call={call}]"] = own
    return outputs


def chain(spec: Mapping, inputs: Arrays) -> Arrays:
    """A whole sampling chain from one noise tape, x_T first: (steps + 1, B, C, H, W)."""
    diffusion = diffusion_of(spec, inputs)
    tape = [np.asarray(array, np.float64) for array in inputs["tape"]]
    if spec["sampler"] == "sample":
        images = diffusion.sample(noise=tape, return_all_timesteps=True)
    else:
        run = {"ddpm": diffusion.ddpm_chain, "ddim": diffusion.ddim_chain}[spec["sampler"]]
        images = run(tape, return_all_timesteps=True, **spec.get("arguments", {}))
    return {"chain": np.ascontiguousarray(np.swapaxes(images, 0, 1))}


def interpolate(spec: Mapping, inputs: Arrays) -> Arrays:
    """Images between two."""
    diffusion = diffusion_of(spec, inputs)
    images = diffusion.interpolate(inputs["x1"], inputs["x2"], spec["t"], spec["lam"], noise=list(inputs["tape"]))
    return {"images": images}


def loss_scale(spec: Mapping, inputs: Arrays) -> Arrays:
    """The scale after every step: down after an overflow, up after ``growth_interval`` steps in a row without one."""
    given_, scale, row, scales = spec["arguments"], spec["arguments"]["init_scale"], 0, []
    for finite in inputs["finite"]:
        row = row + 1 if finite else 0
        if not finite:
            scale *= given_["backoff_factor"]
        elif row == given_["growth_interval"]:
            scale, row = scale * given_["growth_factor"], 0
        scales.append(scale)
    return {"scale": np.array(scales, np.float64)}


def given_back(spec: Mapping, inputs: Arrays) -> Arrays:
    """What went in: the truth of a round trip."""
    return {f"weight.{name}": value for name, value in given(inputs, "weight").items()}
