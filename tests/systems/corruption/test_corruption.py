"""The corruption model: what each kind of noise does to a pixel, sampling, building, bad input."""

import numpy as np
import pytest

from ms_ddpm.errors import UserError

KINDS = ("uniform", "gaussian", "salt_and_pepper", "poisson", "multiplicative")


def apply(mindspore, kind, x, amount, rng):
    """x (B, C, H, W) after noise of ``kind`` drawn from ``rng``."""
    from ms_ddpm.systems.corruption.corruption import NOISES

    amount = np.broadcast_to(np.float32(amount), len(x)).copy()
    z = NOISES[kind].draw(rng, x, amount)
    assert z.dtype == np.float32
    assert z.shape == x.shape
    return NOISES[kind].apply(*(mindspore.Tensor(a) for a in (x, amount, z))).asnumpy()


@pytest.fixture(scope="module")
def model(mindspore):
    """A small network with open ReLUs, and its one compiled step."""
    from ms_ddpm.models.basic import BasicNet
    from ms_ddpm.systems.corruption.corruption import Corruption

    return Corruption(BasicNet(widths=(3, 4), rng=3), image_size=8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("amount", [0.25, 0.9])
def test_a_pixel_has_the_mean_and_variance_that_its_noise_promises(mindspore, rng, kind, amount):
    from parity_tests.systems.corruption.oracle import statistics

    levels = np.array([0.0, 0.2, 0.7, 1.0])
    count = 40_000
    x = np.broadcast_to(levels.astype(np.float32).reshape(1, 4, 1, 1), (1, 4, 1, count)).copy()
    y = apply(mindspore, kind, x, amount, rng).astype(np.float64)[0, :, 0]
    mean, variance = statistics(kind, levels, amount)
    spread = np.sqrt(variance / count)
    assert (np.abs(y.mean(1) - mean) <= 4.5 * spread + 1e-6).all(), (y.mean(1), mean)
    assert y.var(1) == pytest.approx(variance, rel=0.06, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_no_noise_changes_nothing_and_each_image_has_its_own_amount(mindspore, rng, kind):
    x = rng.random((3, 1, 4, 4), dtype=np.float32)
    y = apply(mindspore, kind, x, [0, 1e-9, 0.5], rng)
    assert np.array_equal(y[0], x[0])
    assert np.abs(y[1] - x[1]).max() < 1e-6
    assert np.abs(y[2] - x[2]).max() > 1e-2


def test_at_amount_1_uniform_and_impulse_noise_leave_nothing_of_the_image(mindspore):
    black, white = np.zeros((1, 1, 8, 8), np.float32), np.ones((1, 1, 8, 8), np.float32)
    for kind in ("uniform", "salt_and_pepper"):
        a, b = (apply(mindspore, kind, x, 1, np.random.default_rng(5)) for x in (black, white))
        assert np.array_equal(a, b)
    assert set(np.unique(a)) == {0, 1}


def test_corruption_is_the_mixture_of_the_article(mindspore, rng):
    from ms_ddpm.systems.corruption.corruption import corrupt

    x, noise = (rng.random((2, 1, 4, 4), dtype=np.float32) for _ in range(2))
    amount = np.array([0.25, 1], np.float32)
    y = corrupt(*(mindspore.Tensor(a) for a in (x, amount, noise))).asnumpy()
    assert np.allclose(y[0], 0.75 * x[0] + 0.25 * noise[0], atol=1e-7)
    assert np.array_equal(y[1], noise[1])


def test_draws_come_from_the_given_generator_and_cover_all_amounts(model):
    img = np.zeros((4000, 1, 8, 8), np.float32)
    amount, z = model.draw(np.random.default_rng(1), (img,))
    again, _ = model.draw(np.random.default_rng(1), (img,))
    assert np.array_equal(amount, again)
    assert amount.dtype == np.float32
    assert 0 <= amount.min() < 0.01
    assert 0.99 < amount.max() < 1
    assert amount.mean() == pytest.approx(0.5, abs=0.03)
    assert z.shape == img.shape


def test_a_chain_moves_towards_the_prediction_and_ends_in_it(model):
    states, predictions = (a.asnumpy() for a in model.chain(2, seed=0, steps=5))
    assert states.shape == (2, 6, 1, 8, 8)
    assert predictions.shape == (2, 5, 1, 8, 8)
    assert np.array_equal(states[:, -1], predictions[:, -1])
    for i in range(5):
        mix = 1 / (5 - i)
        assert np.allclose(states[:, i + 1], states[:, i] * (1 - mix) + predictions[:, i] * mix, atol=1e-6)
    start = states[:, 0]
    assert 0 <= start.min() < 0.1 < 0.9 < start.max() < 1  # uniform noise
    images = model.sample(2, seed=0, steps=5, return_all_timesteps=True).asnumpy()
    assert np.array_equal(images, states)
    assert np.array_equal(model.sample(2, seed=0, steps=5).asnumpy(), states[:, -1])


def test_an_image_depends_on_its_number_alone(model):
    whole = model.sample(3, seed=7, steps=2).asnumpy()
    last = model.sample(1, seed=7, steps=2, first_image=2).asnumpy()
    assert np.abs(whole[2:] - last).max() < 1e-6
    assert not np.allclose(whole[0], whole[1])
    tape = [model.chain(3, seed=7, steps=1)[0].asnumpy()[:, 0]]
    assert np.array_equal(model.sample(3, noise=tape, steps=2).asnumpy(), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_starts_from_grey_at_amount_1(mindspore, kind):
    from ms_ddpm.models.basic import BasicNet
    from ms_ddpm.systems.corruption.corruption import Corruption, start_tape

    made = Corruption(BasicNet(widths=(3, 4), rng=0), image_size=8, noise_kind=kind)
    z = next(start_tape(kind, 0, (2, 1, 8, 8)))
    start = made.start(z).asnumpy()
    assert start.shape == (2, 1, 8, 8)
    expected = {"uniform": z, "gaussian": 0.5 + z, "poisson": z, "multiplicative": 0.5 + 0.5 * z,
                "salt_and_pepper": (z >= 0.5).astype(np.float32)}[kind]  # fmt: skip
    assert np.allclose(start, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.sample(2, steps=0), "steps is 0, expected at least 1"),
        (lambda m: m.sample(2, steps=2.5), "steps is 2.5, expected at least 1, a whole number"),
        (lambda m: m.sample(2, steps=10**13), "steps is 10000000000000, expected at most 1000000"),
        (lambda m: m.check_sample(steps=10**13), "steps is 10000000000000, expected at most 1000000"),
        (lambda m: m.sample(2, seed=-1, steps=1), "seed is -1"),
        (lambda m: m.sample(2, first_image=-1, steps=1), "first_image is -1"),
        (lambda m: m.sample(0), "batch_size is 0"),
        (lambda m: m.sample(2, labels=np.zeros(2, np.int32)), "knows no classes"),
        (lambda m: m.sample(2, noise=[np.zeros((1, 1, 8, 8), np.float32)]), "expected (2, 1, 8, 8)"),
        (lambda m: m.sample(2, noise=[]), "ran dry"),
    ],
)
def test_bad_requests_get_one_line(model, call, words):
    with pytest.raises(UserError) as error:
        call(model)
    assert words in str(error.value)


def test_bad_construction_gets_one_line(mindspore):
    from ms_ddpm.models.basic import BasicNet
    from ms_ddpm.systems.corruption.corruption import Corruption

    net = BasicNet(widths=(3, 4), rng=0)
    for words, build in (
        ("'pink', expected one of: uniform, gaussian", lambda: Corruption(net, image_size=8, noise_kind="pink")),
        ("image size 30x28 cannot be halved twice", lambda: Corruption(net, image_size=(30, 28))),
        ("image_size is 0", lambda: Corruption(net, image_size=0)),
        ("sampling_timesteps is 0", lambda: Corruption(net, image_size=8, sampling_timesteps=0)),
        ("expected two positive widths", lambda: BasicNet(widths=(3, 4, 5))),
        ("expected two positive widths", lambda: BasicNet(0, 1)),
    ):  # fmt: skip
        with pytest.raises(UserError) as error:
            build()
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_a_configuration_builds_the_model_of_its_seed(mindspore):
    from ms_ddpm.config import Config
    from ms_ddpm.systems.corruption.corruption import build_corruption

    values = {"system": "corruption", "image_size": 28, "channels": 3, "noise_kind": "poisson", "seed": 4}
    first, second = (build_corruption(Config(**values)) for _ in range(2))
    other = build_corruption(Config(**values | {"seed": 5, "sampling_timesteps": 5}))
    assert (first.channels, first.image_size, first.noise_kind) == (3, (28, 28), "poisson")
    assert (first.sampling_timesteps, other.sampling_timesteps) == (40, 5)
    assert not first.conditional
    weights = [m.model.down_layers[0].weight.asnumpy() for m in (first, second, other)]
    assert weights[0].shape == (32, 3, 5, 5)
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])
    with pytest.raises(UserError, match="halved twice"):
        build_corruption(Config(**values | {"image_size": 30}))


def test_it_trains_with_the_trainer(mindspore, tmp_path, rng):
    """Loss falls far below that of the mean image's on two squares that move."""
    from ms_ddpm import data
    from ms_ddpm.models.basic import BasicNet
    from ms_ddpm.systems.corruption.corruption import Corruption
    from ms_ddpm.training.trainer import Trainer

    images = np.zeros((64, 1, 8, 8), np.uint8)
    for i in range(64):
        row, column = rng.integers(0, 5, 2)
        images[i, 0, row : row + 4, column : column + 4] = 255
    cell = Corruption(BasicNet(widths=(8, 8), rng=0), image_size=8)
    losses = []
    trainer = Trainer(
        cell, data.array_source("squares", images), train_batch_size=16, train_lr=5e-3, train_num_steps=120,
        save_and_sample_every=120, num_samples=4, results_folder=tmp_path, progress=False,
        augment_horizontal_flip=False, on_step=lambda record: losses.append(record["loss"]),
    )  # fmt: skip
    assert trainer.train().step == 120
    assert np.mean(losses[-10:]) < 0.06 < images.var() / 255**2 < np.mean(losses[:3])
    assert (tmp_path / "samples" / "step-00000120.png").exists()
