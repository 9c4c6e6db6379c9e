"""Latent diffusion: what is trained on, what a checkpoint holds, classes, bad requests."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from ms_ddpm import checkpoint, latents
from ms_ddpm.config import Config, to_dict
from ms_ddpm.errors import UserError

CHANNELS = [2, 3, 2]
COMMON = {"image_size": 28, "channels": 1, "autoencoder_channels": CHANNELS, "dataset": "digits28"}


def save(cell, config, folder):
    """A checkpoint as train.py writes it, without the training."""
    arrays = {name: p.asnumpy().copy() for name, p in cell.parameters_and_names()}
    trained = {p.name for p in cell.trainable_params()}
    averaged = {name: arrays[name] for name, p in cell.parameters_and_names() if p.name in trained}
    groups = {"model": arrays, "ema": averaged, "optimizer": {"steps": np.zeros(1, np.float32)}}
    return checkpoint.save(folder / "checkpoints", 1, groups, {"config": to_dict(config), "seed": 0})


@pytest.fixture(scope="module")
def autoencoder_run(mindspore, tmp_path_factory):
    """The output directory of an autoencoder whose running statistics are not the initial ones."""
    from ms_ddpm.ops.assign import set_value
    from ms_ddpm.systems.autoencoder.image_autoencoder import build_autoencoder

    folder = tmp_path_factory.mktemp("autoencoder")
    config = Config(system="autoencoder", output_dir=str(folder), **COMMON)
    cell, rng = build_autoencoder(config), np.random.default_rng(5)
    for name, parameter in cell.parameters_and_names():
        if "running_" in name:
            set_value(parameter, 0.2 + 0.2 * rng.random(parameter.shape))
    save(cell, config, folder)
    return folder


@pytest.fixture(scope="module")
def config(autoencoder_run, tmp_path_factory):
    return Config(
        system="latent", autoencoder=str(autoencoder_run), output_dir=str(tmp_path_factory.mktemp("latent")),
        num_classes=10, channel_widths=[2, 4, 8, 8], embed_dim=8, text_dim=8, sampling_timesteps=3, **COMMON,
    )  # fmt: skip


@pytest.fixture(scope="module")
def built(config):
    """(cell, what it trains on) as train.py makes them."""
    from ms_ddpm import recipes

    cell = recipes.build(config)
    source = recipes.open_data(config, cell)
    assert list(Path(config.output_dir).iterdir()) == []  # it may be another run's: nobody has looked yet
    return cell, source


def test_the_data_are_the_latents_of_the_data_set_with_its_labels(built, config, autoencoder_run):
    from ms_ddpm import data
    from ms_ddpm.systems.autoencoder.image_autoencoder import load_autoencoder

    cell, source = built
    assert source.shape == (2, 10, 10) == (cell.channels, *cell.image_size)
    images = data.open_images("digits28", image_size=(28, 28), channels=1)
    assert len(source) == len(images)
    assert np.array_equal(source.labels, images.labels)
    of_run = load_autoencoder(autoencoder_run).encode(images.batch(range(7)))
    assert np.allclose(source.batch(range(7)), of_run, atol=1e-6)


def test_they_are_normalised_channel_by_channel(mindspore, built):
    cell, source = built
    z = cell.normalised(mindspore.Tensor(source.batch(range(len(source))))).asnumpy().astype(np.float64)
    assert np.allclose(z.mean((0, 2, 3)), 0, atol=1e-4)
    assert np.allclose(z.std((0, 2, 3)), 1, atol=1e-4)


def test_latents_turn_back_into_images(built):
    cell, source = built
    images = cell.to_images(source.batch(range(3)))
    assert images.shape == (3, 1, 28, 28)
    assert images.min() > 0
    assert images.max() < 1


def test_only_the_score_network_is_trained_and_the_autoencoder_never_in_training_mode(built):
    cell, _ = built
    cell.set_train(True)
    assert cell.model.net.training
    assert not cell.autoencoder.net.decoder.training
    trained = {p.name for p in cell.trainable_params()}
    frozen = [
        n for n, p in cell.parameters_and_names() if n.startswith(("autoencoder.", "latent_")) and p.name in trained
    ]
    assert trained
    assert frozen == []


@pytest.fixture(scope="module")
def loaded(built, config, tmp_path_factory):
    """The cell of a checkpoint; the autoencoder's run and the latents are gone."""
    from ms_ddpm import recipes

    folder = tmp_path_factory.mktemp("moved")
    gone = dataclasses.replace(config, autoencoder=str(folder / "gone"), output_dir=str(folder / "gone too"))
    return recipes.load(save(built[0], gone, folder))[0]


