"""The autoencoder: PyTorch's names, running statistics through training, resume and evaluation, bad sizes."""

import numpy as np
import pytest

from ms_ddpm import checkpoint
from ms_ddpm.errors import UserError

SIDE, CHANNELS = 12, (2, 3, 2)


@pytest.fixture(scope="module")
def images(mindspore):
    return np.random.default_rng(1).random((24, 1, SIDE, SIDE), dtype=np.float32)


def make_cell():
    from ms_ddpm.models.autoencoder import AutoEncoder
    from ms_ddpm.systems.autoencoder.image_autoencoder import ImageAutoencoder
    from ms_ddpm.systems.autoencoder.perceptual import GradientLoss

    return ImageAutoencoder(AutoEncoder(CHANNELS, rng=0), image_size=SIDE, perceptual=GradientLoss())


def parameters(cell):
    return {name: p.asnumpy().copy() for name, p in cell.parameters_and_names()}


def running(cell):
    return {name: value for name, value in parameters(cell).items() if "running_" in name}


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("channels", [(4, 4, 4), (4, 8, 32)])
def test_weights_have_pytorchs_names_and_shapes(mindspore, channels):
    import torch

    from ms_ddpm import convert
    from ms_ddpm.models.autoencoder import AutoEncoder
    from torch_ref.systems.latent.autoencoder import AutoEncoder as Reference

    net, reference = AutoEncoder(channels, rng=0), Reference(channels, rng=np.random.default_rng(1))
    state = {name: value.numpy() for name, value in reference.state_dict().items()}
    convert.from_torch(net, state)
    back = convert.to_torch(net)
    assert all(np.array_equal(back[name], state[name]) for name in state if not name.endswith("batches_tracked"))
    other = Reference(channels)
    other.load_state_dict({name: torch.from_numpy(value) for name, value in back.items()}, strict=True)
    for name in ("decoder.1.running_mean", "encoder.7.running_var"):
        without = {key: value for key, value in state.items() if key != name}
        with pytest.raises(UserError, match=f"missing {name}"):
            convert.from_torch(net, without)


def test_initial_weights_are_within_pytorchs_bounds(mindspore):
    from ms_ddpm.models.autoencoder import AutoEncoder

    net = dict(AutoEncoder((4, 8, 32), rng=0).parameters_and_names())
    # fan-in of a transposed convolution is what it gives, not what it takes
    for name, fan_in in (("encoder.3", 4 * 9), ("decoder.0", 8 * 9), ("decoder.3", 4 * 9)):
        values = net[f"{name}.weight"].asnumpy()
        assert 0.9 * fan_in**-0.5 < np.abs(values).max() <= fan_in**-0.5
    assert np.array_equal(net["encoder.1.running_var"].asnumpy(), np.ones(4))


