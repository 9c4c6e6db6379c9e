"""Bits per dimension of Gaussian data, whose density is known."""

import math

import numpy as np
import pytest

from ms_ddpm.errors import UserError
from tests.gaussian_score import SHAPE, SHIFTS, gaussian_model

pytestmark = pytest.mark.graph  # thousands of steps of one small network

SIZE = int(np.prod(SHAPE))


def covariance():
    mix = 0.1 * np.random.default_rng(0).standard_normal((SIZE, SIZE))
    return mix @ mix.T + 0.05 * np.eye(SIZE)


def log_density(x, mean, cov):
    """Of N(mean, cov), in nats."""
    away = x.reshape(len(x), -1).astype(np.float64) - mean
    quadratic = np.einsum("bi,ij,bj->b", away, np.linalg.inv(cov), away)
    return -0.5 * (SIZE * math.log(2 * math.pi) + np.linalg.slogdet(cov)[1] + quadratic)


def exact_of(x):
    return log_density(x, 0.5, covariance())


@pytest.fixture(scope="module", params=["ve", "vp", "subvp"])
def known(request, mindspore):
    """A model of correlated Gaussian pixels, and data of that distribution."""
    from ms_ddpm.nn.sde import SDES

    x = np.random.default_rng(1).multivariate_normal(np.full(SIZE, 0.5), covariance(), size=16)
    return gaussian_model(SDES[request.param](), covariance=covariance()), x.reshape(-1, *SHAPE).astype(np.float32)


@pytest.mark.parametrize("method", ["rk45", "heun"])
def test_the_divergence_of_independent_pixels_is_exact(mindspore, method):
    """There the Jacobian is diagonal and a Rademacher probe has no variance: what is left is the ODE's error."""
    from ms_ddpm.nn.sde import SDES
    from ms_ddpm.samplers.likelihood import bits_per_dim

    x = (0.5 + 0.3 * np.random.default_rng(2).standard_normal((8, *SHAPE))).astype(np.float32)
    for name, make in SDES.items():
        sde = make()
        model = gaussian_model(sde)
        found = bits_per_dim(model, x, rng=0, levels=None, method=method)
        # As the ODE has it: from eps on, and under the prior without the data's own spread.
        spread = [math.hypot(sde.marginal_prob_coeff(t) * 0.3, sde.marginal_prob_std(t)) for t in (1e-5, 1.0)]
        end = sde.marginal_prob_coeff(1.0) * 0.5 + spread[1] / spread[0] * (
            x.astype(np.float64) - sde.marginal_prob_coeff(1e-5) * 0.5
        )
        exact = sde.prior_logp(end) + SIZE * math.log(spread[1] / spread[0])
        assert found.nats == pytest.approx(exact, abs=0.05 if method == "heun" else 5e-4), name
        assert found.nats == pytest.approx(log_density(x, 0.5, 0.09 * np.eye(SIZE)), abs=0.25), name
        assert found.bits_per_dim == pytest.approx(-found.nats / SIZE / math.log(2))


@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
def test_probes_estimate_the_divergence_without_bias(known, probe):
    from ms_ddpm.samplers.likelihood import bits_per_dim

    model, x = known
    options = {"rng": 0, "levels": None, "probe": probe, "method": "heun", "steps": 40}
    error = bits_per_dim(model, np.tile(x, (25, 1, 1, 1)), **options).nats - np.tile(exact_of(x), 25)
    # 400 probes. A Gaussian one's own length counts too: for 55 nats of expansion under VE.
    assert abs(error.mean()) < 4 * error.std() / 20 + 0.1
    assert error.std() < {"rademacher": 4.0, "gaussian": 25.0}[probe]


def test_the_same_seed_gives_the_same_likelihood(mindspore):
    from ms_ddpm.nn.sde import VPSDE
    from ms_ddpm.samplers.likelihood import bits_per_dim

    model, x = gaussian_model(VPSDE(), covariance=covariance()), np.full((2, *SHAPE), 0.4, np.float32)
    first, again, other = (
        bits_per_dim(model, x, rng=seed, probe="gaussian", probes=2, method="heun", steps=10).nats for seed in (3, 3, 4)
    )
    assert (first == again).all()
    assert (first != other).all()


def test_grey_levels_cost_their_own_bits(mindspore):
    """A density that is flat over the cells: dequantised, 16 levels take log2(16) bits more than their density's."""
    from ms_ddpm.nn.sde import VPSDE
    from ms_ddpm.samplers.likelihood import bits_per_dim, dequantise

    rng = np.random.default_rng(0)
    levels = rng.integers(0, 16, (500, *SHAPE))
    spread = dequantise(levels / 15, np.random.default_rng(0), 16)
    assert (np.floor(spread * 16) == levels).all()
    assert spread.dtype == np.float32
    assert (spread * 16 - levels).mean() == pytest.approx(0.5, abs=0.01)
    model = gaussian_model(VPSDE())
    discrete = bits_per_dim(model, levels[:4] / 15, rng=0, levels=16, method="heun", steps=40)
    continuous = bits_per_dim(
        model, dequantise(levels[:4] / 15, np.random.default_rng(0), 16), rng=1, levels=None, method="heun", steps=40
    )
    assert discrete.bits_per_dim == pytest.approx(continuous.bits_per_dim + 4, abs=1e-5)


def test_the_likelihood_given_a_class(mindspore):
    from ms_ddpm.nn.sde import VESDE
    from ms_ddpm.samplers.likelihood import bits_per_dim

    model = gaussian_model(VESDE(25.0), shifts=SHIFTS)
    x = np.full((3, *SHAPE), 0.8, np.float32)  # the mean of class 1
    bits = bits_per_dim(model, x, rng=0, levels=None, labels=[0, 1, 2], method="heun", steps=40).bits_per_dim
    assert bits.argmin() == 1
    assert bits[2] - bits[1] > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"images": np.zeros((2, 1, 5, 5))}, r"images of shape \(2, 1, 5, 5\), expected \(B, 1, 2, 8\)"),
        ({"images": np.full((2, *SHAPE), 1.5)}, "images from 1.5 to 1.5"),
        ({"probe": "sobol"}, "probe is 'sobol', expected one of: rademacher, gaussian"),
        ({"method": "euler"}, "method is 'euler', expected one of: rk45, heun"),
        ({"probes": 0}, "probes of the likelihood is 0"),
        ({"levels": 1}, "levels of the likelihood is 1"),
        ({"eps": 0.0}, "eps of the likelihood is 0.0"),
        ({"labels": 1}, "labels are given, but this model is not conditional"),
    ],
)
def test_impossible_requests_are_named(mindspore, options, words):
    from ms_ddpm.nn.sde import VESDE
    from ms_ddpm.samplers.likelihood import bits_per_dim

    with pytest.raises(UserError, match=words):
        bits_per_dim(gaussian_model(VESDE(25.0)), **{"images": np.zeros((2, *SHAPE)), "rng": 0, **options})
