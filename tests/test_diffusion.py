"""GaussianDiffusion against the papers' formulas in float64."""

import math

import numpy as np
import pytest

from ms_ddpm import schedules
from ms_ddpm.errors import UserError

T = 20
SHAPE = (4, 1, 8, 4)


@pytest.fixture(scope="module")
def linear_model(mindspore):
    """A "network" whose output is known: a * x + b * t / T + c * x_self_cond."""
    from mindspore import Parameter, nn

    class Known(nn.Cell):
        def __init__(self, channels=1, out_dim=1, self_condition=False):
            super().__init__()
            self.channels, self.out_dim, self.self_condition = channels, out_dim, self_condition
            self.a = Parameter(np.float32(0.3) * np.ones(1, np.float32), name="a")
            self.b = Parameter(np.float32(-0.4) * np.ones(1, np.float32), name="b")

        def construct(self, x, t, x_self_cond=None):
            y = self.a * x + t.astype(mindspore.float32).reshape(-1, 1, 1, 1) * (0.5 / T)
            if x_self_cond is not None:
                y = y + 0.25 * x_self_cond
            if self.out_dim == 2 * self.channels:
                y = mindspore.ops.concat((y, self.b * x), 1)
            return y

    return Known


def known_output(x, t, x_self_cond=None):
    y = 0.3 * x + t.reshape(-1, 1, 1, 1) * (0.5 / T)
    return y if x_self_cond is None else y + 0.25 * x_self_cond


@pytest.fixture(scope="module")
def build(mindspore, linear_model):
    from ms_ddpm import GaussianDiffusion

    def make(model=None, **options):
        model = model or {}
        return GaussianDiffusion(
            linear_model(**model), image_size=SHAPE[2:], **{"timesteps": T, "beta_schedule": "cosine", **options}
        )

    return make


