"""kill -9 at random moments: the run that is started again ends with the bits of the one that was never killed."""

import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from ms_ddpm import checkpoint

from .conftest import ROOT
from .test_cli import TINY

STEPS = 60
COMMAND = [
    sys.executable, str(ROOT / "scripts" / "train.py"), *TINY, "--train_num_steps", str(STEPS),
    "--save_and_sample_every", "4", "--keep_checkpoint_max", "2",
]  # fmt: skip


def start(folder):
    return subprocess.Popen(
        [*COMMAND, "--output_dir", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def finish(folder):
    result = subprocess.run([*COMMAND, "--output_dir", str(folder)], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]


def final_arrays(folder):
    loaded = checkpoint.load(checkpoint.locate(folder))
    assert loaded.step == STEPS
    return {f"{group}.{name}": value for group, arrays in loaded.arrays.items() for name, value in arrays.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run, and how long it takes from its first checkpoint to its end."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    process = start(folder)
    while not checkpoint.steps(folder / "checkpoints"):
        assert process.poll() is None
        time.sleep(0.02)
    began = time.monotonic()
    assert process.wait(timeout=600) == 0
    return final_arrays(folder), time.monotonic() - began


def kill_during_a_save(process, folder):
    """Kills as soon as a half-written directory shows."""
    while process.poll() is None:
        if any(name.startswith(".writing") for name in os.listdir(folder)):
            process.kill()
            break
    return process.wait() == -9


def kill_after(process, seconds):
    time.sleep(seconds)
    process.kill()
    return process.wait() == -9


def first_checkpoint(process, folder):
    while not checkpoint.steps(folder):
        assert process.poll() is None
        time.sleep(0.01)


def killed_runs_end_alike(whole, tmp_path, kills, seed):
    truth, duration = whole
    rng = random.Random(seed)
    folder = tmp_path / "run"
    hits = during_saves = 0
    for i in range(kills):
        process = start(folder)
        if i % 3 == 0:  # among them during a save
            while not (folder / "checkpoints").is_dir():
                assert process.poll() is None
                time.sleep(0.01)
            hit = kill_during_a_save(process, folder / "checkpoints")
            during_saves += hit
        else:
            first_checkpoint(process, folder / "checkpoints")
            hit = kill_after(process, rng.uniform(0, duration / 3))
        hits += hit
        if checkpoint.steps(folder / "checkpoints"):
            checkpoint.load(checkpoint.locate(folder))  # whole, whatever the moment
        if hit is False:  # it ended before it could be killed
            break
    assert hits >= 1
    assert during_saves >= 1
    finish(folder)
    result = final_arrays(folder)
    assert result.keys() == truth.keys()
    assert [name for name in truth if not np.array_equal(truth[name], result[name])] == []
    lines = (folder / "log.jsonl").read_text().splitlines()
    steps = [int(line.split('"step": ')[1].split(",")[0]) for line in lines]
    assert steps == sorted(set(steps)), "each step stands in the log once"
    return hits


def test_three_kills_leave_no_trace(whole, tmp_path):
    killed_runs_end_alike(whole, tmp_path, 3, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 8))
def test_twenty_kills_leave_no_trace(whole, tmp_path, seed):
    """Seven runs of three kills each, besides the three of CI."""
    killed_runs_end_alike(whole, tmp_path, 3, seed=seed)
