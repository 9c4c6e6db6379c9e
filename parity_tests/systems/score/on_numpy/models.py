"""The float64 oracle of score models, around the stand-in network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from portparity.arrays import given
from portparity.case import Arrays

from ..oracle import models as oracle

FUNCTIONS = ("marginal_prob_coeff", "marginal_prob_std", "drift_coeff", "diffusion_coeff")


def model_of(spec: Mapping, inputs: Arrays) -> oracle.ScoreModel:
    """The oracle's ScoreModel of ``spec``."""
    sde = oracle.SDE(spec["sde"], **spec.get("sde_arguments", {}))
    net = oracle.StandIn(sde, given(inputs, "weight"))
    if "precondition" in spec:
        net = oracle.Preconditioned(net, sde, **spec["precondition"])
    return oracle.ScoreModel(net, sde, spec.get("num_classes", 0))


def _classes(inputs: Arrays) -> np.ndarray | None:
    return inputs.get("labels")


def sde(spec: Mapping, inputs: Arrays) -> Arrays:
    """The four functions at each of the times."""
    process = oracle.SDE(spec["sde"], **spec.get("sde_arguments", {}))
    times = inputs["t"].astype(np.float64)
    return {f"{name}[t={t:.3g}]": getattr(process, name)(t) for name in FUNCTIONS for t in times}


def score_step(spec: Mapping, inputs: Arrays) -> Arrays:
    """One step of a sampler at each of ``spec["times"]``."""
    model, x, y = model_of(spec, inputs), inputs["x"].astype(np.float64), _classes(inputs)
    dt, scale, found = spec["dt"], spec.get("scale", 1.0), {}
    for t in spec["times"]:
        if spec["step"] == "heun":
            x_next = model.heun_step(x, t, t * (1 - dt), y, scale)
        elif spec["step"] == "flow":
            found[f"divergence[t={t:g}]"] = model.divergence(x, t, inputs["probe"])
            x_next = model.flow(x, t, y, scale)
        elif spec["step"] == "denoise":
            x_next = model.denoised(x, t, y, scale)
        else:
            x_next = x
            if spec["step"].startswith("pc"):
                norm = spec["step"].removeprefix("pc_")
                x_next = model.corrector(x, t, dt, spec["snr"], inputs["corrector_noise"], y, scale, norm)
            x_next = model.reverse_step(x_next, t, dt, inputs["noise"], y, scale)
        found[f"x_next[t={t:g}]"] = x_next
    return found


def score_loss(spec: Mapping, inputs: Arrays) -> Arrays:
    """The loss alone; its gradients are PyTorch's in double."""
    y, dropped = _classes(inputs), inputs.get("dropped")
    t = inputs["t"].astype(np.float64)
    return {
        "loss": np.float64(model_of(spec, inputs).loss(inputs["img"].astype(np.float64), t, inputs["z"], y, dropped))
    }


def score_chain(spec: Mapping, inputs: Arrays) -> Arrays:
    """The states between, and the images at the end."""
    options = {**spec["arguments"], "y": _classes(inputs)}
    states = model_of(spec, inputs).chain(spec["sampler"], inputs["tape"], **options)
    return ({} if spec["sampler"] == "ode" else {"chain": np.stack(states[:-1])}) | {"images": states[-1]}


def score_likelihood(spec: Mapping, inputs: Arrays) -> Arrays:
    """log p_0(x), nats."""
    return {"nats": model_of(spec, inputs).log_likelihood(inputs["x"], inputs["probe"], **spec["arguments"])}


KINDS = {
    "sde": sde, "score_step": score_step, "score_loss": score_loss, "score_chain": score_chain,
    "score_likelihood": score_likelihood,
}  # fmt: skip
