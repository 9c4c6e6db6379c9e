"""The oracle of docs/first_ddpm.md's class: linear betas from end to end, and `oracle.Diffusion` for its chain."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from parity_tests import oracle
from portparity.case import Arrays

METHODS = ("forward", "column", "backward")  # column: forward with t as the article has it, (n, 1)


class _Network:
    """The stand-in gain x + bias, which takes no time."""

    self_condition = False

    def __init__(self, weights: Arrays):
        self.gain, self.bias = (np.asarray(weights[f"weight.{name}"], np.float64) for name in ("gain", "bias"))
        self.channels = self.out_dim = self.gain.shape[1]

    def __call__(self, x: np.ndarray, t: np.ndarray, x_self_cond: np.ndarray | None = None) -> np.ndarray:
        return self.gain * x + self.bias


def _diffusion(spec: Mapping, inputs: Arrays) -> oracle.Diffusion:
    given = spec["arguments"]
    return oracle.Diffusion(
        _Network(inputs), image_size=tuple(given["image_chw"][1:]), timesteps=given["n_steps"],
        objective="pred_noise", beta_schedule="linear",
        schedule_fn_kwargs={"beta_start": given["min_beta"], "beta_end": given["max_beta"]},
    )  # fmt: skip


def tables(spec: Mapping, inputs: Arrays) -> Arrays:
    """betas, alphas, alpha_bars: the last as a float64 product of every prefix, as the article has it."""
    given = spec["arguments"]
    steps = np.arange(given["n_steps"]) / (given["n_steps"] - 1)
    betas = given["min_beta"] * (1 - steps) + given["max_beta"] * steps
    alphas = 1 - betas
    products = [alphas[: i + 1].prod() for i in range(len(betas))]
    return {"betas": betas, "alphas": alphas, "alpha_bars": np.array(products)}


def methods(spec: Mapping, inputs: Arrays) -> Arrays:
    """What each of `METHODS` gives."""
    found = _diffusion(spec, inputs).q_sample(inputs["x0"], inputs["t"], inputs["eta"])
    noise = _Network(inputs)(np.asarray(inputs["x0"], np.float64), inputs["t"])
    return {"forward": found, "column": found, "backward": noise}


def sample(spec: Mapping, inputs: Arrays) -> Arrays:
    """The images of a chain, in [0, 1]."""
    tape = [np.asarray(array, np.float64) for array in inputs["tape"]]
    return {"images": _diffusion(spec, inputs).ddpm_chain(tape)}


KINDS = {"first_ddpm_tables": tables, "first_ddpm_methods": methods, "first_ddpm_sample": sample}
