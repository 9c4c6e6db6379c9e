"""Checkpoints: whole or not at all, verified when read, rotated."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ms_ddpm import checkpoint
from ms_ddpm.errors import UserError
from tests.conftest import ROOT


def arrays(value=1.0):
    return {name: {"w": np.full((2, 3), value, np.float32)} for name in ("model", "ema", "optimizer")}


def save(folder, step, value=1.0, **options):
    return checkpoint.save(folder, step, arrays(value), {"config": None}, **options)


def test_what_is_read_is_what_was_written(tmp_path):
    path = save(tmp_path, 16, value=2.5)
    assert path.name == "step-00000016"
    loaded = checkpoint.load(path)
    assert loaded.step == 16
    assert np.array_equal(loaded.arrays["ema"]["w"], np.full((2, 3), 2.5))
    assert (tmp_path / "last").read_text() == "step-00000016\n"


def test_rotation_keeps_the_newest_and_the_best(tmp_path):
    for step in range(1, 7):
        save(tmp_path, step, keep_max=2)
        if step == 2:
            checkpoint.mark_best(tmp_path, step)
    assert checkpoint.steps(tmp_path) == [2, 5, 6]
    assert checkpoint.locate(tmp_path, "best").name == "step-00000002"


def test_the_same_step_is_replaced_whole(tmp_path):
    save(tmp_path, 3, value=1)
    path = save(tmp_path, 3, value=2)
    assert checkpoint.load(path).arrays["model"]["w"][0, 0] == 2


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-1], "bytes, expected"),
        (lambda data: data + b"x", "bytes, expected"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "checksum"),
        (lambda data: data[:8] + bytes([data[8] ^ 4]) + data[9:], "checksum"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, damage, words):
    path = save(tmp_path, 1)
    file = path / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=words) as caught:
        checkpoint.load(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": "1", "files": {}}', '{"step": 1, "files": {}}', "\x00\xff"])
def test_a_damaged_state_is_named(tmp_path, text):
    path = save(tmp_path, 1)
    (path / "state.json").write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=r"state\.json"):
        checkpoint.load(path)


def test_a_kill_at_any_moment_of_a_save_leaves_the_last_one(tmp_path, monkeypatch):
    """Every system call of a save is made the last one in turn."""
    save(tmp_path, 1, value=1)

    class Killed(BaseException):
        pass

    calls = {"left": 0}

    def dying(function):
        def call(*args, **kwargs):
            calls["left"] -= 1
            if calls["left"] < 0:
                raise Killed
            return function(*args, **kwargs)

        return call

    remove = shutil.rmtree

    def gut(path, **kwargs):
        """Removes one file of a tree before it is killed."""
        if calls["left"] == 0 and os.path.isdir(path) and os.listdir(path):
            os.unlink(os.path.join(path, sorted(os.listdir(path))[0]))
        remove_or_die(path, **kwargs)

    remove_or_die = dying(remove)
    monkeypatch.setattr(shutil, "rmtree", gut)
    for name in ("fsync", "rename", "replace"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    survived = 0
    for replaced in (False, True):  # whether the step that is saved is there already
        for moment in range(20):
            calls["left"] = 10**6
            if replaced:
                save(tmp_path, 2, value=2)
            else:
                remove(tmp_path / "step-00000002", ignore_errors=True)
            calls["left"] = moment
            try:
                save(tmp_path, 2, value=2)
            except Killed:
                survived += 1
            calls["left"] = 10**6
            found = checkpoint.load(checkpoint.locate(tmp_path))
            assert found.arrays["model"]["w"][0, 0] == found.step
            checkpoint.clean(tmp_path)
            assert not list(tmp_path.glob(".writing*"))
    assert survived >= 15, "the moments must lie within the save"


def test_a_directory_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device; earlier checkpoints are intact"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == ["last", "step-00000001"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    """For real: the operating system refuses to write more than 300 bytes into a file."""
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from pathlib import Path
from ms_ddpm import checkpoint
from ms_ddpm.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
try:
    checkpoint.save(Path({str(tmp_path)!r}), 1, {{"model": {{"w": np.zeros(1000, np.float32)}}}}, {{}})
except UserError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "File too large; earlier checkpoints are intact" in result.stdout, result.stderr
    assert os.listdir(tmp_path) == []


def test_another_architecture_is_named(tmp_path):
    given = {"a": np.zeros(2), "b": np.zeros((2, 2)), "d": np.zeros(1)}
    with pytest.raises(UserError, match=r"missing c; unexpected d; b has shape \(2, 2\), expected \(3, 2\)"):
        checkpoint.match(given, {"a": (2,), "b": (3, 2), "c": (1,)}, "checkpoint X")


def test_places_without_a_checkpoint_are_named(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in"):
        checkpoint.locate(tmp_path / "nothing")
    save(tmp_path, 4)
    with pytest.raises(UserError, match="no 'best' checkpoint"):
        checkpoint.locate(tmp_path, "best")


def test_a_state_that_was_changed_is_named(tmp_path):
    path = save(tmp_path, 1)
    text = (path / "state.json").read_text()
    for changed in (text.replace('"step": 1', '"step": 2'), text[:-1]):
        (path / "state.json").write_text(changed)
        with pytest.raises(UserError, match=r"state\.json is damaged"):
            checkpoint.load(path)


def test_state_holds_a_checksum_per_file(tmp_path):
    state = json.loads((save(tmp_path, 1) / "state.json").read_text())
    assert set(state["files"]) == {f"{name}.safetensors" for name in arrays()}
    assert all(len(entry["sha256"]) == 64 for entry in state["files"].values())
