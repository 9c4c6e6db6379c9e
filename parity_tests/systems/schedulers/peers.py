"""Tier "peers" of the schedulers: the sums that diffusers' tests publish, and the library itself, step for step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from parity_tests.make import cases
from parity_tests.peers import of_installed
from parity_tests.systems.core.peers import (
    CHAIN_TOLERANCES,
    DDIM_VARIANCES,
    DDPM_VARIANCES,
    PUBLISHED,
    PUBLISHED_SHAPE,
    VARIANCE_TOLERANCE,
    Published,
    diffusers_leg,
    published_computation,
    published_inputs,
)
from portparity.arrays import perturbed
from portparity.backends import leg
from portparity.case import Arrays, Case, Computation

from . import cases as schedulers

PREDICTIONS = {"pred_noise": "epsilon", "pred_v": "v_prediction"}
NOT_THEIRS = ("fixed_large_log", "learned")  # NaN there: see DIFFERENCES
TRAILING_OF_1000 = "maths/scheduler_times-trailing-T1000"


def scheduler_spec(row: Published) -> dict:
    """The scheduler, its times and its options, of a row of `PUBLISHED`."""
    config = {"beta_start": row.beta_start, "prediction_type": PREDICTIONS[row.objective]}
    spec = {"scheduler": row.sampler, "config": config, "chain_times": row.times}
    if row.sampler == "ddim":
        config["set_alpha_to_one"] = row.final == "one"
        spec |= {"steps": 10}
    return spec


def chain_inputs(row: Published) -> Arrays:
    """x first, then the noise of every step; diffusers draws none where eta is 0."""
    found = dict(published_inputs(row))
    tape = found.pop("tape", np.zeros((0, *PUBLISHED_SHAPE), np.float32))
    return found | {"tape": np.concatenate([found.pop("x")[None], tape])}


def _chain_leg(framework: str, spec: Mapping, inputs: Arrays) -> Arrays:
    x = np.abs(leg(framework, "scheduler_chain", spec)(inputs)["chain"][-1].astype(np.float64))
    return {"sum_abs": np.asarray(x.sum()), "mean_abs": np.asarray(x.mean())}


def _variance_leg(framework: str, spec: Mapping, inputs: Arrays) -> Arrays:
    return leg(framework, "scheduler_variance", spec)(inputs)


def published_cases() -> Iterator[Case]:
    """The published chains and variances, through the scheduler classes."""
    for name, row in PUBLISHED.items():
        values = {"sum_abs": row.sum_abs - row.float32_tables, "mean_abs": row.mean_abs}
        yield from cases("peers", published_computation(
            f"scheduler_{name}", _chain_leg, scheduler_spec(row), lambda row=row: chain_inputs(row), values,
            CHAIN_TOLERANCES,
        ))  # fmt: skip
    for scheduler, known in (("ddpm", {(t, None): v for t, v in DDPM_VARIANCES.items()}), ("ddim", DDIM_VARIANCES)):
        values = {str(pair)[1:-1]: [value] for pair, value in known.items()}
        spec = {"scheduler": scheduler, "config": {}, "pairs": list(known)}
        made = published_computation(
            f"scheduler_{scheduler}_variance", _variance_leg, spec, dict, values,
            dict.fromkeys(values, VARIANCE_TOLERANCE),
        )  # fmt: skip
        made = replace(made, candidates={name: _as_float64(run) for name, run in made.candidates.items()})
        yield from cases("peers", made)


def _as_float64(run):
    return lambda inputs: {name: value.astype(np.float64) for name, value in run(inputs).items()}


def theirs(made: Computation) -> bool:
    """Whether diffusers can do the computation, and does it without a declared difference."""
    spec, config = made.spec, made.spec["config"]
    return (
        config.get("variance_type") not in NOT_THEIRS
        and not (spec["scheduler"] == "ddim" and "timesteps" in spec)  # its DDIM takes none
        # A sign of theirs, and a time of -1: see DIFFERENCES. Their Euler ancestral does not know that prediction.
        and not made.key.endswith(("dpm-sde-order3", "dpm-clipped-69", "dpm-clipped-cosine", "ancestral-sample"))
        and not (spec["scheduler"] == "ddim" and config.get("beta_schedule") in ("sigmoid", "laplace"))
        and not (spec["kind"] == "scheduler_variance" and config.get("variance_type") == "fixed_small_log")  # a root
    )


def _their_steps(made: Computation) -> Mapping:
    """The spec without the numbers of steps for which diffusers' "trailing" times go on to -1."""
    if made.key != TRAILING_OF_1000:
        return made.spec
    whole = [n for n in made.spec["all_steps"] if len(np.arange(1000, 0, -1000 / n)) == n]
    return {**made.spec, "all_steps": whole}


def diffusers_cases(seed: int = 0) -> Iterator[Case]:
    """Tiers 0, 1 and 5 with diffusers' classes as the reference, each computation once."""
    done = set()
    for tier in (schedulers.tier0, schedulers.tier1, schedulers.tier5):
        for case in tier(seed):
            made = case.computation
            stem = made.key.removesuffix(f"-{case.mode}")
            if stem in done or not theirs(made):
                continue
            done.add(stem)
            spec = {**_their_steps(made), "reference": "diffusers"}
            kind, rule = spec["kind"], made.rule
            reference = diffusers_leg(kind, spec)
            references = (reference, *(perturbed(reference, i) for i in range(len(made.references) - 1)))
            if rule == "ulp":  # their tables are float32: a relative error, not an ulp
                rule = "ratio"
            yield from cases("peers", replace(
                made, key=f"peers/diffusers/{stem}", references=references, further=(), spec={**spec, "rule": rule},
                rule=rule,
                truth=leg("numpy", kind, spec),
                candidates={
                    "mindspore": leg("mindspore", kind, spec, mode=spec["mode"]), "torch": leg("torch", kind, spec),
                },
            ), mode=case.mode)  # fmt: skip


def tier_peers(seed: int = 0) -> Iterator[Case]:
    """Published values, and diffusers where it is installed."""
    yield from published_cases()
    yield from of_installed(LIBRARIES, seed)


LIBRARIES = {("diffusers",): diffusers_cases}
