"""The first DDPM of docs/first_ddpm.md: its tables, its two methods and a chain."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity_tests.make import cases, computation
from portparity.arrays import normal
from portparity.case import Arrays, Case

SHAPE = (1, 28, 28)
ARTICLE = {"n_steps": 200, "min_beta": 1e-4, "max_beta": 0.02, "image_chw": SHAPE}


def nothing(rng: np.random.Generator) -> Arrays:
    """No inputs."""
    return {}


def network(rng: np.random.Generator, channels: int = 1) -> Arrays:
    """The stand-in's weights."""
    return {f"weight.{name}": np.float32(0.5) * normal(rng, 1, channels, 1, 1) for name in ("gain", "bias")}


def batch(rng: np.random.Generator) -> Arrays:
    """Images, noise, and times at both ends and in between."""
    t = np.array((0, 1, 77, 198, 199), np.int32)
    return network(rng) | {name: normal(rng, len(t), *SHAPE) for name in ("x0", "eta")} | {"t": t}


def tape(rng: np.random.Generator, arrays: int) -> Arrays:
    """The stand-in's weights and a tape of small images."""
    return network(rng, 2) | {"tape": normal(rng, arrays, 2, 2, 4, 4)}


def tier0(seed: int = 0) -> Iterator[Case]:
    """betas, alphas and alpha_bars of the article, and of the 1000 steps of its first listing; forward; backward."""
    for steps in (200, 1000):
        spec = {"arguments": {**ARTICLE, "n_steps": steps}}
        made = computation(
            f"maths/first_ddpm_tables-T{steps}", "first_ddpm_tables", spec, nothing, truth="numpy", rule="ulp",
            seed=seed, neighbours=0,
        )  # fmt: skip
        yield from cases("0", made)
    made = computation(
        "maths/first_ddpm_forward", "first_ddpm_methods", {"arguments": ARTICLE}, batch, truth="numpy",
        mode="pynative", seed=seed,
    )  # fmt: skip
    yield from cases("0", made, (made.key, ("forward", "column")), mode="pynative")


def tier1(seed: int = 0) -> Iterator[Case]:
    """What the network says, t given as the article gives it."""
    made = computation(
        "step/first_ddpm_backward", "first_ddpm_methods", {"arguments": ARTICLE}, batch, truth="numpy",
        mode="pynative", seed=seed,
    )  # fmt: skip
    yield from cases("1", made, (made.key, ("backward",)), mode="pynative")


def tier5(seed: int = 0) -> Iterator[Case]:
    """A chain through all steps."""
    spec = {"arguments": {**ARTICLE, "n_steps": 30, "image_chw": (2, 4, 4)}}
    made = computation(
        "sampling/first_ddpm", "first_ddpm_sample", spec, partial(tape, arrays=30), truth="numpy", mode="pynative",
        seed=seed,
    )  # fmt: skip
    yield from cases("5", made, mode="pynative")


SMALL_SET = (  # what parity_tests/bundles holds of it
    "sampling/first_ddpm",
)
