"""Tiers 0 and 1: tables, methods of GaussianDiffusion, DDIM steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from parity_tests.backends.shared_torch import diffusion_of
from portparity.arrays import by_time
from portparity.case import Arrays
from portparity.on_torch import arrays, tensor
from torch_ref import schedules


def tables(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """Every table of a GaussianDiffusion."""
    return arrays(dict(diffusion_of(spec, inputs, dtype).named_buffers(recurse=False)))


def times(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The DDIM times of every number of steps in ``spec["steps"]``."""
    return {f"S={s}": np.array(schedules.ddim_times(spec["timesteps"], s), np.int64) for s in spec["steps"]}


@torch.no_grad()
def method(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """One method of GaussianDiffusion, image by image."""
    diffusion = diffusion_of(spec, inputs, dtype)
    args = [tensor(inputs[name], dtype) for name in spec["arguments"]]
    result = getattr(diffusion, spec["method"])(*args, **spec.get("constants", {}))
    result = (result,) if isinstance(result, torch.Tensor) else result
    return by_time(arrays(dict(zip(spec["outputs"], result, strict=False))), inputs["t"])


@torch.no_grad()
def ddim_step(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """DDIM steps between the pairs of times in ``spec["pairs"]``."""
    diffusion = diffusion_of(spec, inputs, dtype)
    x, noise = (tensor(inputs[name], dtype) for name in ("x", "noise"))
    x_self_cond = tensor(inputs["x_self_cond"], dtype) if "x_self_cond" in inputs else None
    outputs = {}
    for time, time_next in spec["pairs"]:
        x_next, x_start = diffusion.ddim_step(x, time, time_next, noise, spec["eta"], x_self_cond)
        outputs |= {f"x_next[t={time}]": x_next, f"x_start[t={time}]": x_start}
    return arrays(outputs)
