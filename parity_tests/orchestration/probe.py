"""The Trainer on a model whose every number is known, and what it did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .twin import CLASSES, SHAPE, Arrays, Settings, Story, draws, start_weights

MOMENTS = ("exp_avg", "exp_avg_sq")


def make_probe(settings: Settings, weights: Arrays | None = None, drawn: Callable = lambda numbers: None):
    """A conditional Cell with the loss of `twin.loss_and_gradient`; ``drawn(numbers)`` is told of every picture."""
    import mindspore as ms
    from mindspore import Parameter, nn, ops

    weights = start_weights() if weights is None else weights

    class Probe(nn.Cell):
        channels, image_size, conditional, num_classes = SHAPE[0], SHAPE[1:], True, CLASSES

        def __init__(self):
            super().__init__()
            self.w, self.c = (Parameter(weights[name].astype(np.float32), name=name) for name in ("w", "c"))

        def draw(self, rng, batch):
            return draws(rng, batch[0].shape, self.training, settings.bad_share)

        def construct(self, image, labels, noise, keep):
            of_class = ops.gather(self.c, labels, 0).reshape(-1, 1, 1, 1)
            error = keep * self.w * image + of_class - noise
            return (error * error).mean()

        def sample(self, num, *, seed):
            drawn({"w": self.w.asnumpy().copy(), "c": self.c.asnumpy().copy(), "num": num, "seed": seed})
            return ms.Tensor(np.zeros((num, *SHAPE), np.float32))

    return Probe()


def make_trainer(settings: Settings, folder: Path, story: Story, weights: Arrays | None = None, **options):
    """A Trainer of `Settings` that tells ``story``."""
    from ms_ddpm import Trainer
    from ms_ddpm.data import array_source

    s = settings

    def drawn(picture: dict) -> None:
        story.pictures[len(story.pictures)] = picture

    trainer = Trainer(
        make_probe(s, weights, drawn), array_source("pixels", s.pixels(), s.labels()),
        results_folder=folder, on_step=lambda record: story.steps.append(dict(record)),
        **{
            "train_batch_size": s.batch, "gradient_accumulate_every": s.accumulate, "train_lr": s.lr,
            "lr_schedule": s.factor, "train_num_steps": s.steps, "save_and_sample_every": s.every, "epochs": s.epochs,
            "log_every": s.log_every, "seed": s.seed, "adam_betas": s.betas, "weight_decay": s.decay,
            "optimizer": "adamw", "max_grad_norm": s.max_norm, "ema_decay": s.ema_decay,
            "ema_update_every": s.ema_every, "validation_images": s.validation, "num_samples": s.pictures,
            "amp_level": "O2" if s.scaled else "O0", "keep_checkpoint_max": 0, "progress": False, **options,
        },
    )  # fmt: skip
    trainer.ema.update_after_step = s.ema_after  # otherwise the average is a copy for 101 calls
    return trainer


def state_of(trainer) -> dict:
    """What ``trainer`` would write into a checkpoint now, as `twin.Twin.kept` has it."""
    moments = trainer.optimizer.state(trainer.names)
    return {
        "model": {name: p.asnumpy().copy() for name, p in trainer.cell.parameters_and_names()},
        "ema": trainer.ema.state(),
        **{key: {name: moments[f"{key}.{name}"] for name in trainer.names} for key in MOMENTS},
        "updates": float(moments["steps"][0]), "calls": trainer.ema.calls, "skipped": trainer.skipped,
        "best_loss": trainer.best_loss, "best_step": trainer.best_step, "epoch_losses": trainer.epochs.state(),
        **{key: trainer.scaler.state()[key] for key in ("scale", "good_steps")},
    }  # fmt: skip


def written(folder: Path, step: int) -> dict:
    """The checkpoint of ``step`` under ``folder``, as `twin.Twin.kept` has it."""
    from ms_ddpm import checkpoint

    loaded = checkpoint.load(folder / "checkpoints" / checkpoint.step_name(step))
    training, moments = loaded.state["training"], loaded.arrays["optimizer"]
    return {
        "model": loaded.arrays["model"], "ema": loaded.arrays["ema"],
        **{key: {name: moments[f"{key}.{name}"] for name in loaded.arrays["ema"]} for key in MOMENTS},
        "updates": float(moments["steps"][0]), "calls": training["ema_calls"], "skipped": training["skipped_steps"],
        "best_loss": training["best_loss"], "best_step": training["best_step"],
        "epoch_losses": training.get("epoch_losses", [0.0, 0]),
        **{key: training["scaler"][key] for key in ("scale", "good_steps")},
    }  # fmt: skip


def finish(trainer, story: Story) -> Story:
    """Trains to the end and completes ``story`` from what was written."""
    from ms_ddpm import checkpoint

    trainer.train()
    story.log = [json.loads(line) for line in (trainer.folder / "log.jsonl").read_text().splitlines()]
    story.checkpoints = {step: written(trainer.folder, step) for step in checkpoint.steps(trainer.checkpoints)}
    story.best = checkpoint.named_step(trainer.checkpoints, "best")
    return story


def assert_same(told, expected, where: str = "") -> None:
    """``told`` holds what ``expected`` holds, to float32's precision. ``told`` may hold more names."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert key in told, f"{where}: no {key}"
            assert_same(told[key], value, f"{where} {key}".strip())
    elif isinstance(expected, (list, tuple)) and not all(isinstance(v, (int, float)) for v in expected):
        assert len(told) == len(expected), f"{where}: {len(told)} of {len(expected)}"
        for i, (mine, value) in enumerate(zip(told, expected, strict=True)):
            assert_same(mine, value, f"{where}[{i}]")
    elif expected is None or isinstance(expected, int):
        assert told == expected, f"{where} is {told}, expected {expected}"
    else:
        given, wanted = np.asarray(told, np.float64), np.asarray(expected, np.float64)
        assert given.shape == wanted.shape, f"{where} has shape {given.shape}, expected {wanted.shape}"
        same = np.isclose(given, wanted, rtol=2e-4, atol=2e-5, equal_nan=True)
        assert same.all(), f"{where} is {given.ravel()[:4]}, expected {wanted.ravel()[:4]}"


def assert_same_story(told: Story, expected: Story, after: int = 0) -> None:
    """``told`` is the part of ``expected`` that came after step ``after``, whose own picture was lost."""
    assert_same(told.steps, [record for record in expected.steps if record["step"] > after], "steps")
    lines = {record["step"]: record for record in told.log}
    for record in expected.log:
        if record["step"] > after:
            assert record["step"] in lines, f"the log has no line of step {record['step']}"
            wanted = {key: value for key, value in record.items() if key != "skipped_steps" or value}
            if record["skipped_steps"] == 0:
                assert "skipped_steps" not in lines[record["step"]]
            assert_same(lines[record["step"]], wanted, f"log of step {record['step']}:")
    wanted = {step: kept for step, kept in expected.checkpoints.items() if step > after}
    assert set(wanted) <= set(told.checkpoints), f"checkpoints {sorted(told.checkpoints)}, expected {sorted(wanted)}"
    for step, kept in wanted.items():
        assert_same(told.checkpoints[step], kept, f"checkpoint {step}:")
    drawn = {step: picture for step, picture in expected.pictures.items() if step >= after}
    assert_same(list(told.pictures.values()), list(drawn.values()), "pictures")
    assert told.best == expected.best, f"best is {told.best}, expected {expected.best}"
