"""Pictures of the corruption model, and its article's losses beside those of a run on files like Fashion-MNIST's."""

import gzip
import json

import numpy as np
import pytest

from ms_ddpm.errors import UserError


@pytest.fixture(scope="module")
def model(mindspore):
    from ms_ddpm.models.basic import BasicNet
    from ms_ddpm.systems.corruption.corruption import Corruption

    return Corruption(BasicNet(widths=(3, 4), rng=3), image_size=8)


@pytest.fixture
def images(rng):
    return rng.random((8, 1, 8, 8), dtype=np.float32)


def colours(picture):
    return len(picture.getcolors(1 << 24))


def test_every_picture_of_a_model_is_written(model, images, tmp_path):
    from PIL import Image

    from ms_ddpm.systems.corruption.pictures import write_pictures

    records = [{"step": i, "loss": 0.1 / i} for i in range(1, 5)] + [{"step": 4, "loss": 0.02, "epoch_loss": 0.05}]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    paths = write_pictures(model, images, tmp_path / "new", log=log)
    assert [p.name for p in paths] == ["predictions.png", "history.png", "noises.png", "loss.png", "samples-40.png"]
    for path in paths:
        with Image.open(path) as picture:
            assert min(picture.size) > 200, path.name
            assert colours(picture) > 5, path.name


@pytest.fixture
def sheets(mindspore, monkeypatch):
    """The rows and column heads of every sheet that is drawn."""
    from ms_ddpm.pictures import figures

    drawn, sheet = [], figures.sheet

    def recording(rows, columns=(), **options):
        drawn.append((dict(rows), list(columns)))
        return sheet(rows, columns, **options)

    monkeypatch.setattr(figures, "sheet", recording)
    return drawn


def test_predictions_are_the_image_its_corruption_and_the_networks_answer(mindspore, model, images, sheets):
    from ms_ddpm.systems.corruption.pictures import predictions

    predictions(model, images)
    predictions(model, images, seed=1)
    (first, heads), (second, _) = sheets
    assert list(first) == ["image", "corrupted", "prediction"]
    assert (heads[0], heads[-1]) == ("amount 0.00", "amount 1.00")
    assert (first["image"] == images).all()
    assert (first["corrupted"][0] == images[0]).all()
    assert np.abs(first["corrupted"][1:] - images[1:]).mean(axis=(1, 2, 3)).min() > 0.01
    answer = model.model(mindspore.Tensor(first["corrupted"])).asnumpy()
    assert first["prediction"] == pytest.approx(np.clip(answer, 0, 1), abs=1e-5)
    assert (first["corrupted"][1:] != second["corrupted"][1:]).any(axis=(1, 2, 3)).all()
    with pytest.raises(UserError, match="2 or more"):
        predictions(model, images[:1])
    with pytest.raises(UserError, match="2 or more, 1, 8, 8"):
        predictions(model, images[..., :4])


def test_the_noise_strip_has_a_row_for_every_kind(images, sheets):
    from ms_ddpm.systems.corruption.corruption import NOISES
    from ms_ddpm.systems.corruption.pictures import noise_strip

    narrow, wide = noise_strip(images[0], (0, 1)), noise_strip(images[0], (0, 0.5, 1))
    assert wide.width > narrow.width + 64
    rows, heads = sheets[1]
    assert list(rows) == [kind.replace("_", " ") for kind in NOISES]
    assert heads == ["amount 0", "amount 0.5", "amount 1"]
    for kind, row in rows.items():
        assert row[0] == pytest.approx(images[0], abs=1e-6), kind
        damage = np.abs(row - images[0]).mean(axis=(1, 2, 3))
        assert damage[2] > damage[1] > 0.05, kind
    assert len({row[2].tobytes() for row in rows.values()}) == len(NOISES)
    with pytest.raises(UserError, match="expected"):
        noise_strip(images)


def test_a_loss_curve_takes_what_a_log_may_hold(mindspore):
    from ms_ddpm.systems.corruption.pictures import loss_curve

    assert loss_curve([{"step": 1, "loss": 0.5}]).width > 300
    assert loss_curve([{"step": 1, "loss": "nan"}, {"step": 2, "loss": 0.05}]).width > 300
    with pytest.raises(UserError, match="no loss yet"):
        loss_curve([{"step": 1}])


# --- the published losses ---------------------------------------------------------------------------------------------


def test_the_published_losses_are_the_articles():
    from ms_ddpm.systems.corruption.published import LOSSES

    assert len(LOSSES) == 15
    assert (LOSSES[0], LOSSES[7], LOSSES[14]) == (0.059535, 0.020124, 0.017308)
    assert sum(LOSSES) == pytest.approx(0.340889, abs=1e-9)


