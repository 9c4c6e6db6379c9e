"""The training loop: any Cell, bit-exact resume, accumulation, skipped steps, what is written."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from ms_ddpm import checkpoint
from ms_ddpm.errors import UserError


@pytest.fixture(scope="module")
def make_cell(mindspore):
    """A small model that is no diffusion model: w * image against noise, with self-made draws."""
    from mindspore import Parameter, nn

    class Line(nn.Cell):
        channels, image_size = 1, (8, 8)

        def __init__(self, blow_up_at=None):
            super().__init__()
            self.w = Parameter(np.full((1, 8, 8), 0.5, np.float32), name="w")
            self.b = Parameter(np.zeros(3, np.float32), name="b")
            self.draws, self.blow_up_at = 0, blow_up_at

        def draw(self, rng, batch):
            self.draws += 1
            noise = rng.standard_normal(batch[0].shape).astype(np.float32)
            if self.blow_up_at and self.draws in self.blow_up_at:
                noise = noise * np.float32(np.inf)
            return (noise,)

        def construct(self, image, noise):
            error = self.w * image - noise + self.b.sum()
            return (error * error).mean()

    return Line


@pytest.fixture
def train(make_cell, tmp_path):
    """Trains a fresh cell; returns the trainer and the result."""
    from ms_ddpm import Trainer

    def run(steps=12, folder="run", cell=None, **options):
        trainer = Trainer(
            cell or make_cell(),
            "digits",
            **{
                "train_batch_size": 8, "train_num_steps": steps, "save_and_sample_every": 5, "log_every": 2,
                "train_lr": 1e-2, "results_folder": tmp_path / folder, "progress": False, "ema_update_every": 2,
                **options,
            },
        )  # fmt: skip
        return trainer, trainer.train()

    return run


def weights(trainer):
    return {
        **{name: p.asnumpy().copy() for name, p in trainer.cell.parameters_and_names()},
        **{f"ema.{k}": v for k, v in trainer.ema.state().items()},
        **trainer.optimizer.state(trainer.names),
    }


def log(trainer):
    return [json.loads(line) for line in (trainer.folder / "log.jsonl").read_text().splitlines()]


def equal(a, b):
    assert a.keys() == b.keys()
    return all(np.array_equal(a[k], b[k]) for k in a)


def test_a_checkpoint_knows_how_many_images_there_were_however_they_were_named(make_cell, tmp_path):
    from ms_ddpm import Trainer

    images = np.zeros((40, 1, 8, 8), np.uint8)
    np.savez(tmp_path / "im.npz", images=images[:, 0])
    for name in ("digits", tmp_path / "im.npz", str(tmp_path / "im.npz")):
        trainer = Trainer(make_cell(), name, results_folder=tmp_path / "counted", validation_images=8, progress=False)
        assert trainer.arguments["images"] == (1797 if name == "digits" else 40)
        del trainer


def test_a_resumed_run_ends_bit_for_bit_where_the_whole_one_does(train):
    whole, _ = train(12, "whole", validation_images=16)
    train(7, "parts", validation_images=16)
    resumed, _ = train(12, "parts", validation_images=16)
    assert equal(weights(whole), weights(resumed))
    assert [r["step"] for r in log(whole)] == [2, 4, 5, 6, 8, 10, 12]
    assert [r["step"] for r in log(resumed)] == [2, 4, 5, 6, 7, 8, 10, 12]
    same = {r["step"]: r["grad_norm"] for r in log(whole)}
    assert all(same[r["step"]] == r["grad_norm"] for r in log(resumed) if r["step"] in same)
    assert resumed.best_loss == whole.best_loss


def test_a_run_with_everything_on_resumes_bit_for_bit(mindspore, tmp_path):
    """Accumulation, float16 with its loss scale, dropout, self-conditioning, learned variance, offset noise, flips."""
    from ms_ddpm import GaussianDiffusion, Trainer
    from tests.small import SmallNet

    def run(folder, steps, begins_at=0):
        net = SmallNet(self_condition=True, learned_variance=True, dropout=0.2)
        diffusion = GaussianDiffusion(net, image_size=8, timesteps=10, offset_noise_strength=0.1)
        trainer = Trainer(
            diffusion, "digits", train_batch_size=4, gradient_accumulate_every=2, amp_level="O2", optimizer="adamw",
            lr_schedule=lambda step: 0.9**step, train_num_steps=steps, validation_images=4, ema_update_every=2,
            sample_fn=lambda cell, n: np.zeros((n, 1, 8, 8), np.float32), results_folder=tmp_path / folder,
            progress=False, train_lr=1e-3, save_and_sample_every=2,
        )  # fmt: skip
        assert trainer.step == begins_at
        trainer.train()
        return trainer

    whole = run("whole", 5)
    left = Path("checkpoints") / checkpoint.step_name(2)  # as if the run had been stopped there
    shutil.copytree(tmp_path / "whole" / left, tmp_path / "parts" / left)
    resumed = run("parts", 5, begins_at=2)
    assert equal(weights(whole), weights(resumed))
    assert whole.best_loss == resumed.best_loss
    assert whole.scaler.state() == resumed.scaler.state()
    moved = [np.abs(v).max() for k, v in whole.optimizer.state(whole.names).items() if k.startswith("exp_avg.")]
    assert min(moved) > 0, "a parameter without a gradient"


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_model_can_be_sampled_before_it_is_trained(mindspore, tmp_path, capsys, sampler):
    from ms_ddpm import GaussianDiffusion, Trainer, samplers
    from tests.small import SmallNet

    diffusion = GaussianDiffusion(SmallNet(), image_size=8, timesteps=4)
    before = samplers.SAMPLERS[sampler](diffusion, 2, steps=4, seed=0, progress=False).asnumpy()
    options = {"train_batch_size": 4, "train_num_steps": 2, "train_lr": 1e-2, "progress": False}
    Trainer(diffusion, "digits", results_folder=tmp_path, **options).train()
    assert capsys.readouterr().err == "", "a bar, of the training or of its pictures"
    after = samplers.SAMPLERS[sampler](diffusion, 2, steps=4, seed=0, progress=False).asnumpy()
    assert not np.array_equal(before, after), "the sampler kept the old weights"


def test_every_batch_has_draws_of_its_own_and_a_resumed_run_the_same(train, make_cell):
    class Remembering(make_cell):
        def draw(self, rng, batch):
            noise = super().draw(rng, batch)
            seen.append(noise[0][0, 0, 0, :2].tobytes())
            return noise

    seen = []
    train(6, "whole", cell=Remembering(), gradient_accumulate_every=2)
    assert len(set(seen)) == len(seen) == 12
    whole, seen[:] = list(seen), []
    train(4, "parts", cell=Remembering(), gradient_accumulate_every=2)
    train(6, "parts", cell=Remembering(), gradient_accumulate_every=2)
    assert seen == whole


def test_how_long_it_will_take_is_said_once_by_a_resumed_run_too(train, monkeypatch, caplog):
    monkeypatch.setattr("ms_ddpm.training.remaining.WORTH_SAYING", 0.0)
    caplog.set_level("INFO", "ms_ddpm")
    for steps in (12, 24):
        caplog.clear()
        train(steps)
        lines = [r.getMessage() for r in caplog.records if "to go" in r.getMessage()]
        assert len(lines) == 1, lines
        assert lines[0].startswith("about 0 s to go: ")


def test_other_seeds_give_other_runs(train):
    assert not equal(weights(train(3, "a")[0]), weights(train(3, "b", seed=1)[0]))


def test_the_number_of_loading_threads_changes_nothing(train):
    assert equal(weights(train(4, "one")[0]), weights(train(4, "three", workers=3)[0]))


def test_accumulation_takes_the_mean_of_its_batches(make_cell, mindspore):
    """One update from two batches of 4 is the update from their 8 images."""
    from mindspore import Tensor

    from ms_ddpm import Adam
    from ms_ddpm.training.amp import DynamicLossScale
    from ms_ddpm.training.train_step import TrainStep

    rng = np.random.default_rng(0)
    images, noise = rng.random((2, 8, 1, 8, 8)).astype(np.float32)
    results = []
    for parts in (1, 2):
        cell = make_cell()
        step = TrainStep(
            cell,
            Adam(cell.trainable_params(), 1e-2),
            DynamicLossScale(enabled=False),
            max_grad_norm=1.0,
            accumulate=parts,
        )
        for _ in range(2):  # twice: the buffer must be emptied in between
            batches = [
                (Tensor(i), Tensor(n)) for i, n in zip(np.split(images, parts), np.split(noise, parts), strict=True)
            ]
            loss, norm, applied, *_ = step(1e-2, batches)
        results.append((loss, norm, cell.w.asnumpy()))
        assert applied
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)
    assert results[0][2] == pytest.approx(results[1][2], abs=1e-6)


def test_the_log_says_what_a_run_needs_to_be_judged(train):
    trainer, _ = train(10, validation_images=16)
    record = log(trainer)[-1]
    assert {"step", "loss", "lr", "grad_norm", "images_per_s", "peak_rss_mb", "validation_loss"} <= set(record)
    assert record["peak_rss_mb"] > 50
    assert record["images_per_s"] > 0
    assert trainer.best_loss <= record["validation_loss"]


def test_checkpoints_are_named_rotated_and_hold_raw_and_averaged_weights(train):
    trainer, _ = train(20, keep_checkpoint_max=2, validation_images=16)
    assert checkpoint.steps(trainer.checkpoints)[-2:] == [15, 20]
    loaded = checkpoint.load(checkpoint.locate(trainer.folder))
    assert np.array_equal(loaded.arrays["model"]["w"], trainer.cell.w.asnumpy())
    assert np.array_equal(loaded.arrays["ema"]["w"], trainer.ema.state()["w"])
    assert not np.array_equal(loaded.arrays["model"]["w"], loaded.arrays["ema"]["w"])
    assert checkpoint.named_step(trainer.checkpoints, "best") in range(5, 21)


def test_pictures_come_from_the_averaged_weights(train):
    seen = []

    def sample_fn(cell, num):
        seen.append(cell.w.asnumpy().copy())
        return np.zeros((num, 1, 8, 8), np.float32)

    trainer, _ = train(6, sample_fn=sample_fn, num_samples=4, ema_update_every=4)
    assert np.array_equal(seen[-1], trainer.ema.state()["w"])
    assert not np.array_equal(seen[-1], trainer.cell.w.asnumpy())
    assert (trainer.folder / "samples" / "step-00000006.png").stat().st_size > 0


def test_a_step_that_is_not_finite_is_skipped_and_counted(train, make_cell):
    trainer, result = train(8, cell=make_cell(blow_up_at={3, 6}))
    assert (result.step, result.skipped_steps) == (8, 2)
    assert float(trainer.optimizer.steps.asnumpy()) == 6
    assert all(np.isfinite(v).all() for v in weights(trainer).values())
    assert log(trainer)[-1]["skipped_steps"] == 2


def test_too_many_in_a_row_stop_with_a_checkpoint_from_before(train, make_cell):
    from ms_ddpm.errors import NonFiniteError

    reference, _ = train(6, "reference", cell=make_cell())
    cell = make_cell(blow_up_at=set(range(7, 100)))
    with pytest.raises(NonFiniteError, match=r"3 steps in a row, from step 7 on"):
        train(50, "bad", cell=cell, max_nonfinite=3)
    loaded = checkpoint.load(checkpoint.locate(reference.folder.parent / "bad"))
    assert loaded.step == 6
    assert np.array_equal(loaded.arrays["model"]["w"], reference.cell.w.asnumpy())
    assert np.array_equal(loaded.arrays["ema"]["w"], reference.ema.state()["w"])


def test_a_run_that_ends_among_skipped_steps_saves_what_came_before_them(train, make_cell):
    trainer, result = train(8, cell=make_cell(blow_up_at={7, 8}), save_and_sample_every=100)
    assert (result.step, result.skipped_steps) == (8, 2)
    assert checkpoint.steps(trainer.checkpoints) == [6]
    del trainer  # and with it its lock on the directory
    trainer, result = train(8, cell=make_cell(), save_and_sample_every=100)
    assert (result.step, result.skipped_steps) == (8, 0)
    assert checkpoint.steps(trainer.checkpoints) == [6, 8]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops_and_the_run_can_go_on(train, number):
    def stop_at_7(record):
        if record["step"] == 7:
            signal.raise_signal(number)

    stopped, result = train(12, "stopped", on_step=stop_at_7)
    assert (result.step, result.stopped_by) == (7, number)
    assert checkpoint.steps(stopped.checkpoints)[-1] == 7
    del stopped
    resumed, _ = train(12, "stopped")
    assert equal(weights(resumed), weights(train(12, "whole")[0]))


def test_half_precision_trains_and_keeps_its_loss_scale(mindspore, tmp_path):
    from ms_ddpm import GaussianDiffusion, Trainer
    from tests.small import SmallNet

    losses = {}
    for level in ("O0", "O1", "O2"):
        diffusion = GaussianDiffusion(SmallNet(), image_size=8, timesteps=10)
        seen = []
        trainer = Trainer(
            diffusion, "digits", train_batch_size=8, train_num_steps=4, amp_level=level,
            results_folder=tmp_path / level, progress=False,
            sample_fn=lambda cell, n: np.zeros((n, 1, 8, 8), np.float32),
            on_step=lambda record, seen=seen: seen.append(record["loss"]),
        )  # fmt: skip
        trainer.train()
        losses[level] = seen
        scale = json.loads((trainer.checkpoints / "step-00000004" / "state.json").read_text())["training"]["scaler"][
            "scale"
        ]
        assert scale == (1.0 if level == "O0" else 2.0**16)
    for level in ("O1", "O2"):
        assert losses[level] == pytest.approx(losses["O0"], rel=0.02)
        assert losses[level] != losses["O0"], "float16 was not used"


def test_resume_never_refuses_to_bury_a_run(train):
    train(3)
    with pytest.raises(UserError, match="already holds checkpoints up to step 3"):
        train(3, resume="never")


def test_a_checkpoint_of_another_run_is_refused_by_name(train):
    base = {"dim": 16, "train_num_steps": 3, "lr_schedule": "constant"}
    train(3, config=base)
    with pytest.raises(UserError, match="dim was 16, now 32"):
        train(3, config={**base, "dim": 32})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_num_steps": -1}, "train_num_steps is -1"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd', expected one of: adam, adamw"),
        ({"amp_level": "O9"}, "amp_level is 'O9'"),
        ({"lr_schedule": "steps"}, "lr_schedule is 'steps'"),
        ({"warmup_steps": 12}, "warmup_steps is 12"),
        ({"validation_images": 1797}, "1797"),
        ({"resume": "/nowhere"}, "no checkpoint in /nowhere"),
    ],
)
def test_impossible_settings_are_named(train, options, words):
    with pytest.raises(UserError, match=words):
        train(**options)


def test_bars_are_shown_or_not_those_of_anybodys_pictures_too(train, make_cell, capsys):
    from ms_ddpm.bars import bar

    class Painter(make_cell):
        def draw(self, rng, batch):
            time.sleep(0.12)  # a bar is drawn anew every tenth of a second
            return super().draw(rng, batch)

        def sample(self, num, *, seed, progress=True):
            list(bar(range(3), "painting", show=progress))
            return np.zeros((num, 1, 8, 8), np.float32)

    def sample_fn(cell, num):
        return cell.sample(num, seed=0, progress=True)

    train(2, folder="silent", cell=Painter(), sample_fn=sample_fn)
    assert capsys.readouterr().err == ""
    losses = []
    train(
        3, folder="shown", cell=Painter(), progress=True, log_every=100, train_lr=1.0,
        on_step=lambda record: losses.append(record["loss"]),
    )  # fmt: skip
    shown = capsys.readouterr().err
    assert "painting" in shown
    assert f"loss={losses[0]:.4f}, lr=1.0e+00]" in shown  # after the first step
    assert f"loss={np.mean(losses):.4f}, lr=1.0e+00" in shown
    assert len({f"{loss:.3f}" for loss in losses}) == 3
    list(bar(range(2), "afterwards"))
    assert "afterwards" in capsys.readouterr().err
