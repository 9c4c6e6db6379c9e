"""The parts of a run, each by itself: what it was asked for, what it counts, what it says, who holds its folder."""

import dataclasses
import inspect
import json
from unittest import mock

import pytest

from ms_ddpm.errors import UserError
from ms_ddpm.training.counters import Counters
from ms_ddpm.training.settings import Settings


def settings(**given):
    """Settings as a Trainer makes them."""
    from ms_ddpm import Trainer

    defaults = {name: p.default for name, p in inspect.signature(Trainer).parameters.items()}
    return Settings(**{field.name: defaults[field.name] for field in dataclasses.fields(Settings)} | given)


def test_every_keyword_of_a_trainer_is_the_setting_of_that_name(mindspore):
    from ms_ddpm import Trainer
    from ms_ddpm.training.training_run import TrainingRun

    keywords = [name for name in inspect.signature(Trainer).parameters if name not in ("cell", "dataset")]
    assert keywords == [field.name for field in dataclasses.fields(Settings)]
    given = {name: number for number, name in enumerate(keywords, 1)}
    with mock.patch.object(TrainingRun, "__init__", return_value=None) as made:
        Trainer("cell", "dataset", **given)
    cell, dataset, asked = made.call_args.args
    assert (cell, dataset, asked.by_name()) == ("cell", "dataset", given)


def test_a_count_below_one_is_named(mindspore):
    for name in ("workers", "log_every", "epochs"):
        with pytest.raises(UserError, match=f"{name} is 0, expected at least 1"):
            settings(**{name: 0})


def test_names_of_accepted_changes_may_be_one_or_none(mindspore):
    assert settings().accepted == ()
    assert settings(accept_changes="data").accepted == ["data"]
    assert settings(accept_changes=["data", "dim"]).accepted == ["data", "dim"]


def test_a_plan_counts_all_workers_and_epochs(mindspore):
    from ms_ddpm.training.plan import Plan

    plan = Plan.of(settings(train_batch_size=4, gradient_accumulate_every=3, train_num_steps=7), 100, workers=2)
    assert (plan.batches_per_step, plan.images_per_step, plan.steps_per_epoch) == (6, 24, 5)
    assert (plan.total_steps, plan.every, plan.ends_epoch(5)) == (7, 1000, False)
    assert [step for step in range(1, 8) if plan.is_checkpoint_due(step)] == [7]
    plan = Plan.of(settings(train_batch_size=24, epochs=3), 100, workers=1)
    assert (plan.total_steps, plan.every) == (15, 5)
    assert [step for step in range(1, 16) if plan.ends_epoch(step)] == [5, 10, 15]


def test_what_is_counted_is_what_a_run_goes_on_from(mindspore):
    from ms_ddpm import checkpoint
    from ms_ddpm.training import resuming

    counters = Counters(7, 2, 28, ema_calls=5, scaler={"scale": 8.0, "good_steps": 3.0}, epoch_losses=[1.5, 2])
    training = {"best_loss": None, "best_step": None, **counters.training()}
    loaded = checkpoint.Checkpoint("here", 7, {"training": training}, {})
    found = resuming.training_state(loaded)
    assert {name: found[name] for name in counters.training()} == {
        "ema_calls": 5, "scaler": counters.scaler, "skipped_steps": 2, "batches_seen": 28, "epoch_losses": [1.5, 2]
    }  # fmt: skip


def test_skipped_steps_count_to_the_speed_and_not_to_the_mean_loss(mindspore, tmp_path):
    from ms_ddpm.training.run_report import RunReport
    from ms_ddpm.training.train_step import StepResult

    skipped = StepResult(float("inf"), 1.0, False, 1.0)
    report = RunReport(tmp_path, step=0, total=9, epochs=None, show=False, tensorboard=False)
    report.window.since -= 1000  # seconds ago
    for result in (StepResult(1.0, 1.0, True, 1.0), skipped, StepResult(3.0, 1.0, True, 1.0)):
        report.count(result, images=8000)
    line = report.summary()
    assert line["loss"] == 2.0
    assert line["images_per_s"] == pytest.approx(24, rel=0.01)
    report.begin_window()
    report.window.since -= 1000
    report.count(skipped, images=8000)
    line = report.summary()
    assert line["loss"] == float("inf")
    assert line["images_per_s"] == pytest.approx(8, rel=0.01)
    report.write({"step": 4, "loss": 2.0})
    report.close()
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"step": 4, "loss": 2.0}


def test_a_worker_that_writes_nothing_makes_no_folder(mindspore, tmp_path):
    from ms_ddpm.training.run_folder import RunFolder

    folder = RunFolder(tmp_path / "run", writer=False)
    with folder.take():
        folder.tidy()
    with folder.at_work():
        folder.check()
    folder.release()
    assert not folder.path.exists()
    writer = RunFolder(tmp_path / "run", writer=True)
    with writer.take():
        writer.tidy()
    with pytest.raises(UserError, match="is training; close it"), writer.at_work():
        writer.release()
    writer.release()
    with pytest.raises(UserError, match="it was closed"):
        writer.check()
