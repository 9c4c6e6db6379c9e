"""Runs counted in epochs: length, mean losses, the best one, what is shown, and resuming within one."""

import json
import re

import numpy as np
import pytest

from ms_ddpm import data
from ms_ddpm.errors import UserError
from ms_ddpm.training.epochs import Epochs, Progress
from ms_ddpm.training.lr_schedules import exponential

IMAGES = 20  # three steps of 8 an epoch


@pytest.fixture(scope="module")
def make_cell(mindspore):
    from mindspore import Parameter, nn

    class Scaled(nn.Cell):
        channels, image_size = 1, (4, 4)

        def __init__(self):
            super().__init__()
            self.w = Parameter(np.full((1, 4, 4), 3.0, np.float32), name="w")

        def draw(self, rng, batch):
            return (rng.standard_normal(batch[0].shape).astype(np.float32),)

        def construct(self, image, noise):
            error = self.w * image - image - 0.1 * noise
            return (error * error).mean()

    return Scaled


@pytest.fixture
def train(make_cell, tmp_path):
    from ms_ddpm import Trainer

    def run(folder="run", stop_after=None, **options):
        images = np.random.default_rng(1).integers(0, 256, (IMAGES, 1, 4, 4)).astype(np.uint8)
        losses = []

        def on_step(record):
            losses.append(record["loss"])
            if len(losses) == stop_after:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)

        given = {"train_batch_size": 8, "epochs": 3, "train_lr": 0.05, "progress": False, "ema_update_every": 1}
        trainer = Trainer(
            make_cell(), data.array_source("twenty images", images), results_folder=tmp_path / folder,
            augment_horizontal_flip=False, on_step=on_step, **{**given, **options},
        )  # fmt: skip
        trainer.train()
        records = [json.loads(line) for line in (trainer.folder / "log.jsonl").read_text().splitlines()]
        return trainer, losses, [record for record in records if "epoch" in record]

    return run


def test_an_epoch_is_every_image_once_rounded_up():
    assert Epochs(20, 8).steps == 3
    assert Epochs(16, 8).steps == 2
    assert Epochs(3, 8).steps == 1
    assert [Epochs(20, 8).number(step) for step in (0, 1, 3, 4, 6, 7)] == [1, 1, 1, 2, 2, 3]


def test_every_epoch_ends_with_its_mean_loss_and_a_checkpoint(train):
    trainer, losses, epochs = train()
    assert trainer.total_steps == 9
    assert [record["epoch"] for record in epochs] == [1, 2, 3]
    for i, record in enumerate(epochs):
        assert record["step"] == 3 * (i + 1)
        assert record["epoch_loss"] == pytest.approx(np.mean(losses[3 * i : 3 * i + 3]), rel=1e-12)
    from ms_ddpm import checkpoint

    assert checkpoint.steps(trainer.checkpoints) == [3, 6, 9]


def test_without_validation_images_the_lowest_epoch_loss_names_the_best(train):
    trainer, _, epochs = train(train_lr=0.05, lr_schedule=lambda step: 1.0 if step < 6 else -30.0)
    assert epochs[2]["epoch_loss"] > epochs[1]["epoch_loss"] < epochs[0]["epoch_loss"]
    assert (trainer.checkpoints / "best").read_text().strip().endswith("00000006")
    assert trainer.best_loss == epochs[1]["epoch_loss"]


def test_a_run_stopped_within_an_epoch_goes_on_with_its_sum(train):
    _, _, whole = train("whole")
    train("parts", stop_after=5)
    _, _, parts = train("parts")
    assert [record["epoch_loss"] for record in parts] == [record["epoch_loss"] for record in whole]


def test_the_bars_are_nested_and_the_epochs_are_told(train, capsys):
    train("shown", progress=True)
    shown = capsys.readouterr()
    assert [f"epoch {i}/3: " in shown.err for i in (1, 2, 3, 4)] == [True, True, True, False]
    outer = [line for line in re.split(r"[\r\n]", shown.err) if line.lstrip("\x1b[A").startswith("training: ")]
    assert "| 0/3 [" in outer[0]
    assert any("| 3/3 [" in line for line in outer)  # epochs, not steps
    assert "epoch 1: mean loss" in shown.out + shown.err
    assert "best so far" in shown.out + shown.err
    assert re.search(r"epoch 1/3: +33%[^\r\n]* 1/3 \[[^\r\n]*loss=", shown.err)  # from the first step on


def test_a_bar_of_a_run_that_goes_on_stands_where_it_was():
    bar = Progress(7, 9, Epochs(IMAGES, 8), show=True)
    assert bar.bar.total == 3
    bar.tell(loss="0.1")
    bar.advance()
    assert "loss=0.1" in bar.inner.postfix
    assert (bar.inner.initial, bar.inner.total) == (1, 3)
    bar.advance()
    assert bar.inner is None
    bar.close()


def test_epochs_of_another_length_are_another_run(train):
    from ms_ddpm import checkpoint
    from ms_ddpm.training import resuming

    trainer, _, _ = train("length")
    loaded = checkpoint.load(checkpoint.locate(trainer.folder))
    arguments = {**trainer.arguments, "steps_per_epoch": 2}  # what two workers come to
    with pytest.raises(UserError, match="steps_per_epoch was 3, now 2"):
        resuming.check_same_run(
            loaded, resuming.training_state(loaded), config=None, arguments=arguments, workers=2
        )  # fmt: skip


def test_no_epochs_are_an_error(train):
    with pytest.raises(UserError, match="epochs is 0"):
        train(epochs=0)


def test_exponential_decay_steps_once_an_epoch_down_to_its_floor():
    factor = exponential(0.98, 0.2, 3)
    assert [factor(step) for step in (0, 2, 3, 5, 6)] == [1, 1, 0.98, 0.98, 0.98**2]
    assert factor(3 * 79) == pytest.approx(0.98**79)
    assert factor(3 * 80) == 0.2  # 0.98^80 = 0.199
    with pytest.raises(UserError, match="lr_decay and lr_floor"):
        exponential(1.5, 0.2, 3)


def test_the_trainers_rate_follows_it(train):
    trainer, _, _ = train("rate", lr_schedule="exponential", lr_decay=0.5, lr_floor=0.3, train_lr=0.1)
    assert [trainer.rate(step) for step in (0, 3, 6)] == [0.1, 0.05, pytest.approx(0.03)]