def test_the_table_shows_both_and_their_ratio():
    from ms_ddpm.systems.corruption.published import LOSSES, table

    lines = table({1: LOSSES[0] * 2, 3: LOSSES[2]}).splitlines()
    assert len(lines) == 17
    assert lines[1].split() == ["0", "0.059535", "0.119070", "2.00"]
    assert lines[2].split() == ["1", "0.024476", "-", "-"]
    assert lines[3].split() == ["2", "0.022848", "0.022848", "1.00"]
    assert lines[16].split()[:4] == ["mean", "0.041191", "0.070959", "1.72"]
    for nothing in ({}, {16: 0.1}):
        with pytest.raises(UserError, match="no epoch"):
            table(nothing)


def test_a_log_that_was_cut_short_is_read_and_a_wrong_one_named(tmp_path):
    from ms_ddpm.systems.corruption.published import epoch_losses, read_log

    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"step": 2, "epoch": 1, "epoch_loss": 0.5}\n{"step": 3, "epo')
    assert epoch_losses(read_log(log)) == {1: 0.5}
    log.write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(UserError, match="line 2 of"):
        read_log(log)
    with pytest.raises(UserError, match="cannot read the log"):
        read_log(tmp_path / "missing.jsonl")


@pytest.fixture(scope="module")
def like_fashion_mnist():
    """As many images of that size and with that sum of pixels: 3,431,114,169."""
    images = np.full((60_000, 1, 28, 28), 72, np.uint8)
    images.reshape(-1)[: 3_431_114_169 - int(images.sum(dtype=np.int64))] += 1
    return images


def test_fashion_mnist_is_known_by_its_images_and_not_by_its_path(like_fashion_mnist):
    from ms_ddpm.data import array_source
    from ms_ddpm.systems.corruption.published import is_fashion_mnist

    assert is_fashion_mnist(array_source("x", like_fashion_mnist))
    assert is_fashion_mnist(array_source("x", np.divide(like_fashion_mnist, 255, dtype=np.float32)))
    other = like_fashion_mnist.copy()
    other[:100] = 0
    for images in (other, like_fashion_mnist[1:], like_fashion_mnist.reshape(-1, 1, 14, 56)):
        assert not is_fashion_mnist(array_source("data/fashion_mnist", images))


def test_only_a_run_like_the_documents_is_compared(like_fashion_mnist):
    from ms_ddpm.config import Config
    from ms_ddpm.data import array_source, split
    from ms_ddpm.systems.corruption.published import applies

    source = array_source("x", like_fashion_mnist)
    same = {"system": "corruption", "epochs": 15, "train_batch_size": 128, "channels": 1}
    assert applies(Config(**same), source)
    assert applies(Config(**same | {"dataset": "data/mnist"}), split(source, 1000, seed=0)[0])
    assert not applies(Config(**same | {"dataset": "data/fashion_mnist"}), source.subset(range(100)).subset(range(9)))
    for other in ({"system": "diffusion"}, {"epochs": None}, {"noise_kind": "poisson"}, {"train_batch_size": 64}):
        assert not applies(Config(**same | other), source)


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()) if path.suffix == ".gz" else header + array.tobytes())


def test_a_run_on_files_like_fashion_mnists_prints_the_table(mindspore, rng, tmp_path, monkeypatch):
    """The recipe as it stands, but for two short epochs and a small network; the images are few, and called theirs."""
    from ms_ddpm.config import resolve
    from ms_ddpm.models.basic import BasicNet
    from ms_ddpm.systems.corruption import published
    from ms_ddpm.systems.corruption.corruption import Corruption
    from ms_ddpm.systems.corruption.pictures import report
    from ms_ddpm.training.trainer import Trainer
    from tests.conftest import ROOT

    folder = tmp_path / "fashion_mnist"
    folder.mkdir()
    for name, count in (("train", 200), ("t10k", 20)):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", rng.integers(0, 10, count, dtype=np.uint8))
    config = resolve({"dataset": str(folder), "epochs": 2}, str(ROOT / "configs" / "corruption.yaml"))
    assert (config.train_lr, config.adam_betas, config.max_grad_norm) == (1e-3, [0.9, 0.999], 1e9)
    cell = Corruption(BasicNet(widths=(3, 4), rng=0), image_size=28, sampling_timesteps=2)
    trainer = Trainer(
        cell, config.dataset, train_batch_size=config.train_batch_size, epochs=config.epochs, num_samples=4,
        results_folder=tmp_path / "run", progress=False, augment_horizontal_flip=config.flip,
    )  # fmt: skip
    trainer.train()
    assert len(report(trainer, config)) == 1  # pictures alone
    monkeypatch.setattr(published, "is_fashion_mnist", lambda source: len(source) == 200)
    lines = report(trainer, config)
    assert "pictures" in lines[0]
    assert [line.split()[0] for line in lines[2:]] == ["epoch", *map(str, range(15)), "mean"]
    assert "-" not in lines[4].split()
    assert "-" in lines[5].split()
    for name in ("predictions", "history", "noises", "loss", "samples-2", "published"):
        assert (tmp_path / "run" / "pictures" / f"{name}.png").stat().st_size > 2000
