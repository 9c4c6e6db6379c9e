"""kill -9 at random moments: the run that is started again ends with the bits of the one that was never killed."""

import json
import os
import random
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest

from ms_ddpm import checkpoint

from .conftest import ROOT
from .test_cli import TINY

STEPS, EVERY = 120, 4
COMMAND = [
    sys.executable, str(ROOT / "scripts" / "train.py"), *TINY, "--train_num_steps", str(STEPS),
    "--save_and_sample_every", str(EVERY), "--keep_checkpoint_max", "2",
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


class Whole(NamedTuple):
    """The run that was never killed, and how long it took from its first checkpoint to its end."""

    arrays: dict
    pictures: set
    best: str
    seconds: float


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    process = start(folder)
    while not checkpoint.steps(folder / "checkpoints"):
        assert process.poll() is None
        time.sleep(0.02)
    began = time.monotonic()
    assert process.wait(timeout=600) == 0
    seconds = time.monotonic() - began
    best = (folder / "checkpoints" / "best").read_text()
    return Whole(final_arrays(folder), set(os.listdir(folder / "samples")), best, seconds)


def kill_during_a_save(process, folder):
    """Kills as soon as a half-written directory shows."""
    while process.poll() is None:
        if any(name.startswith(".writing") for name in os.listdir(folder)):
            process.kill()
            break
    return process.wait() == -9


def kill_at_a_random_moment(process, folder, rng, duration):
    """Kills between the first checkpoint of this attempt and its end, most likely in the middle of a step."""
    before = checkpoint.steps(folder)[-1:]
    while checkpoint.steps(folder)[-1:] == before:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    time.sleep(rng.uniform(0, duration / 4))
    process.kill()
    return process.wait() == -9


def finish_and_compare(folder, whole):
    """Lets the run end and compares every bit of it with the run that was never killed."""
    finish(folder)
    result = final_arrays(folder)
    assert result.keys() == whole.arrays.keys()
    assert [name for name, value in whole.arrays.items() if not np.array_equal(value, result[name])] == []
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), "each step stands in the log once"
    assert set(range(EVERY, STEPS + 1, EVERY)) <= set(steps), "every step that was saved is in the log"
    assert whole.pictures <= set(os.listdir(folder / "samples"))
    assert (folder / "checkpoints" / "best").read_text() == whole.best


def killed_runs_end_alike(whole, tmp_path, kills, seed):
    """A run is killed three times, first during a save, and then let end; further kills are of a fresh one."""
    rng = random.Random(seed)
    hits = during_saves = 0
    folder = tmp_path / "run0"
    for i in range(kills):
        if i and i % 3 == 0:
            finish_and_compare(folder, whole)
            folder = tmp_path / f"run{i}"
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        process = start(folder)
        if i % 3 == 0:
            hit = kill_during_a_save(process, folder / "checkpoints")
            during_saves += hit
        else:
            hit = kill_at_a_random_moment(process, folder / "checkpoints", rng, whole.seconds)
        hits += hit
        if checkpoint.steps(folder / "checkpoints"):
            checkpoint.load(checkpoint.locate(folder))  # whole, whatever the moment
    finish_and_compare(folder, whole)
    assert (hits, during_saves) == (kills, (kills + 2) // 3)


def test_three_kills_leave_no_trace(whole, tmp_path):
    killed_runs_end_alike(whole, tmp_path, 3, seed=0)


@pytest.mark.slow
def test_twenty_kills_leave_no_trace(whole, tmp_path):
    killed_runs_end_alike(whole, tmp_path, 20, seed=1)
