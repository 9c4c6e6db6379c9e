"""What is asked of a scheduler, whatever framework it is of: the four implementations have one interface.

A `Side` says how a framework makes a scheduler, tensors and arrays; `kinds` gives the functions of a backend's table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from portparity.case import Arrays

NAMES = {
    "ddpm": "DDPMScheduler", "ddim": "DDIMScheduler", "euler": "EulerDiscreteScheduler",
    "ancestral": "EulerAncestralDiscreteScheduler", "pndm": "PNDMScheduler", "dpm": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
}  # fmt: skip
NOISELESS = (NAMES["pndm"], NAMES["unipc"])  # whose steps take no noise


def name_of(spec: Mapping) -> str:
    """The class that ``spec`` is of, in every framework."""
    return NAMES[spec["scheduler"]]


class Side(NamedTuple):
    """One framework's way.

    Args:
        make: (spec, dtype, mode) -> a scheduler.
        tensor: (array, dtype) -> tensor. array: tensor -> array.
        step: (scheduler, output, time, x, noise, options) -> (x at the next time, x_0).
        variance: (scheduler, time, later) -> float; ``later`` is None for DDPM.
        times: scheduler -> its times as a list.
    """

    make: Callable[..., Any]
    tensor: Callable[..., Any]
    array: Callable[[Any], np.ndarray]
    step: Callable[..., tuple]
    variance: Callable[..., float]
    times: Callable[[Any], list[int]]


def prepared(side: Side, spec: Mapping, dtype: str, mode: str) -> Any:
    """The scheduler of ``spec``, its times set where the spec says so."""
    made = side.make(spec, dtype, mode)
    if "steps" in spec:
        made.set_timesteps(spec["steps"])
    elif "timesteps" in spec:
        made.set_timesteps(timesteps=list(spec["timesteps"]))
    elif "sigmas" in spec:
        made.set_timesteps(sigmas=list(spec["sigmas"]))
    return made


def kinds(side: Side) -> dict[str, Callable]:
    """Rows of a backend's KINDS."""

    def scheduler_tables(spec: Mapping, inputs: Arrays, dtype: str = "float32", mode: str = "graph") -> Arrays:
        made = side.make(spec, dtype, mode)
        return {name: side.array(getattr(made, name)) for name in ("betas", "alphas_cumprod")}

    def scheduler_times(spec: Mapping, inputs: Arrays, dtype: str = "float32", mode: str = "graph") -> Arrays:
        made, found = side.make(spec, dtype, mode), {}
        for steps in spec["all_steps"]:
            made.set_timesteps(steps)
            found[f"S={steps}"] = np.array(side.times(made), np.int64)
        return found

    def scheduler_levels(spec: Mapping, inputs: Arrays, dtype: str = "float32", mode: str = "graph") -> Arrays:
        made = prepared(side, spec, dtype, mode)
        found = {"sigmas": side.array(made.sigmas), "times": side.times(made), "first": [float(made.init_noise_sigma)]}
        return {name: np.array(value, dtype) for name, value in found.items()}

    def scheduler_variance(spec: Mapping, inputs: Arrays, dtype: str = "float32", mode: str = "graph") -> Arrays:
        made = prepared(side, spec, dtype, mode)
        if "pairs" in spec:
            return {str(pair)[1:-1]: np.array([side.variance(made, *pair)], dtype) for pair in spec["pairs"]}
        gap = 1000 // spec["steps"]
        found = [
            side.variance(made, time, time - gap if spec["scheduler"] == "ddim" else None) for time in side.times(made)
        ]
        return {"variance": np.array(found, dtype)}

    def scheduler_noising(spec: Mapping, inputs: Arrays, dtype: str = "float32", mode: str = "graph") -> Arrays:
        made = side.make(spec, dtype, mode)
        given = [side.tensor(inputs[name], dtype) for name in ("x_start", "noise", "t")]
        return {"x_t": side.array(made.add_noise(*given)), "v": side.array(made.get_velocity(*given))}

    def scheduler_step(spec: Mapping, inputs: Arrays, dtype: str = "float32", mode: str = "graph") -> Arrays:
        made, found = prepared(side, spec, dtype, mode), {}
        output, x, noise = (side.tensor(inputs[name], dtype) for name in ("output", "x", "noise"))
        for time in spec["times"]:
            prev, start = side.step(made, output, time, x, noise, spec.get("options", {}))
            found |= {f"prev[t={time}]": side.array(prev), f"start[t={time}]": side.array(start)}
        return found

    def scheduler_chain(spec: Mapping, inputs: Arrays, dtype: str = "float32", mode: str = "graph") -> Arrays:
        made, tape = prepared(side, spec, dtype, mode), inputs["tape"]
        times = spec.get("chain_times") or side.times(made)
        x = tape[0] * np.float32(getattr(made, "init_noise_sigma", 1.0))
        if "begin" in spec:  # image to image: the tape's last array is the image, its first the noise
            if hasattr(made, "set_begin_index"):
                made.set_begin_index(spec["begin"])
            times = times[spec["begin"] :]
            t = side.tensor(np.array(times[:1], np.int32), dtype)
            x = side.array(made.add_noise(side.tensor(tape[-1], dtype), side.tensor(tape[0], dtype), t))
        if "noise" in inputs:  # the chain begins with a noised image
            t = side.tensor(np.array(times[:1], np.int32), dtype)
            x = side.array(made.add_noise(side.tensor(x, dtype), side.tensor(inputs["noise"], dtype), t))
        frames = [x.astype(dtype)]
        for i, time in enumerate(times, 1):
            x = side.tensor(frames[-1], dtype)
            seen = side.array(made.scale_model_input(x, time)) if hasattr(made, "scale_model_input") else frames[-1]
            noise = tape[i] if i < len(tape) else np.zeros_like(tape[0])
            output, noise = (side.tensor(array, dtype) for array in (chain_output(inputs, seen, time), noise))
            prev, _ = side.step(made, output, time, x, noise, spec.get("options", {}))
            frames.append(side.array(prev))
        return {"chain": np.stack(frames)}

    made = (
        scheduler_tables, scheduler_times, scheduler_levels, scheduler_variance, scheduler_noising, scheduler_step,
        scheduler_chain,
    )  # fmt: skip
    return {run.__name__: run for run in made}


def chain_output(inputs: Arrays, x: np.ndarray, time: int) -> np.ndarray:
    """The stand-in network of chains, gain x + bias channel by channel, in the precision of ``x``.

    Without a gain it is the model of diffusers' tests, x t / (t + 1).
    """
    if "gain" not in inputs:
        return x * x.dtype.type(time) / x.dtype.type(time + 1)
    copies = inputs["gain"].shape[1] // x.shape[1]
    gain, bias = (inputs[name].astype(x.dtype) for name in ("gain", "bias"))
    return gain * np.tile(x, (1, copies, 1, 1)) + bias
