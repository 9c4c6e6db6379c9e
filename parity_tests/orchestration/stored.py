"""What is written and read: checkpoints, weights, data, pictures, conversion: `CHECKS`."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

from .draws import SHAPE, equal
from .probe import assert_same
from .twin import stream


class Killed(BaseException):
    """A kill -9, as far as the program can tell."""


def _keep(folder: Path, step: int, value: float) -> None:
    from ms_ddpm import checkpoint

    checkpoint.save(folder, step, {"model": {"w": np.full(2, value, np.float32)}}, {}, keep_max=0)


def check_replaced(folder: Path) -> None:
    """A kill between the two renames by which a checkpoint is replaced costs neither it nor an earlier one."""
    from ms_ddpm import checkpoint

    _keep(folder, 3, 1.0)
    _keep(folder, 7, 2.0)
    rename, renamed = os.rename, []

    def killed_at_the_second(source, target):
        if len(renamed) == 1:
            raise Killed
        renamed.append(source)
        rename(source, target)

    with mock.patch("os.rename", killed_at_the_second):
        try:
            _keep(folder, 7, 5.0)
        except Killed:
            pass
        else:
            raise AssertionError("nothing was renamed twice: this check no longer kills where it means to")
    assert checkpoint.steps(folder) == [3]
    checkpoint.clean(folder)
    assert checkpoint.steps(folder) == [3, 7], "the checkpoint that was being replaced is gone"
    told = checkpoint.load(folder / checkpoint.step_name(7), ("model",)).arrays["model"]["w"]
    assert_same(told, np.full(2, 2.0), "its weights")


def _source(images: int):
    from ms_ddpm.data import array_source

    pixels = stream(1, 3).integers(0, 256, (images, *SHAPE[1:])).astype(np.uint8)
    return pixels, array_source("pixels", pixels, np.arange(images, dtype=np.int32) + 10)


def check_subset(folder: Path) -> None:
    """A subset of a subset, which is what the Trainer makes of a user's, has images and labels of its own."""
    from ms_ddpm.data import split

    pixels, source = _source(9)
    part = source.subset([8, 6, 4, 2, 0]).subset([3, 1, 4])
    equal(part.batch(range(3)), pixels[[2, 6, 0]], "images of a subset of a subset")
    equal(part.labels, np.array([12, 16, 10]), "their labels")
    chosen = [8, 7, 5, 3, 1]
    train, held_out = split(source.subset(chosen), 2, 4)
    order = np.array(chosen)[stream(4, 6).permutation(5)]
    equal(held_out.batch(range(2)), pixels[order[:2]], "images held out of a subset")
    equal(train.batch(range(3)), pixels[order[2:]], "the others")
    equal(train.labels, order[2:] + 10, "their labels")


def check_segments(folder: Path) -> None:
    """A run longer than one of MindSpore's data sets goes on where that ends."""
    from ms_ddpm.data import pipeline

    batches = [np.full((1, 2), number, np.float32) for number in range(8)]
    for workers in (1, 2):
        with mock.patch.object(pipeline, "SEGMENT", 3):
            told = [int(batch[0, 0]) for batch in pipeline.iterate(batches, workers)]
        assert told == list(range(8)), f"batches {told}"


def _values(cell, names=None) -> dict[str, np.ndarray]:
    return {n: p.asnumpy().copy() for n, p in cell.parameters_and_names() if names is None or n in names}


def check_weights(folder: Path) -> None:
    """Averaged weights where averaged ones are meant, and running statistics with the weights they belong to."""
    from ms_ddpm import autoencoder, checkpoint, latent, recipes
    from ms_ddpm.config import Config, to_dict

    config = Config(
        system="autoencoder", image_size=28, autoencoder_channels=[2, 3, 2], perceptual="none", output_dir=str(folder),
        ema_decay=0.0, ema_update_every=1,
    )  # fmt: skip
    cell = autoencoder.build_autoencoder(config, training=False)
    model = {n: (v + stream(2, i).random(v.shape)).astype(np.float32) for i, (n, v) in enumerate(_values(cell).items())}
    ema = {name: model[name] + 1 for name, p in cell.parameters_and_names() if p.requires_grad}
    statistics = sorted(set(model) - set(ema))
    assert statistics, "the fixture needs parameters that are not trained"
    checkpoint.save(folder / "checkpoints", 5, {"model": model, "ema": ema}, {"config": to_dict(config)}, keep_max=0)
    path = folder / "checkpoints" / checkpoint.step_name(5)
    assert_same(_values(autoencoder.load_autoencoder(folder)), model, "an autoencoder's weights")
    assert_same(_values(autoencoder.load_autoencoder(folder, "ema")), {**model, **ema}, "its averaged weights")
    loaded, _ = recipes.load(path)
    assert_same(_values(loaded), {**model, **ema}, "weights of recipes.load")
    assert_same(_values(recipes.load(path, "model")[0]), model, "raw weights of recipes.load")
    other = autoencoder.build_autoencoder(config, training=False)
    latent.LatentDiffusion.use_autoencoder(SimpleNamespace(autoencoder=other), loaded)
    assert_same(_values(other), {**model, **ema}, "the autoencoder of a latent diffusion")


