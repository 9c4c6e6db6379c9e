"""What sample.py shows of an autoencoder and of a corruption model: labelled pictures, from their checkpoints."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ms_ddpm import checkpoint, data
from ms_ddpm.config import Config, to_dict
from ms_ddpm.errors import UserError

HELD_OUT = 11


@pytest.fixture(scope="module", autouse=True)
def pynative(mindspore):
    """sample.py starts MindSpore in the mode that it is given; here there is nothing to compile."""
    from ms_ddpm import runtime

    yield
    runtime.setup("CPU")


@pytest.fixture(scope="module")
def sample():
    from ms_ddpm.cli import sample

    return lambda *args: sample.main([*map(str, args), "--mode", "1"])


def saved(folder, build, **options):
    """A run whose averaged weights are others than those of its last step: (its folder, configuration, Cell)."""
    given = {"dataset": "digits28", "validation_images": HELD_OUT, "seed": 3, **options}
    config = Config(image_size=28, output_dir=str(folder), **given)
    cell = build(config)
    arrays = {name: p.asnumpy().copy() for name, p in cell.parameters_and_names()}
    averaged = {name: 0.5 * arrays[name] for name, p in cell.parameters_and_names() if p.requires_grad}
    groups = {"model": arrays, "ema": averaged, "optimizer": {"steps": np.zeros(1, np.float32)}}
    checkpoint.save(folder / "checkpoints", 7, groups, {"config": to_dict(config), "seed": 3})
    return folder, config, cell


@pytest.fixture(scope="module")
def autoencoder(mindspore, tmp_path_factory):
    """With LPIPS, whose weights are gone: the network of the loss is not needed to look at what was trained."""
    from ms_ddpm.systems.autoencoder.image_autoencoder import build_autoencoder

    return saved(
        tmp_path_factory.mktemp("autoencoder"), partial(build_autoencoder, training=False), system="autoencoder",
        autoencoder_channels=[2, 2, 2], perceptual="lpips", lpips_weights="/gone",
    )  # fmt: skip


@pytest.fixture(scope="module")
def corruption(mindspore, tmp_path_factory):
    from ms_ddpm.systems.corruption.corruption import build_corruption

    return saved(tmp_path_factory.mktemp("corruption"), build_corruption, system="corruption", sampling_timesteps=3)


@pytest.fixture
def sheets(monkeypatch):
    """The rows of every labelled sheet that is drawn: lists of (label, images)."""
    from ms_ddpm.pictures import figures

    drawn, sheet = [], figures.sheet

    def recording(rows, *args, **options):
        drawn.append(list(rows))
        return sheet(rows, *args, **options)

    monkeypatch.setattr(figures, "sheet", recording)
    return drawn


def held_out(config, cell, count):
    return data.as_float(data.prepare("digits28", cell, config.validation_images, config.seed)[1].batch(range(count)))


def test_an_autoencoder_is_shown_by_what_it_gives_back(sample, autoencoder, sheets, capsys):
    from PIL import Image

    folder, config, cell = autoencoder
    sample("--checkpoint", folder, "--num", 10)
    assert capsys.readouterr().out.startswith("10 reconstructions: ")
    found = np.load(folder / "samples-7" / "samples.npz")["arr_0"]
    images = held_out(config, cell, 10)  # never trained on, and not the first of the data set
    expected = cell.reconstruct(images)  # by the weights of the last step, to which the running statistics belong
    assert found.shape == (10, 28, 28, 1)
    assert np.abs(found[..., 0] / 255 - expected[:, 0]).max() < 0.003
    assert [[label for label, _ in rows] for rows in sheets] == [["original", "reconstruction"]] * 2
    assert [len(rows[0][1]) for rows in sheets] == [8, 2]
    assert np.array_equal(np.concatenate([rows[0][1] for rows in sheets]), images)
    assert np.allclose(np.concatenate([rows[1][1] for rows in sheets]), expected, atol=1e-6)
    with Image.open(folder / "samples-7" / "reconstructions.png") as picture:
        assert 800 < picture.width < 1000
        assert picture.height > 4 * 84


def test_other_weights_and_another_data_set_are_shown_where_they_are_asked_for(sample, autoencoder, sheets, tmp_path):
    folder, _, cell = autoencoder
    others = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    np.savez(tmp_path / "others.npz", images=others)
    sample("--checkpoint", folder, "--weights", "ema", "--dataset", tmp_path / "others.npz", "--output_dir", tmp_path)
    [[(_, shown), (_, decoded)]] = sheets
    assert np.array_equal(shown, others.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    assert not np.allclose(decoded, cell.reconstruct(shown), atol=1e-3)
    assert len(np.load(tmp_path / "samples.npz")["arr_0"]) == 3


def test_a_corruption_model_is_shown_with_noise_and_without_in_any_number_of_steps(
    sample, corruption, sheets, capsys, mindspore
):
    from ms_ddpm import recipes

    folder, config, _ = corruption
    options = ("--num", 2, "--sampling_steps", 30, "--amounts", 0.3, 1, "--seed", 5)
    sample("--checkpoint", folder, *options)
    out = capsys.readouterr().out
    assert "2 images from step 7" in out
    assert "restorations.png" in out
    cell, _ = recipes.load(checkpoint.locate(folder))  # averaged
    restorations, given, answered = sheets
    assert [label for label, _ in restorations] == ["original", "amount 0.3", "prediction", "amount 1", "prediction"]
    images = held_out(config, cell, 8)
    assert np.array_equal(restorations[0][1], images)
    for (_, noised), (_, answer), amount in zip(restorations[1::2], restorations[2::2], (0.3, 1.0), strict=True):
        z = (noised - (1 - amount) * images) / amount
        assert -1e-5 < z.min() < 0.1 < 0.9 < z.max() < 1 + 1e-5
        predicted = cell.model(noised).asnumpy()
        np.testing.assert_allclose(answer, np.clip(predicted, 0, 1), atol=1e-5)
    assert [label for label, _ in given][:2] == ["step 1", "step 4"]
    assert given[-1][0] == "step 30"
    assert len(given) == len(answered) == 12
    states, _ = cell.chain(8, seed=5, steps=30)
    np.testing.assert_allclose(given[-1][1], np.clip(states.asnumpy()[:, 29], 0, 1), atol=1e-5)


def test_few_steps_are_all_shown_and_sampling_goes_on_without_the_data(sample, corruption, sheets, capsys, tmp_path):
    from ms_ddpm.systems.corruption.corruption import build_corruption
    from ms_ddpm.systems.corruption.pictures import history

    history(corruption[2], 2, steps=3)
    assert [label for label, _ in sheets[0]] == ["step 1", "step 2", "step 3"]
    moved, _, _ = saved(tmp_path, build_corruption, system="corruption", sampling_timesteps=3, dataset="/gone")
    sample("--checkpoint", moved, "--num", 2)
    out = capsys.readouterr().out
    assert "2 images from step 7" in out
    assert "no restorations.png and history.png: the data set that the model was trained on: " in out
    assert "/gone" in out
    assert "give another as --dataset" in out
    with pytest.raises(UserError, match="/gone too"):
        sample("--checkpoint", moved, "--num", 2, "--dataset", "/gone too")


@pytest.mark.parametrize(
    ("system", "options", "words"),
    [
        ("corruption", ["--amounts", "0.5", "1.5"], "--amounts has 1.5, expected numbers from 0 (no noise) to 1"),
        ("corruption", ["--amounts", "nan"], "--amounts has nan"),
        ("corruption", ["--amounts", *["0.5"] * 21], "--amounts has 21 numbers, expected at most 20"),
        ("corruption", ["--interpolate", "4"], "--interpolate is for diffusion models"),
        ("autoencoder", ["--amounts", "0.5"], "--amounts is for corruption models; this one is of the system auto"),
        ("autoencoder", ["--gif"], "--gif is for diffusion, corruption, latent, score models"),
        ("autoencoder", ["--sampling_steps", "5"], "steps is an option of samplers, and an autoencoder only gives"),
        ("autoencoder", ["--labels", "5"], "labels are given, but this model is not conditional"),
    ],
)
def test_what_there_is_no_picture_for_is_refused(sample, autoencoder, corruption, system, options, words):
    folder = {"autoencoder": autoencoder, "corruption": corruption}[system][0]
    before = sorted(Path(folder).rglob("*"))
    with pytest.raises(UserError) as caught:
        sample("--checkpoint", folder, *options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(Path(folder).rglob("*")) == before


def test_fewer_large_images_stand_in_a_row():
    from ms_ddpm.pictures.looking import in_a_row

    assert [in_a_row(*size) for size in ((8, 8), (28, 28), (64, 300), (512, 512), (3000, 3000))] == [8, 8, 5, 3, 1]
