"""ms_ddpm's FirstDDPM for the harness."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mindspore import Parameter, Tensor, nn

from ms_ddpm import FirstDDPM
from parity_tests.backends.shared_mindspore import product_mode
from portparity.case import Arrays
from portparity.on_mindspore import arrays, tensor


class _Network(nn.Cell):
    """The stand-in gain x + bias, called with a time and nothing else."""

    def __init__(self, inputs: Arrays, channels: int):
        super().__init__()
        zeros = np.zeros((1, channels, 1, 1), np.float32)
        self.gain, self.bias = (
            Parameter(Tensor(inputs.get(f"weight.{name}", zeros)), name=name) for name in ("gain", "bias")
        )

    def construct(self, x, t):
        return self.gain * x + self.bias


def _made(spec: Mapping, inputs: Arrays) -> FirstDDPM:
    return FirstDDPM(_Network(inputs, spec["arguments"]["image_chw"][0]), **spec["arguments"])


def tables(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """betas, alphas, alpha_bars."""
    made = _made(spec, inputs)
    return arrays({name: getattr(made, name) for name in ("betas", "alphas", "alpha_bars")})


def methods(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """forward with t as (n,) and as (n, 1), and backward."""
    made = _made(spec, inputs)
    x0, t, eta = (tensor(inputs[name]) for name in ("x0", "t", "eta"))
    column = tensor(inputs["t"][:, None])
    return arrays({"forward": made(x0, t, eta), "column": made(x0, column, eta), "backward": made.backward(x0, column)})


def sample(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The images of a chain."""
    with product_mode(mode):
        return arrays({"images": _made(spec, inputs).sample(inputs["tape"].shape[1], noise=inputs["tape"])})


KINDS = {"first_ddpm_tables": tables, "first_ddpm_methods": methods, "first_ddpm_sample": sample}