@pytest.fixture
def batch():
    rng = np.random.default_rng(5)
    return {
        "x": rng.uniform(-1, 1, SHAPE).astype(np.float32),
        "eps": rng.standard_normal(SHAPE).astype(np.float32),
        "t": np.array([0, 1, T // 2, T - 1], np.int32),
    }


def tables(**options):
    return schedules.diffusion_tables(schedules.beta_schedule("cosine", T, **options))


def at(table, t):
    return table[t].reshape(-1, 1, 1, 1)


def noised(batch):
    abar = at(tables()["alphas_cumprod"], batch["t"])
    return np.sqrt(abar) * batch["x"] + np.sqrt(1 - abar) * batch["eps"]


def tensors(mindspore, *arrays):
    return [mindspore.Tensor(np.asarray(a, np.int32 if a.dtype.kind == "i" else np.float32)) for a in arrays]


def test_the_three_parameterisations_are_views_of_one_point(mindspore, build, batch):
    d = build()
    x0, eps, t = tensors(mindspore, batch["x"], batch["eps"], batch["t"])
    x_t = d.q_sample(x0, t, eps)
    assert x_t.asnumpy() == pytest.approx(noised(batch), abs=1e-6)
    keep = batch["t"] < T - 1  # at T-1 the signal is 3e-8 of x_t: x_0 cannot be had back from eps in float32
    v = d.predict_v(x0, t, eps)
    assert d.predict_start_from_v(x_t, t, v).asnumpy() == pytest.approx(batch["x"], abs=2e-6)
    assert d.predict_start_from_noise(x_t, t, eps).asnumpy()[keep] == pytest.approx(batch["x"][keep], abs=2e-5)
    assert d.predict_noise_from_start(x_t, t, x0).asnumpy() == pytest.approx(batch["eps"], abs=2e-5)


@pytest.mark.parametrize("objective", ["pred_v", "pred_noise", "pred_x0"])
@pytest.mark.parametrize("loss_type", ["l2", "l1"])
@pytest.mark.parametrize("weighting", [{}, {"min_snr_loss_weight": True}, {"p2_loss_weight_gamma": 0.5}])
def test_the_loss_is_weighted_image_by_image(mindspore, build, batch, objective, loss_type, weighting):
    """Published ports broadcast (b, 1, 1, 1) against (b, n), which makes every weight the mean of all."""
    d = build(objective=objective, loss_type=loss_type, **weighting)
    t = batch["t"][:3]  # T-1 has a weight of 1e-8 at most, and x_0 loss 1e8 of the others
    x, eps = batch["x"][:3].astype(np.float64), batch["eps"][:3].astype(np.float64)
    abar = at(tables()["alphas_cumprod"], t)
    x_t = np.sqrt(abar) * x + np.sqrt(1 - abar) * eps
    target = {"pred_noise": eps, "pred_x0": x, "pred_v": np.sqrt(abar) * eps - np.sqrt(1 - abar) * x}[objective]
    error = known_output(x_t, t) - target
    error = np.abs(error) if loss_type == "l1" else error**2
    weight = schedules.loss_weight(tables()["alphas_cumprod"], objective, **weighting)[t]
    assert np.ptp(weight) > 0 or objective == "pred_noise"
    expected = (error.reshape(3, -1).mean(1) * weight).mean()
    images = (batch["x"][:3] + 1) / 2
    loss = d(*tensors(mindspore, images, t, batch["eps"][:3]))
    assert float(loss.asnumpy()) == pytest.approx(expected, rel=2e-5)


def test_offset_noise_reaches_input_and_target_alike(mindspore, build, batch):
    d = build(objective="pred_noise", offset_noise_strength=0.5)
    offset = np.array([[1.0], [-1.0], [2.0], [0.5]], np.float32)
    eps = batch["eps"] + 0.5 * offset.reshape(-1, 1, 1, 1)
    abar = at(tables()["alphas_cumprod"], batch["t"])
    x_t = np.sqrt(abar) * batch["x"] + np.sqrt(1 - abar) * eps
    expected = ((known_output(x_t, batch["t"]) - eps) ** 2).mean()
    args = tensors(mindspore, batch["x"], batch["t"], batch["eps"])
    loss = d.p_losses(*args, False, mindspore.Tensor(offset))
    assert float(loss.asnumpy()) == pytest.approx(expected, rel=2e-5)


def test_self_conditioning_feeds_back_a_detached_estimate(mindspore, build, batch):
    d = build({"self_condition": True}, objective="pred_x0")
    x0, t, eps = tensors(mindspore, batch["x"], batch["t"], batch["eps"])
    x_t = noised(batch)
    first = known_output(x_t, batch["t"])
    second = known_output(x_t, batch["t"], first)
    weight = schedules.loss_weight(tables()["alphas_cumprod"], "pred_x0")[batch["t"]].reshape(-1, 1, 1, 1)
    expected = (weight * (second - batch["x"]) ** 2).mean()

    def loss(x0, t, eps):
        return d.p_losses(x0, t, eps, True)

    value, (gradient,) = mindspore.value_and_grad(loss, None, [d.model.a])(x0, t, eps)
    assert float(value.asnumpy()) == pytest.approx(expected, rel=2e-5)
    through_one = (weight * 2 * (second - batch["x"]) * x_t).mean()  # d second / d a with the estimate held fixed
    assert float(gradient.asnumpy()[0]) == pytest.approx(through_one, rel=2e-4)


def test_draws_are_a_function_of_the_generator(build):
    d = build({"self_condition": True}, offset_noise_strength=0.1)
    images = (np.zeros((64, 1, 8, 4), np.float32),)
    first, again = (d.draw(np.random.default_rng(1), images) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    t, noise, _, offset, key = first
    assert t.min() >= 0
    assert t.max() < T
    assert noise.dtype == np.float32
    assert offset.shape == (64, 1)
    assert key is None
    coins = [d.draw(np.random.default_rng(i), images)[2] for i in range(200)]
    assert 70 < sum(coins) < 130


def test_immiscible_noise_is_the_nearest_permutation_for_input_and_target(build):
    """Upstream permutes the noise of q_sample and not the target; here draw() permutes the one noise both see."""
    from ms_ddpm.random import immiscible_assignment

    d = build(immiscible=True)
    images = np.random.default_rng(0).random((16, 1, 8, 4)).astype(np.float32)
    plain = build().draw(np.random.default_rng(3), (images,))[1]
    assigned = d.draw(np.random.default_rng(3), (images,))[1]
    x = images * 2 - 1

    def cost(noise):
        return ((x - noise) ** 2).sum()

    assert not np.array_equal(plain, assigned)
    assert sorted(map(tuple, plain.reshape(16, -1))) == sorted(map(tuple, assigned.reshape(16, -1)))
    assert cost(assigned) < cost(plain)
    order = immiscible_assignment(x[:4], plain[:4])
    import itertools

    distance = ((x[:4, None] - plain[None, :4]) ** 2).sum((2, 3, 4)) ** 0.5
    best = min(itertools.permutations(range(4)), key=lambda p: sum(distance[i, p[i]] for i in range(4)))
    assert tuple(order) == best


@pytest.mark.parametrize("objective", ["pred_v", "pred_noise", "pred_x0"])
def test_one_reverse_step_is_algorithm_2_with_a_clipped_estimate(mindspore, build, batch, objective):
    d = build(objective=objective)
    table = tables()
    t, x = batch["t"], noised(batch) * 1.5
    abar = at(table["alphas_cumprod"], t)
    out = known_output(x, t)
    x0 = {
        "pred_x0": out,
        "pred_noise": (x - np.sqrt(1 - abar) * out) / np.sqrt(abar),
        "pred_v": np.sqrt(abar) * x - np.sqrt(1 - abar) * out,
    }[objective]
    clipped = np.clip(x0, -1, 1)
    assert (clipped != x0).any(), "the case must need the clip"
    mean = at(table["posterior_mean_coef1"], t) * clipped + at(table["posterior_mean_coef2"], t) * x
    noise = np.random.default_rng(9).standard_normal(SHAPE)
    expected = mean + (t > 0).reshape(-1, 1, 1, 1) * np.sqrt(at(table["posterior_variance"], t)) * noise
    previous, start = d.p_sample(*tensors(mindspore, x, t, noise))
    assert start.asnumpy() == pytest.approx(clipped, abs=2e-4)
    assert previous.asnumpy() == pytest.approx(expected, abs=2e-4)


def test_noise_is_ignored_at_time_zero_even_if_it_is_huge(mindspore, build, batch):
    d = build()
    t = np.zeros(4, np.int32)
    with_noise, _ = d.p_sample(*tensors(mindspore, batch["x"], t, batch["eps"] * 1e6))
    without, _ = d.p_sample(*tensors(mindspore, batch["x"], t, batch["eps"] * 0))
    assert np.array_equal(with_noise.asnumpy(), without.asnumpy())


@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
def test_learned_variance_interpolates_and_its_bound_is_the_papers(mindspore, build, batch, objective):
    """Improved DDPM: log variance between beta-tilde and beta; MSE + 0.001 x the bound in bits, mean detached."""
    d = build({"out_dim": 2}, objective=objective)
    table = tables()
    t, x0, eps = batch["t"][:3], batch["x"][:3].astype(np.float64), batch["eps"][:3].astype(np.float64)
    x0 = np.round((x0 + 1) / 2 * 255) / 255 * 2 - 1
    abar = at(table["alphas_cumprod"], t)
    x_t = np.sqrt(abar) * x0 + np.sqrt(1 - abar) * eps
    out = known_output(x_t, t)
    estimate, target = {
        "pred_noise": ((x_t - np.sqrt(1 - abar) * out) / np.sqrt(abar), eps),
        "pred_x0": (out, x0),
        "pred_v": (np.sqrt(abar) * x_t - np.sqrt(1 - abar) * out, np.sqrt(abar) * eps - np.sqrt(1 - abar) * x0),
    }[objective]
    weight = schedules.loss_weight(table["alphas_cumprod"], objective)[t]
    coef1, coef2 = at(table["posterior_mean_coef1"], t), at(table["posterior_mean_coef2"], t)
    mean, true_mean = coef1 * estimate + coef2 * x_t, coef1 * x0 + coef2 * x_t
    true_log_variance = at(table["posterior_log_variance_clipped"], t)
    cdf = np.vectorize(lambda z: 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))))

    def bound(b):
        fraction = (b * x_t + 1) / 2
        log_variance = fraction * np.log(at(table["betas"], t)) + (1 - fraction) * true_log_variance
        kl = 0.5 * (
            log_variance - true_log_variance - 1 + np.exp(true_log_variance - log_variance)
            + (true_mean - mean) ** 2 * np.exp(-log_variance)
        )  # fmt: skip
        scale = np.exp(0.5 * log_variance)
        above, below = cdf((x0 - mean + 1 / 255) / scale), cdf((x0 - mean - 1 / 255) / scale)
        above, below = np.where(x0 > 0.999, 1, above), np.where(x0 < -0.999, 0, below)
        nll = -np.log(np.maximum(above - below, 1e-15))
        return np.where(t == 0, nll.reshape(3, -1).mean(1), kl.reshape(3, -1).mean(1)) / math.log(2)

    expected = (((out - target) ** 2).reshape(3, -1).mean(1) * weight + 0.001 * bound(-0.4)).mean()
    args = tensors(mindspore, x0, t, eps)
    assert float(d.p_losses(*args).asnumpy()) == pytest.approx(expected, rel=1e-4)

    def bound_of(x0, t, eps):
        x_t = d.q_sample(x0, t, eps)
        return d.variational_bound(x0, x_t, t, d.model(x_t, t)).sum()

    _, (of_mean, of_variance) = mindspore.value_and_grad(bound_of, None, [d.model.a, d.model.b])(*args)
    assert float(of_mean.asnumpy()[0]) == 0, "the mean is detached in the bound"
    slope = (bound(-0.4 + 1e-5) - bound(-0.4 - 1e-5)).sum() / 2e-5
    assert abs(slope) > 0.1
    assert float(of_variance.asnumpy()[0]) == pytest.approx(slope, rel=1e-2)


def test_tables_are_float32_buffers_under_their_usual_names(build):
    d = build()
    names = {*schedules.diffusion_tables(np.array([0.1])), "loss_weight"}
    state = d.state_dict()
    assert names <= set(state)
    for name in names:
        exact = d.tables[name].astype(np.float32)
        assert np.array_equal(state[name].asnumpy(), exact), name


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ({}, {"objective": "pred_y"}, "objective is 'pred_y'"),
        ({}, {"loss_type": "huber"}, "loss_type is 'huber'"),
        ({}, {"sampling_timesteps": T + 1}, f"sampling_timesteps is {T + 1}, expected 1 to timesteps"),
        ({}, {"sampling_timesteps": 0}, "sampling_timesteps is 0"),
        ({"out_dim": 3}, {}, "gives 3 channels for images of 1"),
        ({}, {"schedule_fn_kwargs": {"nope": 1}}, "'nope'"),
    ],
)
def test_impossible_settings_are_named(build, model, options, words):
    with pytest.raises(UserError, match=words):
        build(model, **options)
