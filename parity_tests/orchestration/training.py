"""What the Trainer does around the network, held against its twin in numpy: `CHECKS`."""

from __future__ import annotations

import atexit
import functools
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np

from .probe import assert_same, assert_same_story, finish, make_trainer, state_of
from .twin import Settings, Story, Twin, start_weights, turning

SCALED = Settings(seed=20, bad_share=0.15, scaled=True)  # skips steps 2, 6 and 11; step 8 is the best
PLAIN = Settings(seed=20, bad_share=0.15)
ACCUMULATED = Settings(seed=1, accumulate=2)
BY_EPOCHS = Settings(seed=20, bad_share=0.1, epochs=3, validation=0, factor=turning(13))  # of 7 steps; skips 2, 11, 16


@functools.cache
def expected(settings: Settings) -> Story:
    """What the twin tells of ``settings``."""
    return Twin(settings).run()


def other_weights() -> dict[str, np.ndarray]:
    """Weights that no run has: what a Trainer that goes on begins with."""
    return {name: value + 5 for name, value in start_weights().items()}


def whole_run(settings: Settings, folder: Path) -> Path:
    """A run from beginning to end; where it wrote."""
    story = Story()
    trainer = make_trainer(settings, folder / "whole", story)
    assert_same_story(finish(trainer, story), expected(settings))
    return trainer.folder


def goes_on(settings: Settings, folder: Path, step: int) -> None:
    """The run ``folder`` continued from its checkpoint of ``step``: what it starts with, and its rest."""
    story = Story()
    trainer = make_trainer(settings, folder, story, weights=other_weights())
    assert trainer.step == step, f"goes on at step {trainer.step}, expected {step}"
    if step in expected(settings).checkpoints:
        assert_same(state_of(trainer), expected(settings).checkpoints[step], f"after loading step {step}:")
    assert_same_story(finish(trainer, story), expected(settings), after=step)


def check_a_run(folder: Path) -> None:
    """One batch a step (by the C++ kernels, where they are), with a loss scale and skipped steps."""
    whole_run(SCALED, folder)


def check_a_run_by_operators(folder: Path) -> None:
    """One batch a step by MindSpore's operators alone."""
    from ms_ddpm.ops import kernels

    with kernels.switched_off():
        whole_run(PLAIN, folder)


def check_accumulation(folder: Path) -> None:
    """Two batches a step."""
    whole_run(ACCUMULATED, folder)


def check_epochs(folder: Path) -> None:
    """A run counted in epochs, without validation images."""
    whole_run(BY_EPOCHS, folder)


def _only(whole: Path, to: Path, last: int) -> Path:
    """A copy of a run as a kill left it, just after its checkpoint of step ``last`` was in place."""
    from ms_ddpm import checkpoint

    for step in checkpoint.steps(whole / "checkpoints"):
        if step <= last:
            name = checkpoint.step_name(step)
            shutil.copytree(whole / "checkpoints" / name, to / "checkpoints" / name)
    return to


@functools.cache
def finished(settings: Settings) -> Path:
    """Where a whole run of ``settings`` lies, to be continued from its middle; made once, see `prepare`."""
    folder = Path(tempfile.mkdtemp(prefix="orchestration_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    finish(make_trainer(settings, folder, Story()), Story())
    return folder


def prepare() -> None:
    """Makes what checks share. Called before any bug is put in, which it would otherwise be made with."""
    for settings in (SCALED, ACCUMULATED):
        finished(settings)


def check_resume(folder: Path) -> None:
    """Goes on from step 8, the best, and from step 4; both before the file ``best`` was written."""
    for step in (8, 4):
        goes_on(SCALED, _only(finished(SCALED), folder / f"from-{step}", step), step)


def check_resume_within_an_epoch(folder: Path) -> None:
    """Stopped by a signal within the second epoch and continued; batches are counted, not steps."""
    settings, story = BY_EPOCHS, Story()
    trainer = make_trainer(settings, folder, story)
    tell = trainer.on_step

    def stop_at_12(record):
        tell(record)
        if record["step"] == 12:
            signal.raise_signal(signal.SIGTERM)

    trainer.on_step = stop_at_12
    result = trainer.train()
    assert (result.step, result.stopped_by) == (12, signal.SIGTERM)
    trainer.close()
    goes_on(settings, folder, 12)


def check_resume_with_accumulation(folder: Path) -> None:
    """Goes on from step 8 of a run whose steps are two batches."""
    goes_on(ACCUMULATED, _only(finished(ACCUMULATED), folder / "parts", 8), 8)


def check_resume_of_an_older_checkpoint(folder: Path) -> None:
    """What an older version or convert.py writes does not say how many batches were seen: as many as its steps are."""
    from ms_ddpm import checkpoint

    loaded = checkpoint.load(finished(ACCUMULATED) / "checkpoints" / checkpoint.step_name(8))
    state = {key: value for key, value in loaded.state.items() if key not in ("files", "sha256", "step")}
    unknown = ("arguments", "workers", "batches_seen", "epoch_losses")
    state["training"] = {key: value for key, value in state["training"].items() if key not in unknown}
    checkpoint.save(folder / "parts" / "checkpoints", 8, loaded.arrays, state)
    goes_on(ACCUMULATED, folder / "parts", 8)


def check_no_decay(folder: Path) -> None:
    """A decay of 0 is asked for, not left out; what is left out is the optimizer's own."""
    from mindspore import Parameter

    from ms_ddpm import Adam, AdamW

    for kind, own in ((Adam, 0.0), (AdamW, 0.01)):
        for asked, wanted in ((None, own), (0.0, 0.0), (0.3, 0.3)):
            made = kind([Parameter(np.ones(2, np.float32), name="p")], weight_decay=asked)
            assert made.weight_decay == wanted, f"{kind.__name__} of {asked} decays by {made.weight_decay}"


def check_fixtures_differ() -> None:
    """What could be confused in these runs is not equal: otherwise they would show nothing."""
    for settings in (SCALED, PLAIN, ACCUMULATED, BY_EPOCHS):
        told = expected(settings)
        last = max(told.checkpoints)
        assert told.best not in (min(set(told.checkpoints) - {0}), last)
        for step, kept in told.checkpoints.items():
            if step:
                for name in kept["model"]:
                    assert np.abs(kept["model"][name] - kept["ema"][name]).max() > 0.01, (step, name)
        assert len({record["lr"] for record in told.steps}) == len(told.steps)
        norms = [record["grad_norm"] for record in told.steps if np.isfinite(record["grad_norm"])]
        assert min(norms) < 0.8 * settings.max_norm < settings.max_norm < 0.7 * max(norms), "some are clipped"
        if settings.bad_share:
            assert told.checkpoints[last]["calls"] != last
        if settings.validation:
            twin = Twin(settings)
            for step, kept in told.checkpoints.items():
                assert (
                    not step or abs(twin.validation_loss(kept["model"]) / twin.validation_loss(kept["ema"]) - 1) > 1e-3
                )


CHECKS = {
    "training/run": check_a_run,
    "training/by_operators": check_a_run_by_operators,
    "training/accumulated": check_accumulation,
    "training/epochs": check_epochs,
    "training/resume": check_resume,
    "training/resume_in_epoch": check_resume_within_an_epoch,
    "training/resume_accumulated": check_resume_with_accumulation,
    "training/resume_older": check_resume_of_an_older_checkpoint,
    "training/no_decay": check_no_decay,
}
