"""kill -9 at random moments: the run that is started again ends with the bits of the one that was never killed."""

import json
import os
import random
import time
from typing import NamedTuple

import numpy as np
import pytest

from ms_ddpm import checkpoint
from parity_tests.conftest import RUN_ALL
from tests.cli.test_cli import TINY
from tests.processes import begun, script

STEPS, EVERY = 120 if RUN_ALL else 24, 4  # with --all a run is killed more often, in compilation too
MODE = () if RUN_ALL else ("--mode", "1")
OPTIONS = [
    *TINY, "--train_num_steps", STEPS, "--save_and_sample_every", EVERY, "--keep_checkpoint_max", 2, *MODE,
]  # fmt: skip


def start(folder):
    return begun("train", *OPTIONS, "--output_dir", folder)


def finish(folder):
    result = script("train", *OPTIONS, "--output_dir", folder, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]


def final_arrays(folder):
    loaded = checkpoint.load(checkpoint.locate(folder))
    assert loaded.step == STEPS
    return {f"{group}.{name}": value for group, arrays in loaded.arrays.items() for name, value in arrays.items()}


class Whole(NamedTuple):
    """The run that was never killed, how long it took to its first checkpoint, and from there to its end."""

    arrays: dict
    pictures: set
    best: str
    startup: float
    seconds: float


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    launched = time.monotonic()
    process = start(folder)
    while not checkpoint.steps(folder / "checkpoints"):
        assert process.is_alive()
        time.sleep(0.02)
    began = time.monotonic()
    process.join(600)
    assert process.exitcode == 0
    seconds = time.monotonic() - began
    best = (folder / "checkpoints" / "best").read_text()
    return Whole(final_arrays(folder), set(os.listdir(folder / "samples")), best, began - launched, seconds)


def names(folder):
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def kill_when(process, due):
    """Kills as soon as ``due()``; whether the process was still there to be killed."""
    while process.is_alive():
        if due():
            process.kill()
            break
        time.sleep(0.001)
    process.join()
    return process.exitcode == -9


def in_a_save(process, run, rng, whole):
    return kill_when(process, lambda: any(name.startswith(".writing-step") for name in names(run / "checkpoints")))


def in_rotation(process, run, rng, whole):
    return kill_when(process, lambda: any(name.startswith(".writing-removed") for name in names(run / "checkpoints")))


def in_a_picture(process, run, rng, whole):
    return kill_when(process, lambda: any(name.startswith(".writing-step") for name in names(run / "samples")))


def at_a_random_moment(process, run, rng, whole):
    """Between the first checkpoint of this attempt and its end, most likely in the middle of a step."""
    before = checkpoint.steps(run / "checkpoints")[-1:]
    moment = []

    def due():
        if not moment and checkpoint.steps(run / "checkpoints")[-1:] != before:
            moment.append(time.monotonic() + rng.uniform(0, whole.seconds / 4))
        return moment and time.monotonic() > moment[0]

    return kill_when(process, due)


def in_startup(process, run, rng, whole):
    """Before a resumed run says in its log that it is on its way: imports, reading, clean-up, compilation."""
    moment = time.monotonic() + rng.uniform(0, whole.startup)
    return kill_when(process, lambda: time.monotonic() > moment)


def in_compilation(process, run, rng, whole):
    """Shortly after the run holds its directory (config.yaml is written last before the first graph is compiled)."""
    (run / "config.yaml").unlink(missing_ok=True)
    moment = []

    def due():
        if not moment and (run / "config.yaml").exists():
            moment.append(time.monotonic() + rng.uniform(0, whole.startup / 4))
        return moment and time.monotonic() > moment[0]

    return kill_when(process, due)


def in_the_clean_up(process, run, rng, whole):
    """While a resumed run removes what a killed one left; here that is a little more than usual."""
    for i in range(200):
        left = run / "checkpoints" / f".writing-step-00000001-{i}"
        left.mkdir(parents=True, exist_ok=True)
        (left / "model.safetensors").write_bytes(b"half")
    folder = run / "checkpoints"
    return kill_when(process, lambda: sum(name.startswith(".writing-step-00000001") for name in names(folder)) < 200)


MOMENTS = (in_a_save, at_a_random_moment, in_a_picture, in_rotation, in_startup, in_compilation, in_the_clean_up)


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


def killed_runs_end_alike(whole, tmp_path, moments, *, per_run, seed):
    """A run is killed ``per_run`` times and then let end; further kills are of a fresh one."""
    rng = random.Random(seed)
    hits = []
    for i, moment in enumerate(moments):
        folder = tmp_path / f"run{i // per_run}"
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        hits.append(moment(start(folder), folder, rng, whole))
        for step in checkpoint.steps(folder / "checkpoints"):  # whole, whatever the moment
            checkpoint.check(folder / "checkpoints" / checkpoint.step_name(step))
        if i % per_run == per_run - 1 or i == len(moments) - 1:
            finish_and_compare(folder, whole)
    return hits


def test_three_kills_leave_no_trace(whole, tmp_path):
    assert all(killed_runs_end_alike(whole, tmp_path, MOMENTS[:3], per_run=3, seed=0))


@pytest.mark.slow
def test_fifty_kills_leave_no_trace(whole, tmp_path):
    moments = [MOMENTS[i % len(MOMENTS)] for i in range(50)]
    hits = killed_runs_end_alike(whole, tmp_path, moments, per_run=5, seed=1)
    missed = [moment.__name__ for moment, hit in zip(moments, hits, strict=True) if not hit]
    assert len(missed) <= 5, missed  # a run may end before it is killed in rotation, which takes a millisecond
