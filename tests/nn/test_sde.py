"""The SDEs' closed forms against the equations they solve, on the host and in a graph."""

import numpy as np
import pytest

from ms_ddpm.errors import UserError

TIMES = np.concatenate([[1e-5, 1.1e-5, 1e-4, 1e-3, 1.0], np.linspace(0.01, 0.99, 50)])


@pytest.fixture(scope="module", params=["ve", "vp", "subvp"])
def sde(request, mindspore):
    from ms_ddpm.nn.sde import SDES

    return SDES[request.param]()


def test_the_moments_solve_the_equations_of_the_sde(sde):
    """d coeff/dt = drift coeff and d std^2/dt = 2 drift std^2 + g^2 (Sarkka & Solin, eq. 5.50 f.)."""
    t, h = TIMES[4:], 1e-6
    middle = np.minimum(t, 1 - h)

    def slope(f):
        return (f(middle + h) - f(middle - h)) / (2 * h)

    coeff, variance = sde.marginal_prob_coeff, lambda t: sde.marginal_prob_std(t) ** 2
    drift, g = sde.drift_coeff(middle), sde.diffusion_coeff(middle)
    assert slope(coeff) == pytest.approx(drift * coeff(middle), rel=1e-6, abs=1e-9)
    assert slope(variance) == pytest.approx(2 * drift * variance(middle) + g**2, rel=1e-5)
    assert (float(coeff(0.0)), float(variance(0.0))) == (1, 0)


def test_graphs_give_the_float64_value_rounded_once(mindspore, sde):
    from ms_ddpm.devices.runtime import compiled

    names = ("marginal_prob_coeff", "marginal_prob_std", "drift_coeff", "diffusion_coeff")

    def all_four(t):
        return (
            sde.marginal_prob_coeff(t), sde.marginal_prob_std(t), sde.drift_coeff(t), sde.diffusion_coeff(t),
        )  # fmt: skip

    t = TIMES.astype(np.float32)
    for name, value in zip(names, compiled(all_four)(mindspore.Tensor(t)), strict=True):
        exact = getattr(sde, name)(t)
        assert exact.dtype == np.float64
        assert np.abs(value.asnumpy() - exact).max(initial=0, where=exact == 0) == 0
        ulp = np.abs(value.asnumpy() - exact) / np.spacing(np.abs(exact).astype(np.float32))
        assert ulp.max() <= 0.51, name


def test_the_time_of_a_noise_ratio(sde):
    assert sde.time_of_ratio(sde.noise_ratio(TIMES)) == pytest.approx(TIMES, rel=1e-9)


def test_the_priors_density(sde):
    stats = pytest.importorskip("scipy.stats")
    z = np.random.default_rng(0).standard_normal((3, 1, 4, 4)) * sde.prior_std
    exact = stats.norm(0, sde.prior_std).logpdf(z).sum(axis=(1, 2, 3))
    assert sde.prior_logp(z) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("ve", {"sigma": 1.0}, "sigma is 1.0"),
        ("ve", {"sigma": float("nan")}, "sigma is nan"),
        ("vp", {"beta_min": 0.0}, "beta_min and beta_max are 0.0 and 20.0"),
        ("subvp", {"beta_min": 3.0, "beta_max": 2.0}, "beta_min and beta_max are 3.0 and 2.0"),
    ],
)
def test_impossible_processes_are_named(mindspore, name, arguments, words):
    from ms_ddpm.nn.sde import SDES

    with pytest.raises(UserError, match=words):
        SDES[name](**arguments)
