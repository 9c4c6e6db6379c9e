"""Schedules and tables against published values and identities."""

import numpy as np
import pytest

from ms_ddpm import schedules
from ms_ddpm.errors import UserError


@pytest.mark.parametrize(
    ("name", "abar500", "beta0"),
    [("linear", 0.0777967, 1e-4), ("cosine", 0.4922852, 4.128422e-5), ("sigmoid", 0.4983428, 3.002792e-4)],
)
def test_schedules_match_the_published_values(name, abar500, beta0):
    betas = schedules.beta_schedule(name, 1000)
    assert betas.dtype == np.float64
    assert np.cumprod(1 - betas)[500] == pytest.approx(abar500, abs=5e-8)
    assert betas[0] == pytest.approx(beta0, rel=2e-7)


def test_linear_takes_its_ends_exactly_when_given():
    betas = schedules.beta_schedule("linear", 200, beta_start=1e-4, beta_end=0.02)
    assert betas[0] == 1e-4
    assert betas[-1] == 0.02
    assert schedules.beta_schedule("linear", 200)[0] == pytest.approx(5e-4)


def test_scaled_linear_is_even_in_the_root():
    root = np.sqrt(schedules.beta_schedule("scaled_linear", 10, beta_start=0.00085, beta_end=0.012))
    assert np.allclose(np.diff(root), np.diff(root)[0], rtol=1e-12)
    assert root[[0, -1]] ** 2 == pytest.approx([0.00085, 0.012])


@pytest.mark.parametrize("name", list(schedules.BETA_SCHEDULES))
def test_tables_satisfy_the_posterior_identities(name):
    """q(x_{t-1} | x_t, x_0) must be the Gaussian of q(x_t | x_{t-1}) q(x_{t-1} | x_0), by Bayes' rule."""
    tables = schedules.diffusion_tables(schedules.beta_schedule(name, 50))
    beta, abar, prev = tables["betas"], tables["alphas_cumprod"], tables["alphas_cumprod_prev"]
    inner = slice(1, None)
    precision = (1 - beta) / beta + 1 / (1 - np.where(prev == 1, 0, prev))
    assert np.allclose(tables["posterior_variance"][inner], 1 / precision[inner], rtol=1e-9)
    coef1 = np.sqrt(prev) / (1 - np.where(prev == 1, 0, prev)) / precision
    coef2 = np.sqrt(1 - beta) / beta / precision
    assert np.allclose(tables["posterior_mean_coef1"][inner], coef1[inner], rtol=1e-9)
    assert np.allclose(tables["posterior_mean_coef2"][inner], coef2[inner], rtol=1e-9)
    assert tables["posterior_variance"][0] == 0
    assert tables["posterior_log_variance_clipped"][0] == pytest.approx(np.log(1e-20))
    assert np.allclose(tables["sqrt_recipm1_alphas_cumprod"] ** 2, (1 - abar) / abar)


@pytest.mark.parametrize(("objective", "power"), [("pred_noise", 0), ("pred_x0", 1), ("pred_v", None)])
def test_loss_weights_follow_the_objective(objective, power):
    abar = np.array([0.999, 0.5, 0.01])
    snr = abar / (1 - abar)
    expected = abar if power is None else snr**power
    assert np.allclose(schedules.loss_weight(abar, objective), expected)
    clipped = np.minimum(snr, 5)
    divisor = {"pred_noise": snr, "pred_x0": 1, "pred_v": snr + 1}[objective]
    assert np.allclose(schedules.loss_weight(abar, objective, min_snr_loss_weight=True), clipped / divisor)
    p2 = schedules.loss_weight(abar, objective, p2_loss_weight_gamma=0.5, p2_loss_weight_k=2)
    assert np.allclose(p2, expected * (2 + snr) ** -0.5)


def test_ddim_times_are_pytorchs_for_every_number_of_steps():
    torch = pytest.importorskip("torch")
    wrong = []
    for steps in range(1, 1001):
        theirs = torch.linspace(-1, 999, steps=steps + 1).int().tolist()[::-1]
        if schedules.ddim_times(1000, steps) != theirs:
            wrong.append(steps)
    assert not wrong


def test_ddim_times_of_step_counts_where_numpy_differs():
    """Stored, for machines without PyTorch: numpy's grid gives 18, 114, ... in places where PyTorch's gives 17."""
    differing = [
        s for s in range(1, 1000)
        if schedules.ddim_times(1000, s) != np.linspace(-1, 999, s + 1).astype(int)[::-1].tolist()
    ]  # fmt: skip
    assert {26, 38, 52, 60} <= set(differing)
    assert len(differing) == 139


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
