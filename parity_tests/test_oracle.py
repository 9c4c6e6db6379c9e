"""The oracle against itself, exact arithmetic, published numbers and PyTorch's own functions."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from parity_tests import oracle
from parity_tests.oracle import Diffusion

OBJECTIVES = ("pred_noise", "pred_x0", "pred_v")
SCHEDULES = ("linear", "scaled_linear", "cosine", "sigmoid")
T = 50


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def close(actual, expected, rtol=1e-12, atol=0.0):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


class Toy:
    """A model that is a fixed function of its inputs: not linear in x, and different for every t and channel."""

    channels = 3

    def __init__(self, out_dim=3, self_condition=False, gain=1.0):
        self.out_dim, self.self_condition, self.gain, self.calls = out_dim, self_condition, gain, []

    def __call__(self, x, t, x_self_cond=None):
        self.calls.append(None if x_self_cond is None else np.array(x_self_cond))
        before = 0 if x_self_cond is None else 0.5 * x_self_cond
        y = self.gain * np.sin(x + np.arange(1, 4).reshape(3, 1, 1)) + 0.01 * t.reshape(-1, 1, 1, 1) + before
        return y if self.out_dim == 3 else np.concatenate([y, np.cos(2 * x)], axis=1)


class Knows(Toy):
    """A model that knows the image, and answers what its objective asks for."""

    def __init__(self, x_start, **kwargs):
        super().__init__(**kwargs)
        self.x_start, self.process = x_start, None

    def __call__(self, x, t, x_self_cond=None):
        noise = self.process.predict_noise_from_start(x, t, self.x_start)
        answers = {
            "pred_noise": noise,
            "pred_x0": self.x_start,
            "pred_v": self.process.predict_v(self.x_start, t, noise),
        }
        return answers[self.process.objective]


def diffusion(model=None, **kwargs):
    model = Toy() if model is None else model
    made = Diffusion(model, **({"image_size": 4, "timesteps": T, "beta_schedule": "cosine"} | kwargs))
    if isinstance(model, Knows):
        model.process = made
    return made


@pytest.fixture
def batch(rng):
    """x_start in [-1, 1], noise, and t at both ends and between."""
    t = np.array([0, 1, 2, T // 2, T - 1])
    return rng.uniform(-1, 1, (5, 3, 4, 4)), rng.standard_normal((5, 3, 4, 4)), t


# schedules and tables


@pytest.mark.parametrize(
    ("name", "abar_500", "beta_0"),
    [("linear", 0.0777967, 1e-4), ("cosine", 0.4922852, 4.128422e-5), ("sigmoid", 0.4983428, 3.002792e-4)],
)
def test_schedules_have_the_published_values(name, abar_500, beta_0):
    tables = oracle.tables(oracle.beta_schedule(name, 1000))
    close(tables["alphas_cumprod"][500], abar_500, rtol=0, atol=5e-8)
    close(tables["betas"][0], beta_0, rtol=2e-7)


@pytest.mark.parametrize("timesteps", [25, 1000])
def test_cosine_and_sigmoid_are_the_quotients_of_the_papers(timesteps):
    u = np.arange(timesteps + 1) / timesteps
    for s in (0.008, 0.02):
        f = np.cos((u + s) / (1 + s) * np.pi / 2) ** 2
        expected = np.minimum(1 - f[1:] / f[:-1], 0.999)
        close(oracle.beta_schedule("cosine", timesteps, s=s), expected, rtol=1e-9)
    for start, end, tau in ((-3, 3, 1), (0, 3, 0.7)):
        s = 1 / (1 + np.exp(-(start + (end - start) * u) / tau))
        abar = (s[-1] - s) / (s[-1] - s[0])
        expected = np.minimum(1 - abar[1:] / abar[:-1], 0.999)
        close(oracle.beta_schedule("sigmoid", timesteps, start=start, end=end, tau=tau), expected, rtol=1e-9)


def test_linear_scales_with_the_length_unless_its_ends_are_given():
    close(oracle.beta_schedule("linear", 250)[[0, -1]], [4e-4, 0.08])
    close(oracle.beta_schedule("linear", 250, beta_start=1e-3, beta_end=0.05)[[0, -1]], [1e-3, 0.05])
    close(oracle.beta_schedule("scaled_linear", 3, beta_start=0.01, beta_end=0.09), [0.01, 0.04, 0.09])


@pytest.mark.parametrize("name", SCHEDULES)
def test_tables_agree_with_exact_rational_arithmetic(name):
    betas = oracle.beta_schedule(name, 40)
    tables = oracle.tables(betas)
    before = Fraction(1)
    for t, beta in enumerate(Fraction(float(b)) for b in betas):
        abar = before * (1 - beta)
        exact = {
            "alphas_cumprod": abar,
            "alphas_cumprod_prev": before,
            "posterior_variance": beta * (1 - before) / (1 - abar),
        }
        squares = {
            "sqrt_alphas_cumprod": abar,
            "sqrt_one_minus_alphas_cumprod": 1 - abar,
            "sqrt_recip_alphas_cumprod": 1 / abar,
            "sqrt_recipm1_alphas_cumprod": 1 / abar - 1,
            "posterior_mean_coef1": before * (beta / (1 - abar)) ** 2,
            "posterior_mean_coef2": (1 - beta) * ((1 - before) / (1 - abar)) ** 2,
        }
        logs = {
            "log_one_minus_alphas_cumprod": -abar,
            "posterior_log_variance_clipped": max(exact["posterior_variance"], Fraction(1, 10**20)) - 1,
        }
        for key, value in exact.items():
            close(tables[key][t], float(value), rtol=2e-14)
        for key, value in squares.items():
            close(tables[key][t], np.sqrt(float(value)), rtol=2e-14)
        for key, value in logs.items():
            expected = math.log1p(float(value)) if abs(value) < 0.5 else math.log(float(1 + value))
            # the variance itself is rounded before its logarithm is taken
            close(tables[key][t], expected, rtol=2e-14, atol=1e-15 if "variance" in key else 0)
        before = abar
    assert set(tables) == {"betas", *exact, *squares, *logs}
    assert all(table.dtype == np.float64 and table.shape == (40,) for table in tables.values())


def test_tables_of_a_thousand_steps_are_exact_to_1e_13():
    abar = Fraction(1)
    for name in ("linear", "cosine"):
        betas = oracle.beta_schedule(name, 1000)
        abar, made = Fraction(1), oracle.tables(betas)["alphas_cumprod"]
        for t, beta in enumerate(betas[:300]):
            abar *= 1 - Fraction(float(beta))
            if t % 50 == 49:
                close(made[t], float(abar), rtol=1e-14)
        close(made, np.cumprod(1 - betas), rtol=1e-12)


def test_betas_outside_the_unit_interval_are_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        oracle.tables(oracle.beta_schedule("linear", 10))


@pytest.mark.parametrize("gamma", [0.0, 0.7])
@pytest.mark.parametrize("min_snr", [False, True])
def test_loss_weights_are_the_snr_terms(min_snr, gamma):
    abar = oracle.tables(oracle.beta_schedule("sigmoid", 100))["alphas_cumprod"]
    snr = abar / (1 - abar)
    assert snr.min() < 5 < snr.max()
    kept = np.minimum(snr, 5) if min_snr else snr
    for objective, over in (("pred_noise", snr), ("pred_x0", 1), ("pred_v", snr + 1)):
        made = oracle.loss_weight(abar, objective, min_snr, 5, gamma, 2.0)
        close(made, kept / over * (2.0 + snr) ** -gamma)


# the process


def test_noise_image_and_v_go_round(batch):
    x_start, noise, t = batch
    d = diffusion()
    x_t = d.q_sample(x_start, t, noise)
    v = d.predict_v(x_start, t, noise)
    close(d.predict_start_from_v(x_t, t, v), x_start, atol=1e-13)
    tight = {"rtol": 1e-11, "atol": 1e-11}
    close(d.predict_noise_from_start(x_t, t, x_start), noise, **tight)
    close(d.predict_start_from_noise(x_t, t, noise), x_start, **tight)
    signal, spread = np.sqrt(d.at("alphas_cumprod", t)), d.at("sqrt_one_minus_alphas_cumprod", t)
    close(signal * v + spread * x_t, noise, atol=1e-13)  # (x_t, v) is (x_0, eps) turned by the angle
    assert not np.allclose(v, noise, atol=1e-3)


def test_posterior_is_bayes_rule(batch):
    """log q(x' | x_0) + log q(x_t | x') - log posterior(x') must not depend on x'; and the mean is DDPM's eq. 7."""
    x_start, noise, t = (part[1:] for part in batch)
    d = diffusion(beta_schedule="linear")
    x_t = d.q_sample(x_start, t, noise)
    mean, variance, log_variance = d.q_posterior(x_start, x_t, t)
    beta, prev = d.at("betas", t), d.at("alphas_cumprod_prev", t)

    def log_normal(x, mean, variance):
        return -0.5 * (np.log(variance) + (x - mean) ** 2 / variance)

    def remainder(x):
        joint = log_normal(x, np.sqrt(prev) * x_start, 1 - prev) + log_normal(x_t, np.sqrt(1 - beta) * x, beta)
        return joint - log_normal(x, mean, variance)

    constant = remainder(mean)
    for away in (-2.0, -0.3, 0.5, 3.0):
        close(remainder(mean + away * np.sqrt(variance)), constant, atol=1e-9)
    close(log_variance, np.log(variance))
    close(mean, d.at("posterior_mean_coef1", t) * x_start + d.at("posterior_mean_coef2", t) * x_t)
    close(variance, d.at("posterior_variance", t), rtol=1e-13)


def test_posterior_of_the_first_step_is_the_image(batch):
    x_start, x_t, _ = batch
    mean, variance, log_variance = diffusion().q_posterior(x_start, x_t, np.zeros(5, int))
    np.testing.assert_array_equal(mean, x_start)
    assert (variance == 0).all()
    close(log_variance, np.full((5, 1, 1, 1), np.log(1e-20)))


def test_steps_out_of_range_are_refused(batch):
    for t in ([-1] * 5, [T] * 5, [0.5] * 5, 3):
        with pytest.raises(ValueError, match="integers"):
            diffusion().q_sample(*batch[:1], np.asarray(t), batch[1])


# reverse steps


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_model_that_knows_the_image_gives_the_posterior(batch, objective):
    x_start, noise, t = batch
    d = diffusion(Knows(x_start), objective=objective)
    x_t = d.q_sample(x_start, t, noise)
    pred_noise, pred_x_start = d.model_predictions(x_t, t)
    close(pred_noise, noise, rtol=1e-9, atol=1e-9)
    close(pred_x_start, x_start, rtol=1e-9, atol=1e-9)
    mean, variance, log_variance, _ = d.p_mean_variance(x_t, t)
    for made, expected in zip((mean, variance, log_variance), d.q_posterior(x_start, x_t, t), strict=True):
        close(made, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_image_is_clipped_and_the_noise_derived_from_it_as_upstream(batch, objective):
    x, _, t = batch
    model = Toy(gain=3.0)
    d = diffusion(model, objective=objective)
    out = model(x, t)
    free, clipped = d.model_predictions(x, t), d.model_predictions(x, t, clip_x_start=True)
    rederived = d.model_predictions(x, t, clip_x_start=True, rederive_pred_noise=True)
    assert np.abs(free.pred_x_start).max() > 1.5
    close(clipped.pred_x_start, np.clip(free.pred_x_start, -1, 1))
    close(rederived.pred_noise, d.predict_noise_from_start(x, t, clipped.pred_x_start))
    if objective == "pred_noise":
        close(clipped.pred_noise, out)
        close(d.model_predictions(x, t, rederive_pred_noise=True).pred_noise, out)
        assert not np.allclose(rederived.pred_noise, out)
    else:
        close(clipped.pred_noise, rederived.pred_noise)
    assert np.abs(d.p_mean_variance(x, t)[3]).max() <= 1
    assert np.abs(d.p_mean_variance(x, t, clip_denoised=False)[3]).max() > 1.5


def test_p_sample_adds_noise_except_at_the_first_step(batch):
    x, noise, t = batch
    noise = noise.copy()
    noise[0] = np.nan  # t = 0: must not even be looked at
    d = diffusion()
    mean, variance, _, x_start = d.p_mean_variance(x, t)
    x_prev, same = d.p_sample(x, t, noise)
    np.testing.assert_array_equal(same, x_start)
    close(x_prev[0], mean[0])
    close(x_prev[1:], (mean + np.sqrt(variance) * noise)[1:])
    with pytest.raises(ValueError, match="none was given"):
        d.p_sample(x, t, None)
    with pytest.raises(ValueError, match="shape"):
        d.p_sample(x, t, noise[:, :1])


def test_the_learned_variance_runs_from_the_posterior_to_beta(batch):
    x, _, t = batch

    def log_variance(v):
        class Says(Toy):
            def __call__(self, x, t, x_self_cond=None):
                return np.concatenate([x, np.full_like(x, v)], axis=1)

        return diffusion(Says(out_dim=6)).p_mean_variance(x, t)[2]

    d = diffusion()
    low, high = d.at("posterior_log_variance_clipped", t), np.log(d.at("betas", t))
    shape = x.shape
    close(log_variance(-1.0), np.broadcast_to(low, shape))
    close(log_variance(1.0), np.broadcast_to(high, shape))
    close(log_variance(0.5), np.broadcast_to(0.75 * high + 0.25 * low, shape))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ddim_with_eta_one_and_single_steps_is_ddpm(batch, objective):
    x, noise, t = batch
    d = diffusion(objective=objective)
    made, x_start = d.ddim_step(x, t, t - 1, noise, 1.0)
    expected, same = d.p_sample(x, t, noise)
    close(made, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(x_start, same)


def test_ddim_with_eta_zero_keeps_the_noise(batch):
    x_start, noise, _ = batch
    d = diffusion(Knows(x_start))
    x = d.q_sample(x_start, np.full(5, 40), noise)
    made, _ = d.ddim_step(x, 40, 11, None, 0.0)
    close(made, d.q_sample(x_start, np.full(5, 11), noise), rtol=1e-9, atol=1e-9)
    last, found = d.ddim_step(x, 40, -1, None, 1.0)
    np.testing.assert_array_equal(last, found)
    with pytest.raises(ValueError, match="none was given"):
        d.ddim_step(x, 40, 11, None, 0.5)
    noise[1] = np.nan  # the second image takes its last step: this must not even be looked at
    made, found = d.ddim_step(x, np.full(5, 40), np.array([11, -1, 11, 11, 11]), noise, 0.5)
    np.testing.assert_array_equal(made[1], found[1])
    assert np.isfinite(made).all()


def test_ddim_coefficients_are_the_papers_formulas():
    abar = oracle.tables(oracle.beta_schedule("linear", 1000))["alphas_cumprod"]
    time, later = np.array([999, 500, 420, 20]), np.array([899, 490, 400, 19])
    for eta in (0.0, 0.3, 1.0):
        a, b = abar[time], abar[later]
        sigma = eta * np.sqrt((1 - b) / (1 - a)) * np.sqrt(1 - a / b)
        expected = np.sqrt(b), np.sqrt(1 - b - sigma**2), sigma
        for made, value in zip(oracle.ddim_coefficients(abar, time, later, eta), expected, strict=True):
            close(made, value, rtol=1e-10)
    of_x0, of_eps, of_noise = oracle.ddim_coefficients(abar, 20, -1, 1.0)
    assert (of_x0, of_eps, of_noise) == (1, 0, 0)


# chains


def test_a_ddpm_chain_is_its_steps_and_ends_where_the_model_points(batch, rng):
    x_start = batch[0]
    tape = rng.standard_normal((T, *x_start.shape))
    close(diffusion(Knows(x_start)).ddpm_chain(tape), (x_start + 1) / 2, atol=1e-9)
    d = diffusion(auto_normalize=False)
    x = tape[0]
    for t in reversed(range(T)):
        x, _ = d.p_sample(x, np.full(5, t), tape[T - t] if t else None)
    np.testing.assert_array_equal(d.ddpm_chain(iter(tape)), x)
    frames = d.ddpm_chain(tape, return_all_timesteps=True)
    assert frames.shape == (5, T + 1, 3, 4, 4)
    np.testing.assert_array_equal(frames[:, 0], tape[0])
    np.testing.assert_array_equal(frames[:, -1], x)
    with pytest.raises(ValueError, match="ran dry"):
        d.ddpm_chain(tape[:-1])


def test_a_ddim_chain_of_all_steps_at_eta_one_is_the_ddpm_chain(batch, rng):
    tape = rng.standard_normal((T, *batch[0].shape))
    d = diffusion(objective="pred_x0")
    close(d.ddim_chain(tape, T, 1.0), d.ddpm_chain(tape), rtol=1e-8, atol=1e-10)


def test_sample_takes_ddim_exactly_when_it_is_shorter(rng):
    tape = rng.standard_normal((T, 2, 3, 4, 4))
    short = diffusion(sampling_timesteps=7, ddim_sampling_eta=0.5)
    np.testing.assert_array_equal(short.sample(noise=tape), short.ddim_chain(tape, 7, 0.5))
    x = tape[0]
    for i, (time, later) in enumerate(pairwise(oracle.ddim_times(T, 7)), 1):
        x, _ = short.ddim_step(x, time, later, tape[i], 0.5)
    close(short.sample(noise=tape), (x + 1) / 2)
    with pytest.raises(ValueError, match="ran dry"):
        short.ddim_chain(tape[:6], 7, 0.0)  # the tape is read even where eta is 0
    full = diffusion(sampling_timesteps=T)
    np.testing.assert_array_equal(full.sample(noise=tape), full.ddpm_chain(tape))


def test_chains_condition_on_the_last_predicted_image(rng):
    tape = rng.standard_normal((T, 2, 3, 4, 4))
    for chain in ("ddpm_chain", "ddim_chain"):
        model = Toy(self_condition=True)
        d = diffusion(model, sampling_timesteps=5)
        getattr(d, chain)(tape)
        assert model.calls[0] is None
        first = d.model_predictions(tape[0], np.full(2, T - 1), clip_x_start=True).pred_x_start
        np.testing.assert_array_equal(model.calls[1], first)
        plain = Toy()
        getattr(diffusion(plain, sampling_timesteps=5), chain)(tape)
        assert all(call is None for call in plain.calls)


def test_interpolation_mixes_at_t_and_runs_back_from_there(rng):
    x1, x2 = rng.uniform(0, 1, (2, 2, 3, 4, 4))
    tape = rng.standard_normal((6, 2, 3, 4, 4))
    d = diffusion()
    at = np.full(2, 5)
    x = 0.7 * d.q_sample(2 * x1 - 1, at, tape[0]) + 0.3 * d.q_sample(2 * x2 - 1, at, tape[1])
    for i, t in enumerate((4, 3, 2, 1, 0), 2):
        x, _ = d.p_sample(x, np.full(2, t), tape[i] if t else None)
    close(d.interpolate(x1, x2, 5, 0.3, noise=tape), (x + 1) / 2)
    longer = rng.standard_normal((T, 2, 3, 4, 4))  # two, then one for each of the steps T-2 ... 1
    np.testing.assert_array_equal(d.interpolate(x1, x2, noise=longer), d.interpolate(x1, x2, T - 1, 0.5, noise=longer))
    assert not np.allclose(d.interpolate(x1, x2, T - 2, noise=longer), d.interpolate(x1, x2, noise=longer))
    with pytest.raises(ValueError, match="ran dry"):
        d.interpolate(x1, x2, noise=longer[:-1])


# losses


def test_the_loss_weighs_the_mean_of_each_image(batch):
    x_start, noise, t = batch
    for objective in OBJECTIVES:
        for loss_type, power in (("l1", 1), ("l2", 2)):
            model = Toy()
            kwargs = {"objective": objective, "loss_type": loss_type, "p2_loss_weight_gamma": 0.5}
            d = diffusion(model, min_snr_loss_weight=True, **kwargs)
            x_t = d.q_sample(x_start, t, noise)
            target = {"pred_noise": noise, "pred_x0": x_start, "pred_v": d.predict_v(x_start, t, noise)}[objective]
            weight = oracle.loss_weight(d.tables["alphas_cumprod"], objective, True, 5, 0.5, 1)
            assert np.ptp(weight[t]) > 0.1
            error = np.abs(model(x_t, t) - target) ** power
            expected = np.mean([weight[step] * image.mean() for step, image in zip(t, error, strict=True)])
            close(d.p_losses(x_start, t, noise), expected)
            close(d.loss((x_start + 1) / 2, t, noise), expected)
            raw = diffusion(min_snr_loss_weight=True, auto_normalize=False, **kwargs)
            close(raw.loss(x_start, t, noise), expected)
            assert abs(d.loss(x_start, t, noise) / expected - 1) > 1e-3


def test_offset_noise_moves_input_and_target(batch, rng):
    x_start, noise, t = batch
    offset = rng.standard_normal((5, 3))
    d = diffusion(offset_noise_strength=0.1)
    moved = noise + 0.1 * offset[:, :, None, None]
    close(d.p_losses(x_start, t, noise, offset_noise=offset), d.p_losses(x_start, t, moved))
    assert abs(d.p_losses(x_start, t, moved) - d.p_losses(x_start, t, noise)) > 1e-4


def test_the_self_conditioning_coin(batch):
    x_start, noise, t = batch
    model = Toy(self_condition=True, gain=3.0)
    d = diffusion(model)
    d.p_losses(x_start, t, noise)
    assert model.calls == [None]
    model.calls.clear()
    d.p_losses(x_start, t, noise, self_cond=True)
    first = diffusion(Toy(gain=3.0)).model_predictions(d.q_sample(x_start, t, noise), t).pred_x_start
    assert model.calls[0] is None
    np.testing.assert_array_equal(model.calls[1], first)  # not clipped
    assert np.abs(first).max() > 1
    unable = Toy()
    diffusion(unable).p_losses(x_start, t, noise, self_cond=True)
    assert unable.calls == [None]


def test_the_levels_of_a_pixel_have_probability_one(rng):
    """The bins meet, so over all 256 grey levels the likelihood sums to 1, whatever the mean and the scale."""
    levels = (np.arange(256) * 2 / 255 - 1)[:, None]
    means, log_scales = rng.uniform(-1.1, 1.1, 40), rng.uniform(-4, 1, 40)
    log_likelihood = oracle.discretized_gaussian_log_likelihood(levels, means, log_scales)
    close(np.exp(log_likelihood).sum(0), np.ones(40), rtol=1e-11)
    assert oracle.discretized_gaussian_log_likelihood(0.5, -0.5, -12.0) == np.log(1e-15)


def test_the_likelihood_of_a_bin_is_the_difference_of_two_distributions():
    x, mean, log_scale = 0.2, 0.25, -3.0
    erf = np.vectorize(math.erf)
    ends = (x - mean + np.array([1, -1]) / 255) / np.exp(log_scale)
    upper, lower = 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (ends + 0.044715 * ends**3)))
    made = oracle.discretized_gaussian_log_likelihood(x, mean, log_scale)
    close(made, np.log(upper - lower))
    close(made, np.log(np.diff(0.5 * (1 + erf(ends[::-1] / np.sqrt(2))))[0]), rtol=1e-3)  # Phi itself


def test_the_divergence_of_two_normals_is_its_integral():
    x = np.linspace(-30, 30, 200001)
    p, q = (np.exp(-0.5 * ((x - m) ** 2 / s + np.log(2 * np.pi * s))) for m, s in ((0.3, 0.5), (-0.4, 2.0)))
    integral = (p * (-0.5 * ((x - 0.3) ** 2 / 0.5 + np.log(0.5)) + 0.5 * ((x + 0.4) ** 2 / 2 + np.log(2)))).sum()
    assert q.sum() > 0
    close(oracle.normal_kl(0.3, np.log(0.5), -0.4, np.log(2.0)), integral * (x[1] - x[0]), rtol=1e-9)
    assert oracle.normal_kl(0.3, -46.0, 0.3, -46.0) == 0


def test_the_learned_variance_adds_a_thousandth_of_the_bound_in_bits(batch):
    x_start, noise, t = batch
    model = Toy(out_dim=6)
    d = diffusion(model, objective="pred_noise")
    x_t = d.q_sample(x_start, t, noise)
    out, v = d.model_output(x_t, t)
    bound = d.variational_bound(x_start, x_t, t, out, v)
    simple = diffusion(objective="pred_noise").p_losses(x_start, t, noise)
    close(d.p_losses(x_start, t, noise), simple + 0.001 * bound.mean())
    mean, _, log_variance, _ = d.p_mean_variance(x_t, t, clip_denoised=False)
    true_mean, _, true_log_variance = d.q_posterior(x_start, x_t, t)
    kl = oracle.normal_kl(true_mean, true_log_variance, mean, log_variance)
    close(bound[1:], kl.mean((1, 2, 3))[1:] / np.log(2))
    decoder = oracle.discretized_gaussian_log_likelihood(x_start, mean, 0.5 * log_variance)
    close(bound[0], -decoder[0].mean() / np.log(2))
    exact = d.variational_bound(x_start, x_t, t, noise, np.full_like(v, -1.0))  # the right mean and variance
    close(exact[1:], np.zeros(4), atol=1e-9)


# magnitudes of operands


def float32_of(d, name, *args):
    """``name`` of ``d`` computed by the usual formulas in float32."""
    f = {key: np.float32(value) for key, value in d.tables.items()}
    x, t, y = np.float32(args[0]), args[1], np.float32(args[2])
    at = {key: table[t].reshape(-1, 1, 1, 1) for key, table in f.items()}
    formulas = {
        "q_sample": lambda: at["sqrt_alphas_cumprod"] * x + at["sqrt_one_minus_alphas_cumprod"] * y,
        "predict_start_from_noise": lambda: at["sqrt_recip_alphas_cumprod"] * x - at["sqrt_recipm1_alphas_cumprod"] * y,
        "predict_noise_from_start": lambda: (
            (at["sqrt_recip_alphas_cumprod"] * x - y) / at["sqrt_recipm1_alphas_cumprod"]
        ),
        "predict_v": lambda: at["sqrt_alphas_cumprod"] * y - at["sqrt_one_minus_alphas_cumprod"] * x,
        "predict_start_from_v": lambda: at["sqrt_alphas_cumprod"] * x - at["sqrt_one_minus_alphas_cumprod"] * y,
    }
    return formulas[name]()


@pytest.mark.parametrize(
    "name", ["q_sample", "predict_start_from_noise", "predict_noise_from_start", "predict_v", "predict_start_from_v"]
)
def test_float32_errs_by_a_few_roundings_of_the_operand(batch, rng, name):
    d = diffusion()
    unit = 2.0**-24
    x, y = (np.float64(np.float32(a)) for a in rng.standard_normal((2, 5, 3, 4, 4)))
    t = batch[2]
    if name.startswith("predict_start_from_noise"):  # the two operands nearly cancel, as in earnest
        x = np.float64(np.float32(d.q_sample(0.01 * x, t, y)))
    truth = getattr(d, name)(x, t, y)
    (scale,) = oracle.operands[name](d, x, t, y).values()
    assert list(oracle.operands[name](d, x, t, y)) == list(oracle.OUTPUTS[name])
    assert scale.shape == truth.shape
    assert (np.abs(truth) <= 2 * scale * (1 + 1e-15)).all()
    error = np.abs(float32_of(d, name, x, t, y) - truth)
    assert (error / (unit * scale)).max() < 6
    assert (error / (unit * np.abs(truth))).max() > 6, "the operand would not have been needed"
    assert error.max() > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_operands_of_steps_are_followed_through_the_chain(batch, objective):
    x, noise, t = batch
    model = Toy(gain=3.0)
    d = diffusion(model, objective=objective)
    out = model(x, t)
    free = d.model_predictions(x, t).pred_x_start
    signal, spread = d.at("sqrt_alphas_cumprod", t), d.at("sqrt_one_minus_alphas_cumprod", t)
    of_start = {
        "pred_noise": np.maximum(np.abs(x), spread * np.abs(out)) / signal,
        "pred_x0": np.abs(out),
        "pred_v": np.maximum(signal * np.abs(x), spread * np.abs(out)),
    }[objective]
    clipped = np.where(np.abs(free) > 1, 1.0, of_start)
    assert (np.abs(free) > 1).any()
    assert (np.abs(free) < 1).any()
    of_noise = np.maximum(np.abs(x), signal * clipped) / spread
    of_mean = np.maximum(
        d.at("posterior_mean_coef1", t) * clipped,
        d.at("posterior_mean_coef2", t) * np.abs(x),
    )
    predictions = oracle.operands["model_predictions"](d, x, t, None, True, True)
    close(predictions["pred_x_start"], clipped)
    close(predictions["pred_noise"], of_noise)
    step = oracle.operands["p_mean_variance"](d, x, t)
    close(step["mean"], of_mean)
    log_variance = d.at("posterior_log_variance_clipped", t)
    close(step["log_variance"], np.abs(log_variance))
    added = np.exp(log_variance / 2) * np.maximum(1, np.abs(log_variance) / 2) * np.abs(noise)
    added[0] = 0  # t = 0
    close(oracle.operands["p_sample"](d, x, t, noise)["x_prev"], np.maximum(of_mean, added))
    of = oracle.ddim_coefficients(d.tables["alphas_cumprod"], t, t - 1, 0.7)
    of_x0, of_eps, of_added = (c.reshape(-1, 1, 1, 1) for c in of)
    expected = np.maximum(np.maximum(of_x0 * clipped, of_eps * of_noise), of_added * np.abs(noise))
    made = oracle.operands["ddim_step"](d, x, t, t - 1, noise, 0.7)
    close(made["x_next"], expected)
    close(made["x_next"][0], clipped[0])


def test_operands_of_a_learned_variance(batch):
    x, _, t = batch
    model = Toy(out_dim=6)
    d = diffusion(model)
    f = (model(x, t)[:, 3:] + 1) / 2
    beta, smallest = d.at("betas", t), d.at("posterior_log_variance_clipped", t)
    of_log = np.maximum(np.abs(f * np.log(beta)), np.abs((1 - f) * smallest))
    made = oracle.operands["p_mean_variance"](d, x, t)
    close(made["log_variance"], of_log)
    close(made["variance"], np.exp(f * np.log(beta) + (1 - f) * smallest) * np.maximum(1, of_log))


def test_every_method_has_operands_shaped_as_its_outputs(batch):
    x, noise, t = batch
    arguments = {
        "q_posterior": (noise, x, t),
        "model_predictions": (x, t),
        "p_mean_variance": (x, t),
        "p_sample": (x, t, noise),
        "ddim_step": (x, t, t - 1, noise, 1.0),
    }
    for out_dim in (3, 6):
        d = diffusion(Toy(out_dim=out_dim))
        for name, outputs in oracle.OUTPUTS.items():
            args = arguments.get(name, (x, t, noise))
            values = getattr(d, name)(*args)
            values = values if isinstance(values, tuple) else (values,)
            scales = oracle.operands[name](d, *args)
            assert sorted(scales) == sorted(outputs)
            for key, value in zip(outputs, values, strict=True):
                assert scales[key].shape == value.shape, (name, key)
                assert (np.abs(value) <= 6 * scales[key] * (1 + 1e-12)).all(), (name, key)
                assert (scales[key] >= 0).all()
    assert set(oracle.operands) == set(oracle.OUTPUTS)


# training


@pytest.mark.parametrize(("decay", "decoupled"), [(0.0, False), (0.1, False), (0.1, True)])
def test_adam_is_pytorchs(rng, decay, decoupled):
    torch = pytest.importorskip("torch")
    params = {"a": rng.standard_normal((3, 2)), "b": rng.standard_normal(4)}
    theirs = {name: torch.tensor(value, requires_grad=True) for name, value in params.items()}
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = kind(theirs.values(), lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=decay)
    state = None
    for size in (1e-9, 1e-8, 1e-4, 1e-1, 1.0):  # at 1e-8 it matters where eps is added
        grads = {name: size * rng.standard_normal(value.shape) for name, value in params.items()}
        params, state = oracle.adam_step(params, grads, state, 0.01, (0.9, 0.99), 1e-8, decay, decoupled)
        for name, value in theirs.items():
            value.grad = torch.tensor(grads[name])
        optimizer.step()
        for name, value in theirs.items():
            close(params[name], value.detach().numpy(), rtol=1e-13, atol=1e-15)
            close(state["exp_avg"][name], optimizer.state[value]["exp_avg"].numpy(), rtol=1e-13, atol=1e-25)
            close(state["exp_avg_sq"][name], optimizer.state[value]["exp_avg_sq"].numpy(), rtol=1e-13)
    assert state["step"] == 5


def test_adam_leaves_its_arguments_and_takes_lists():
    params, grads = [np.ones(2)], [np.full(2, 0.5)]
    made, state = oracle.adam_step(params, grads, None, 0.1)
    close(made[0], np.full(2, 0.9), rtol=1e-7)  # the first step is lr times the sign
    oracle.adam_step(made, grads, state, 0.1)
    assert (params[0] == 1).all()
    assert state["step"] == 1
    close(state["exp_avg"][0], np.full(2, 0.05))
    with pytest.raises(ValueError, match="longer"):
        oracle.adam_step(params * 2, grads, None, 0.1)
    with pytest.raises(ValueError, match="names"):
        oracle.adam_step({"a": 1.0}, {"b": 1.0}, None, 0.1)


@pytest.mark.parametrize("max_norm", [1.0, 100.0])
def test_clipping_is_pytorchs(rng, max_norm):
    torch = pytest.importorskip("torch")
    grads = {"a": rng.standard_normal((3, 2)), "b": 2 * rng.standard_normal(4)}
    theirs = [torch.zeros(g.shape, dtype=torch.float64) for g in grads.values()]
    for parameter, gradient in zip(theirs, grads.values(), strict=True):
        parameter.grad = torch.tensor(gradient)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    made, norm = oracle.clip_by_global_norm(grads, max_norm)
    close(norm, float(expected))
    for parameter, name in zip(theirs, grads, strict=True):
        close(made[name], parameter.grad.numpy())
    assert 1.0 < norm < 100.0


def test_the_average_acts_copies_and_decays_as_published():
    assert [n for n in range(1, 35) if oracle.ema_acts(n, 10)] == [1, 11, 21, 31]
    assert oracle.ema_decay(101, min_value=0.5) == 0
    close(oracle.ema_decay(111), 1 - 11 ** (-2 / 3))
    assert oracle.ema_decay(10**6) == 0.995
    assert oracle.ema_decay(111, min_value=0.9) == 0.9
    close(oracle.ema_decay(111, inv_gamma=5.0, power=0.5), 1 - 3**-0.5)
    weights = [{"w": np.array([float(n)])} for n in range(1, 132)]
    averages = [a["w"][0] for a in oracle.ema_run(weights)]
    assert averages[:12] == [1.0] * 10 + [11.0] * 2
    assert averages[100] == 101
    assert averages[109] == 101
    keep = 11 ** (-2 / 3)
    at_111 = 101 * (1 - keep) + 111 * keep
    close(averages[110], at_111)
    close(averages[119], at_111)
    keep = 21 ** (-2 / 3)
    close(averages[120], at_111 * (1 - keep) + 121 * keep)


# layers


def test_rms_norm_of_nothing_is_nothing():
    assert (oracle.rms_norm(np.zeros((1, 4, 2, 2)), np.ones(4)) == 0).all()
    tiny = np.full((1, 4, 1, 1), 1e-13)  # its norm, 2e-13, is below 1e-12
    close(oracle.rms_norm(tiny, np.ones(4)), np.full((1, 4, 1, 1), 0.2))
