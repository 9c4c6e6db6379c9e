"""Tiers 0 and 1: tables, methods of GaussianDiffusion, DDIM steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mindspore import Tensor

from ms_ddpm import samplers, schedules
from parity_tests.backends.shared_mindspore import diffusion_of
from portparity.arrays import by_time
from portparity.case import Arrays
from portparity.memo import memo
from portparity.on_mindspore import arrays, as_graph, tensor


def tables(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """Every table of a GaussianDiffusion."""
    diffusion = diffusion_of(spec, inputs)
    return arrays({name: getattr(diffusion, name) for name in diffusion.tables})


def times(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The DDIM times of every number of steps in ``spec["steps"]``."""
    return {f"S={s}": np.array(schedules.ddim_times(spec["timesteps"], s), np.int64) for s in spec["steps"]}


def method(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """One method of GaussianDiffusion, image by image."""
    diffusion = diffusion_of(spec, inputs)
    constants = dict(spec.get("constants", {}))

    def build():
        bound = getattr(diffusion, spec["method"])

        def call(*args):
            return bound(*args, **constants)

        return as_graph(call, mode)

    call = memo(build, "mindspore method", dict(spec), mode)
    result = call(*(tensor(inputs[name]) for name in spec["arguments"]))
    result = (result,) if isinstance(result, Tensor) else result
    return by_time(arrays(dict(zip(spec["outputs"], result, strict=False))), inputs["t"])


def ddim_step(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """DDIM steps between the pairs of times in ``spec["pairs"]``."""
    diffusion = diffusion_of(spec, inputs)

    def build():
        def step(x, t, coefficients, noise, x_self_cond=None):
            return diffusion.ddim_step(x, t, coefficients, noise, x_self_cond)

        return as_graph(step, mode)

    step = memo(build, "mindspore ddim_step", dict(spec), mode)
    outputs = {}
    for time, time_next in spec["pairs"]:
        rows = samplers.ddim_coefficients(diffusion.tables["alphas_cumprod"], [time, time_next], spec["eta"])
        t = np.full(len(inputs["x"]), time, np.int32)
        more = (tensor(inputs["x_self_cond"]),) if "x_self_cond" in inputs else ()
        x, x_start = step(tensor(inputs["x"]), tensor(t), tensor(rows[0]), tensor(inputs["noise"]), *more)
        outputs |= {f"x_next[t={time}]": x, f"x_start[t={time}]": x_start}
    return arrays(outputs)
