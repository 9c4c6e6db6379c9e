"""Schedules, tables, weights and times against the oracle, in float64, and what is refused."""

from itertools import product

import numpy as np
import pytest

from ms_ddpm import schedules
from ms_ddpm.errors import UserError
from parity_tests import oracle
from parity_tests.systems.core.cases.maths import OBJECTIVES, SCHEDULES, WEIGHTS


@pytest.mark.parametrize("timesteps", [50, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_table_and_weight_is_the_oracles(name, timesteps):
    """The parity cases see them rounded to float32; here they differ by 5e-12 at the most."""
    schedule, options = SCHEDULES[name]["beta_schedule"], SCHEDULES[name].get("schedule_fn_kwargs", {})
    truth = oracle.tables(oracle.beta_schedule(schedule, timesteps, **options))
    tables = schedules.diffusion_tables(schedules.beta_schedule(schedule, timesteps, **options))
    assert set(tables) == set(truth)
    for table, value in truth.items():
        assert tables[table].dtype == np.float64, table
        np.testing.assert_allclose(tables[table], value, rtol=1e-10, atol=1e-15, err_msg=table)
    abar = truth["alphas_cumprod"]
    for objective, weighting in product(OBJECTIVES, WEIGHTS.values()):
        weights = schedules.loss_weight(abar, objective, **weighting)
        np.testing.assert_allclose(weights, oracle.loss_weight(abar, objective, **weighting), rtol=1e-12)


def test_ddim_times_are_the_oracles_for_every_number_of_steps():
    """Those of PyTorch, on a machine without it; numpy's grid gives 18, 114, ... in places where PyTorch's gives 17."""
    times = {steps: schedules.ddim_times(1000, steps) for steps in range(1, 1001)}
    assert [s for s in times if times[s] != oracle.ddim_times(1000, s).tolist()] == []
    assert sum(times[s] != np.linspace(-1, 999, s + 1).astype(int)[::-1].tolist() for s in times) == 139


@pytest.mark.parametrize(
    ("name", "steps", "kwargs", "words"),
    [
        ("quadratic", 10, {}, "quadratic"),
        ("linear", 10, {}, "beta_end"),
        ("linear", 0, {}, "timesteps is 0"),
        ("cosine", 10, {"tau": 1}, "'tau'"),
        ("linear", 10, {"beta_start": 0, "beta_end": 0.1}, "beta_start is 0"),
        ("scaled_linear", 10, {"beta_start": -1}, "beta_start is -1"),
    ],
)
def test_impossible_schedules_are_named(name, steps, kwargs, words):
    with pytest.raises(UserError, match=words):
        schedules.beta_schedule(name, steps, **kwargs)


@pytest.mark.parametrize("steps", [0, 11, -3])
def test_more_sampling_steps_than_timesteps_are_refused(steps):
    with pytest.raises(UserError, match=f"sampling_timesteps is {steps}"):
        schedules.ddim_times(10, steps)