def check_final_pictures(folder: Path) -> None:
    """What a corruption run shows at its end is drawn by the averaged weights, of images it did not train on."""
    from ms_ddpm.systems.corruption import pictures as corruption_pictures

    _, source = _source(4)
    holds, seen = ["raw"], []

    @contextmanager
    def swapped():
        holds[0] = "averaged"
        yield
        holds[0] = "raw"

    trainer = SimpleNamespace(
        ema=SimpleNamespace(swapped=swapped), validation_set=source, train_set=None, folder=folder, cell="cell", seed=3
    )
    with (
        mock.patch.object(corruption_pictures, "write_pictures", lambda *a, **k: seen.append((holds[0], k["seed"]))),
        mock.patch.object(corruption_pictures.published, "applies", return_value=False),
    ):
        corruption_pictures.report(trainer, None)
    assert seen == [("averaged", 3)], seen


def check_animation(folder: Path) -> None:
    """A GIF begins with the first state and ends with the last, however many there are."""
    from PIL import Image

    from ms_ddpm import images

    for states in (2, 7, 130):
        chain = np.zeros((1, states, 1, 8, 8), np.float32)
        chain[0, :, 0] = np.linspace(0, 1, states).reshape(-1, 1, 1)
        images.save_gif(chain, folder / "chain.gif", frames=10)
        with Image.open(folder / "chain.gif") as gif:
            shown = []
            for number in range(gif.n_frames):
                gif.seek(number)
                shown.append(np.asarray(gif.convert("L"))[gif.height // 2, gif.width // 2])
        assert len(shown) <= 10
        assert (shown[0], shown[-1]) == (0, 255), f"of {states} states: from {shown[0]} to {shown[-1]}"


def check_yardstick(folder: Path) -> None:
    """No real image is its own nearest neighbour, in whatever block it is; every digit has its place in the count."""
    from ms_ddpm import evaluation
    from ms_ddpm.metrics import copies

    images = stream(1, 4).random((23, 1, 4, 4))
    flat = images.reshape(23, -1)
    distance = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    with mock.patch.object(copies, "BLOCK_VALUES", 16 * 5):  # blocks of five images
        told = copies.memorisation(images[:3] * 0.5, images)
    assert_same(told["real_nearest_median"], float(np.median(distance.min(1))), "distance among real images")
    assert_same(told["real_nearest_min"], float(distance.min()), "the least")
    classifier = SimpleNamespace(predict=lambda x: np.array([1, 1, 7]))
    with mock.patch.object(evaluation, "_classifier", return_value=classifier):
        told = evaluation.class_histogram(np.zeros((3, 64)))
    assert told == [0, 2, 0, 0, 0, 0, 0, 1, 0, 0], told


def check_files(folder: Path) -> None:
    """Photographs are turned upright, files are in the order of their names, CIFAR-100 has its fine labels."""
    from PIL import Image

    from ms_ddpm.data import datasets as _datasets
    from ms_ddpm.data import folders as _folders
    from ms_ddpm.data import reading as _files

    half = np.zeros((8, 8), np.uint8)
    half[:4] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(half).save(folder / "turned.png", exif=exif)
    told = _files.load_image(folder / "turned.png", (8, 8), 1)
    equal(told[0], half[::-1], "a photograph that lies on its head")
    (folder / "turned.png").unlink()
    entries = [f"{name}.png" for name in "dbca"]
    for name in entries:
        Image.fromarray(half).save(folder / name)

    @contextmanager
    def by_the_disk(path):
        with os.scandir(path) as found:
            yield iter(sorted(found, key=lambda entry: entries.index(entry.name)))

    with mock.patch.object(_folders, "os", SimpleNamespace(scandir=by_the_disk, stat=os.stat)):
        told = [path.name for path in _folders.image_paths(folder)[0]]
    assert told == sorted(entries), told
    record = np.zeros((2, 2 + 3072), np.uint8)
    record[:, :2] = (3, 77), (19, 5)
    (folder / "train.bin").write_bytes(record.tobytes())
    equal(_datasets.read_pixels(folder / "train.bin").labels, np.array([77, 5]), "labels of CIFAR-100")


def check_scheduler(folder: Path) -> None:
    """An argument goes before what a scheduler's configuration says."""
    from ms_ddpm import schedulers

    for kind in (schedulers.DDPMScheduler, schedulers.DDIMScheduler):
        given = dict(kind(num_train_timesteps=50, prediction_type="v_prediction").config)
        assert kind.from_config(given).config["prediction_type"] == "v_prediction"
        told = kind.from_config(given, prediction_type="sample", num_train_timesteps=20).config
        assert (told["prediction_type"], told["num_train_timesteps"]) == ("sample", 20), told


def check_conversion(folder: Path) -> None:
    """A PyTorch checkpoint, in and out again: weights, averaged weights, step, calls of the average, tables."""
    import torch

    from ms_ddpm import GaussianDiffusion, Unet, checkpoint, convert
    from ms_ddpm.cli import convert as script
    from ms_ddpm.storage import torch_files

    for norm, table, version in (("rms", "loss_weight", "2.3.4"), ("group", "p2_loss_weight", "1.4.1")):
        unet = Unet(8, dim_mults=(1,), channels=1, norm=norm, rng=0)
        cell = GaussianDiffusion(unet, image_size=8, timesteps=40, objective="pred_noise", beta_schedule="linear")
        model = convert.to_torch(cell)
        assert table in model, f"{norm}: no table {table}"
        assert ({"loss_weight", "p2_loss_weight"} - {table}).isdisjoint(model), f"{norm}: tables {sorted(model)[:20]}"
        ema = {name: value + 1 if name.startswith("model.") else value for name, value in model.items()}
        content = {
            "step": 41, "version": version, "model": {k: torch.from_numpy(v) for k, v in model.items()},
            "ema": {"step": torch.tensor(37), **{f"ema_model.{k}": torch.from_numpy(v) for k, v in ema.items()}},
        }  # fmt: skip
        run = folder / norm
        run.mkdir()
        torch.save(content, run / "in.pt")
        with mock.patch("builtins.print"), mock.patch.object(script, "start_machine"):
            read = ["from-torch", str(run / "in.pt"), "--image_size", "8", "--output_dir", str(run / "run")]
            assert script.main([*read, "--objective", "pred_noise"] if norm == "group" else read) == 0
            assert script.main(["to-torch", str(run / "run"), "--output", str(run / "out.pt")]) == 0
            one = run / "one.safetensors"
            assert script.main(["to-torch", str(run / "run"), "--output", str(one)]) == 0
        loaded = checkpoint.load(checkpoint.locate(run / "run"))
        assert (loaded.step, loaded.state["training"]["ema_calls"]) == (41, 37), loaded.state["training"]
        for group, wanted in (("model", model), ("ema", ema)):
            told = {convert.torch_names(cell)[name]: value for name, value in loaded.arrays[group].items()}
            weights = {name: value for name, value in wanted.items() if name.startswith("model.")}
            assert_same(told, weights, f"{norm}: converted {group}")
        out = torch_files.read(run / "out.pt")
        assert_same(out["model"], model, f"{norm}: exported model")
        assert_same(out["ema"], ema, f"{norm}: exported average")
        assert (out["step"], out["ema_step"]) == (41, 37)


CHECKS = {
    "stored/replaced": check_replaced,
    "stored/subset": check_subset,
    "stored/segments": check_segments,
    "stored/weights": check_weights,
    "stored/final_pictures": check_final_pictures,
    "stored/animation": check_animation,
    "stored/yardstick": check_yardstick,
    "stored/files": check_files,
    "stored/scheduler": check_scheduler,
    "stored/conversion": check_conversion,
}