def trained(folder, images, steps, every, **options):
    from ms_ddpm import Trainer, data

    cell = make_cell()
    source = data.array_source("images", images)
    trainer = Trainer(
        cell, source, train_batch_size=8, train_num_steps=steps, save_and_sample_every=every, train_lr=1e-2,
        augment_horizontal_flip=False, validation_images=8, results_folder=folder, progress=False, ema_decay=0.0,
        ema_update_every=1, num_samples=2, sample_fn=lambda cell, num: cell.preview(images[:num]), **options,
    )  # fmt: skip
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    """Four steps in one go, with a picture and a validation loss at the end."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, trained(folder, images, 4, 4)


def test_training_moves_the_running_statistics_and_a_checkpoint_holds_them(run):
    folder, trainer = run
    fresh, now = running(make_cell()), running(trainer.cell)
    assert len(now) == 10
    assert not any(np.array_equal(fresh[name], now[name]) for name in now)
    saved = checkpoint.load(checkpoint.locate(folder)).arrays["model"]
    assert equal({name: saved[name] for name in now}, now)


def test_neither_a_stop_nor_pictures_and_validation_between_steps_change_the_run(run, images, tmp_path):
    trained(tmp_path, images, 2, 1)
    resumed = trained(tmp_path, images, 4, 1)
    assert equal(parameters(resumed.cell), parameters(run[1].cell))  # running statistics too


def test_using_an_autoencoder_changes_nothing_in_it(run, images):
    cell = run[1].cell.set_train(True)
    before = parameters(cell)
    cell.preview(images[:3])
    assert cell.training
    assert cell.net.decoder.training
    assert equal(parameters(cell), before)


def test_latents_do_not_depend_on_the_batch_and_take_pixels_of_either_kind(run, images):
    cell = run[1].cell
    whole = cell.encode(images[:11], batch_size=5)
    assert whole.shape == (11, 2, 2, 2)
    assert whole.dtype == np.float32
    assert np.array_equal(whole[3:4], cell.encode(np.repeat(images[3:4], 5, 0), batch_size=5)[:1])
    pixels = np.rint(images[:5] * 255).astype(np.uint8)
    assert np.array_equal(
        cell.encode(pixels, batch_size=5), cell.encode((pixels / 255).astype(np.float32), batch_size=5)
    )


def test_a_picture_holds_each_image_above_its_reconstruction(run, images):
    cell = run[1].cell
    picture = cell.preview(images[:2])
    assert picture.shape == (2, 1, 2 * SIDE, SIDE)
    assert np.array_equal(picture[:, :, :SIDE], images[:2])
    assert np.array_equal(picture[:, :, SIDE:], cell.reconstruct(images[:2]))


def test_a_batch_that_is_not_finite_leaves_the_running_statistics_usable(mindspore):
    from ms_ddpm.nn.norms import BatchNorm2d

    norm = BatchNorm2d(2)
    norm.set_train(True)
    x = np.ones((2, 2, 3, 3), np.float32)
    x[0, 1, 0, 0], x[0, 0, 0, 0] = np.nan, 3
    norm(mindspore.Tensor(x))
    mean, variance = norm.running_mean.asnumpy(), norm.running_var.asnumpy()
    assert mean[1] == 0
    assert variance[1] == 1
    assert mean[0] > 0
    assert variance[0] < 1


def test_one_value_per_channel_cannot_be_trained_on(mindspore):
    from ms_ddpm.nn.norms import BatchNorm2d

    norm = BatchNorm2d(2)
    norm.set_train(True)
    with pytest.raises(ValueError, match="more than one value per channel"):
        norm(mindspore.Tensor(np.ones((1, 2, 1, 1), np.float32)))


@pytest.mark.parametrize("size", [27, 8, (28, 29)])
def test_image_sizes_that_would_not_come_back_are_refused(mindspore, size):
    from ms_ddpm.models.autoencoder import AutoEncoder
    from ms_ddpm.systems.autoencoder.image_autoencoder import ImageAutoencoder

    with pytest.raises(UserError, match="even sides of at least 10"):
        ImageAutoencoder(AutoEncoder(CHANNELS, rng=0), image_size=size)


@pytest.mark.parametrize(("size", "latent"), [((28, 28), (10, 10)), ((10, 16), (1, 4)), ((64, 32), (28, 12))])
def test_the_latents_size_is_the_encoders(mindspore, size, latent):
    import torch

    from ms_ddpm.models.autoencoder import latent_size
    from torch_ref.systems.latent.autoencoder import AutoEncoder as Reference

    assert latent_size(size) == latent
    reference = Reference(CHANNELS)
    z = reference.encode(torch.rand(2, 1, *size))
    assert tuple(z.shape[2:]) == latent
    assert tuple(reference.decode(z).shape[2:]) == size


def test_several_workers_are_refused(mindspore):
    from ms_ddpm.config import Config
    from ms_ddpm.systems.autoencoder.image_autoencoder import build_autoencoder

    with pytest.raises(UserError, match="one process"):
        build_autoencoder(Config(system="autoencoder", image_size=28, channels=1, distribute=True))


@pytest.mark.parametrize("channels", [(4, 4), (4, 0, 4), ()])
def test_other_than_three_widths_are_refused(mindspore, channels):
    from ms_ddpm.models.autoencoder import AutoEncoder

    with pytest.raises(UserError, match="expected three numbers"):
        AutoEncoder(channels)


def test_arrays_of_another_shape_are_refused(run):
    cell = run[1].cell
    for call, shape in ((cell.encode, (2, 1, 28, 28)), (cell.encode, (0, 1, SIDE, SIDE)), (cell.decode, (2, 4, 2, 2))):
        with pytest.raises(UserError, match="expected \\(N, "):
            call(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "reach from nan to nan"), (255, "reach from 0 to 255"), (-1, "from -1 to 0")]
)
def test_values_that_are_no_image_are_refused(run, value, words):
    images = np.zeros((2, 1, SIDE, SIDE), np.float32)
    images[1, 0, 3, 3] = value
    with pytest.raises(UserError, match=f"{words}, expected 0 to 1; divide"):
        run[1].cell.encode(images)
    with pytest.raises(UserError, match="expected 0 to 1"):
        run[1].cell.encode(images.astype(np.float64))


def test_a_batch_size_of_0_is_refused(run, images):
    with pytest.raises(UserError, match="batch_size is 0, expected at least 1"):
        run[1].cell.encode(images, batch_size=0)
    with pytest.raises(UserError, match="batch_size is -1"):
        run[1].cell.decode(np.zeros((2, 2, 2, 2), np.float32), batch_size=-1)


@pytest.mark.parametrize(
    ("options", "warned"), [({}, 1), ({"ema_decay": 0.0}, 1), ({"ema_decay": 0.0, "ema_update_every": 1}, 0)]
)
def test_averaged_weights_are_warned_of_once(mindspore, caplog, options, warned):
    from ms_ddpm.config import Config
    from ms_ddpm.systems.autoencoder.image_autoencoder import build_autoencoder

    config = Config(system="autoencoder", image_size=SIDE, channels=1, autoencoder_channels=[2, 3, 2], **options)
    with caplog.at_level("WARNING", "ms_ddpm"):
        build_autoencoder(config, training=False)
        assert caplog.records == []
        build_autoencoder(config)
    assert ["set ema_decay 0 and ema_update_every 1" in r.getMessage() for r in caplog.records] == [True] * warned


def test_the_pictures_of_a_run_are_of_images_that_were_held_out(run, monkeypatch):
    from ms_ddpm import data, registry
    from ms_ddpm.config import Config

    images = (np.arange(40) / 40).astype(np.float32).reshape(40, 1, 1, 1).repeat(SIDE, 2).repeat(SIDE, 3)
    source, cell = data.array_source("counted", images), run[1].cell
    _, held_out = data.split(source, 8, seed=0)
    for count, expected in ((8, held_out), (0, source)):
        config = Config(system="autoencoder", validation_images=count, image_size=SIDE)
        shown = registry.of(config).sample_fn(cell, source, config)(cell, 6)
        assert np.array_equal(shown[:, :, :SIDE], expected.batch(range(3)))