def test_a_checkpoint_holds_all_that_sampling_needs(built, loaded):
    own = {name: p.asnumpy() for name, p in built[0].parameters_and_names()}
    assert all(np.array_equal(p.asnumpy(), own[name]) for name, p in loaded.parameters_and_names())
    images = loaded.sample(4, seed=3).asnumpy()
    assert images.shape == (4, 1, 28, 28)
    assert images.min() > 0
    assert images.max() < 1


def test_image_7_is_the_same_whatever_it_is_drawn_with(loaded):
    four = loaded.sample(4, seed=3, first_image=4, labels=7).asnumpy()
    again = loaded.sample(4, seed=3, first_image=7, labels=7).asnumpy()
    assert np.array_equal(four[3], again[0])
    assert not np.array_equal(four[3], loaded.sample(4, seed=3, first_image=7, labels=2).asnumpy()[0])


def test_the_chain_is_decoded_too(loaded):
    chain = loaded.sample(4, seed=3, return_all_timesteps=True).asnumpy()
    assert chain.shape == (4, 4, 1, 28, 28)  # images, states
    assert np.array_equal(chain[:, -1], loaded.sample(4, seed=3).asnumpy())


def test_what_cannot_be_sampled_is_one_clear_line(loaded):
    for options, words in (
        ({"labels": 10}, "class 10 does not exist"),
        ({"sampler": "ddim"}, "expected one of: euler"),
        ({"steps": 0}, "steps"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            loaded.sample(2, **options)
        assert "\n" not in str(caught.value)


def test_without_classes_it_is_unconditional(config):
    from ms_ddpm import recipes

    cell = recipes.build(dataclasses.replace(config, num_classes=0))
    assert not cell.conditional
    images = cell.sample(2, seed=0).asnumpy()
    assert images.shape == (2, 1, 28, 28)
    with pytest.raises(UserError, match="not conditional"):
        cell.sample(2, guidance_scale=2.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channel_widths": [32, 64, 128, 256]}, "for latents of 2 channels .* such as 2 64 128 256"),
        ({"channel_widths": [2, 64]}, "three widths"),
        ({"image_size": 27}, "even sides"),
        ({"image_size": 20}, "at least 9"),
        ({"autoencoder_channels": [4, 4]}, "three numbers"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(config, changes, words):
    from ms_ddpm.systems.latent.latent_diffusion import build_latent

    with pytest.raises(UserError, match=words):
        build_latent(dataclasses.replace(config, **changes))


def test_runs_that_are_no_fitting_autoencoder_are_refused(built, config, tmp_path):
    from ms_ddpm.systems.latent.latent_diffusion import build_latent

    def opened(**changes):
        changed = dataclasses.replace(config, **{"output_dir": str(tmp_path), **changes})
        return build_latent(changed).open_data(changed)

    with pytest.raises(UserError, match="needs an autoencoder"):
        opened(autoencoder=None)
    with pytest.raises(UserError, match="no checkpoint in"):
        opened(autoencoder=str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="mirrored"):
        opened(flip=True)
    with pytest.raises(UserError, match=r"autoencoder_channels \[2, 3, 2\], but autoencoder_channels is \[4, 4, 2\]"):
        opened(autoencoder_channels=[4, 4, 2])
    save(built[0], config, tmp_path / "latent run")
    with pytest.raises(UserError, match="run of system 'latent'"):
        opened(autoencoder=str(tmp_path / "latent run"))


def test_the_latents_of_another_autoencoder_are_refused(built, config, autoencoder_run, tmp_path):
    from ms_ddpm.ops.assign import set_value
    from ms_ddpm.systems.autoencoder.image_autoencoder import load_autoencoder
    from ms_ddpm.systems.latent.latent_diffusion import build_latent

    other = load_autoencoder(autoencoder_run)
    set_value(other.net.decoder[0].bias, other.net.decoder[0].bias.asnumpy() + np.float32(1e-3))
    folder = tmp_path / "other"
    folder.mkdir()
    save(other, dataclasses.replace(config, system="autoencoder", autoencoder=None), folder)
    run = tmp_path / "run"
    run.mkdir()
    built[0].keep_data(run)
    changed = dataclasses.replace(config, autoencoder=str(folder), output_dir=str(run))
    with pytest.raises(UserError, match="latents of another autoencoder") as caught:
        build_latent(changed).open_data(changed)
    assert "\n" not in str(caught.value)


def another(run, folder):
    """The output directory of an autoencoder like that of ``run``, trained further."""
    from ms_ddpm.ops.assign import set_value
    from ms_ddpm.systems.autoencoder.image_autoencoder import load_autoencoder

    cell = load_autoencoder(run)
    set_value(cell.net.encoder[6].weight, 1.5 * cell.net.encoder[6].weight.asnumpy() + np.float32(0.01))
    save(cell, Config(system="autoencoder", output_dir=str(folder), **COMMON), folder)
    return folder


@pytest.fixture
def continued(built, config, autoencoder_run, tmp_path):
    """(directory of a run of one step, its configuration), whose autoencoder was trained further since."""
    changed = dataclasses.replace(
        config, autoencoder=str(another(autoencoder_run, tmp_path / "further")), output_dir=str(tmp_path / "run")
    )
    save(built[0], changed, tmp_path / "run")
    return tmp_path / "run", changed


def test_a_run_goes_on_with_the_autoencoder_of_its_checkpoint(built, continued):
    from ms_ddpm.systems.latent.latent_diffusion import build_latent

    run, config = continued
    assert not (run / latents.FILE).exists()
    shutil.rmtree(config.autoencoder)
    cell = build_latent(config)
    source = cell.open_data(config)
    assert cell.opened.autoencoder == built[0].opened.autoencoder
    assert np.array_equal(source.batch(range(9)), built[1].batch(range(9)))


def test_a_checkpoint_of_another_autoencoder_than_the_latents_is_not_continued(built, config, continued, tmp_path):
    """As where the checkpoint is found only after the data are opened."""
    from ms_ddpm import Trainer
    from ms_ddpm.ops.assign import set_value
    from ms_ddpm.systems.latent.latent_diffusion import build_latent

    run, changed = continued
    changed = dataclasses.replace(changed, output_dir=str(tmp_path / "elsewhere"))
    cell = build_latent(changed)
    source = cell.open_data(changed)
    assert cell.opened.autoencoder != built[0].opened.autoencoder
    saved = checkpoint.load(checkpoint.locate(run)).arrays["model"]
    with pytest.raises(UserError, match="checkpoint X is of another autoencoder than the latents") as caught:
        cell.check_loaded(saved, "checkpoint X")
    assert "\n" not in str(caught.value)
    built[0].check_loaded(saved, "checkpoint X")
    with pytest.raises(UserError, match="trained on latents of other mean and deviation"):
        built[0].check_loaded(saved | {"latent_mean": saved["latent_mean"] + np.float32(0.01)}, "checkpoint X")

    # a checkpoint that holds all that the Trainer asks for before
    names = [name for name, p in cell.parameters_and_names() if p.requires_grad]
    arrays = {name: p.asnumpy().copy() for name, p in built[0].parameters_and_names()}
    groups = {
        "model": arrays, "ema": {name: arrays[name] for name in names},
        "optimizer": {"steps": np.ones(1, np.float32), **{f"{key}.{n}": 0 * arrays[n] for n in names
                                                          for key in ("exp_avg", "exp_avg_sq")}},
    }  # fmt: skip
    training = {"ema_calls": 1, "scaler": {"scale": 1.0, "good_steps": 0}, "best_loss": None, "best_step": None,
                "skipped_steps": 0}  # fmt: skip
    checkpoint.save(tmp_path / "whole" / "checkpoints", 1, groups, {"config": None, "training": training, "seed": 0})
    set_value(cell.latent_std, np.full(cell.latent_std.shape, 2.0))
    with pytest.raises(UserError, match="of another autoencoder"):
        Trainer(cell, source, results_folder=tmp_path / "whole", progress=False, train_num_steps=2)
    assert (cell.latent_std.asnumpy() == 2).all()  # found before anything was taken over


def test_the_directory_of_another_run_stays_as_it_is(config, autoencoder_run):
    from ms_ddpm.systems.latent.latent_diffusion import build_latent

    wrong = dataclasses.replace(config, output_dir=str(autoencoder_run))
    before = sorted(autoencoder_run.rglob("*"))
    with pytest.raises(UserError, match="of another run: system was 'autoencoder', now 'latent'"):
        build_latent(wrong).open_data(wrong)
    assert sorted(autoencoder_run.rglob("*")) == before


def test_the_latents_are_kept_once(built, tmp_path):
    built[0].keep_data(tmp_path)
    found = latents.read(tmp_path / latents.FILE)
    assert np.array_equal(found.values, built[0].opened.values)
    (tmp_path / latents.FILE).write_bytes(b"")
    built[0].keep_data(tmp_path)
    assert (tmp_path / latents.FILE).read_bytes() == b""


def test_an_autoencoder_trained_with_lpips_is_loaded_without_its_weights(mindspore, config, tmp_path):
    from ms_ddpm.models.lpips import LPIPS
    from ms_ddpm.storage import tensorfile
    from ms_ddpm.systems.autoencoder.image_autoencoder import build_autoencoder, load_autoencoder

    path = tmp_path / "lpips.safetensors"
    tensorfile.write(path, {name: p.asnumpy() for name, p in LPIPS("squeeze", rng=0).parameters_and_names()})
    same = ("image_size", "channels", "autoencoder_channels", "seed", "ema_decay", "ema_update_every")
    changed = Config(
        system="autoencoder", perceptual="lpips", lpips_weights=str(path), **{key: getattr(config, key) for key in same}
    )
    cell = build_autoencoder(changed)
    assert not any(p.name.startswith("perceptual") for p in cell.trainable_params())
    save(cell, changed, tmp_path)
    path.unlink()
    loaded = load_autoencoder(tmp_path)
    own = {name: p.asnumpy() for name, p in cell.net.parameters_and_names()}
    assert all(np.array_equal(p.asnumpy(), own[name]) for name, p in loaded.net.parameters_and_names())


def test_a_model_and_an_autoencoder_that_do_not_fit_are_refused(built):
    from ms_ddpm.models.autoencoder import AutoEncoder
    from ms_ddpm.systems.autoencoder.image_autoencoder import ImageAutoencoder
    from ms_ddpm.systems.latent.latent_diffusion import LatentDiffusion

    with pytest.raises(UserError, match=r"latents \(2, 10, 10\), but the autoencoder's are \(4, 10, 10\)"):
        LatentDiffusion(built[0].model, ImageAutoencoder(AutoEncoder(rng=0), image_size=28))


def test_a_run_goes_on_with_other_images_where_they_are_accepted(config, tmp_path, rng):
    """Their latents are made anew, and normalised as those were that the weights were trained on."""
    from ms_ddpm.cli.train import build_trainer
    from ms_ddpm.devices.distributed import ALONE

    images = {name: rng.integers(low, 256, (24, 28, 28, 1), np.uint8) for name, low in (("former", 0), ("other", 120))}
    for name, pixels in images.items():
        np.savez(tmp_path / f"{name}.npz", arr_0=pixels)

    def trainer(dataset, **changes):
        path = str(tmp_path / f"{dataset}.npz")
        keys = {"dataset": path, "output_dir": str(tmp_path / "run"), "num_classes": 0, "validation_images": 4}
        made = build_trainer(dataclasses.replace(config, **keys, **changes), ALONE)
        made.cell.keep_data(made.folder)  # as train.py does at the beginning
        return made

    with trainer("former") as first:
        mean = first.cell.latent_mean.asnumpy().copy()
        kept = latents.read(tmp_path / "run" / latents.FILE)
        first.step = 2
        first.save()
    with pytest.raises(UserError, match=r"latents of other images .* --accept_changes data$"):
        trainer("other")
    with trainer("other", accept_changes=["data"]) as second:
        assert second.step == 2
        assert np.array_equal(second.cell.latent_mean.asnumpy(), mean)
        made = latents.read(tmp_path / "run" / latents.FILE)
        assert not np.allclose(made.statistics.mean, kept.statistics.mean, atol=1e-3)
        assert made.digest != kept.digest
        second.step = 3
        second.save()
    with trainer("other") as third:
        assert third.step == 3
        assert third.accepted_changes[0]["names"] == ["data"]
        assert np.array_equal(third.cell.latent_mean.asnumpy(), mean)
