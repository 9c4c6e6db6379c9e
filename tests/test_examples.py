"""The scripts of examples/ run as they stand there, made small; for own_system see tests/systems."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SMALL = {
    "first_ddpm": ("--steps", "2", "--noise_levels", "2", "--mode", "1"),
    "explain": ("--steps", "1", "--mode", "1"),
    "own_port": ("--quick",),
}


def printed(name, folder, *arguments):
    """What the example prints in an empty folder."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / f"examples/{name}.py"), *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_example_is_tried_and_a_page_names_it():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(SMALL)
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    for name in SMALL:
        assert pages.count(f"examples/{name}.py") >= 2, "a page and its Chinese twin"


def test_the_first_ddpm_trains_and_draws(mindspore, tmp_path):
    from PIL import Image

    losses = re.findall(r"step \d+: loss ([\d.]+)", printed("first_ddpm", tmp_path, *SMALL["first_ddpm"]))
    assert 0.5 < float(losses[0]) < 2
    with Image.open(tmp_path / "first_ddpm.png") as picture:
        assert picture.getextrema() not in (((0, 0),) * 3, (0, 0))


def test_the_corruption_models_pictures_are_drawn(mindspore, tmp_path):
    names = printed("explain", tmp_path, *SMALL["explain"]).split()[-3:]
    assert names == [f"runs/explained/{name}.png" for name in ("noises", "predictions", "history")]
    assert all((tmp_path / name).stat().st_size > 1000 for name in names)


def test_a_port_agrees_and_with_a_planted_fault_is_told_where_it_differs(mindspore, tmp_path):
    pytest.importorskip("torch")
    lines = printed("own_port", tmp_path, *SMALL["own_port"]).splitlines()
    assert "agree: the port" in lines
    assert "differ: the port with MindSpore's own epsilon" in lines
    assert lines[-1] == "first culprit: norm"


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_an_example_runs_as_its_first_lines_say(mindspore, name, tmp_path):
    if name == "own_port":
        pytest.importorskip("torch")
    said = printed(name, tmp_path)
    if name == "first_ddpm":
        losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", said)]
        assert losses[-1] < 0.3 < losses[0]
