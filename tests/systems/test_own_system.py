"""A sixth system, in a package of its own: trained, continued and sampled by the scripts as they are."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT

EXAMPLE = ROOT / "examples" / "own_system"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a process in which the example is installed: its entry point is what pip would write."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = tmp_path_factory.mktemp("site") / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text(points)
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, EXAMPLE, info.parent)))}


def run(environment, script, *arguments, code=0):
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-2000:]
    return done.stdout if code == 0 else done.stderr


def test_it_trains_goes_on_and_is_sampled(installed, tmp_path):
    from PIL import Image

    folder = tmp_path / "run"
    asked = ["--system", "flow", "--output_dir", folder, "--arms", 3, "--train_batch_size", 128, "--train_lr", 3e-3,
             "--save_and_sample_every", 100, "--log_every", 10, "--ema_decay", 0.9,
             "--ema_update_every", 1]  # fmt: skip
    said = run(installed, "train.py", *asked, "--train_num_steps", 100)
    assert "flow: 1872 training images (2,)" in said
    asked += ["--mode", 1]  # of what goes on and is drawn nothing is compiled
    assert "resuming at step 100" in run(installed, "train.py", *asked, "--train_num_steps", 200)
    assert "arms was 3, now 4" in run(installed, "train.py", *asked, "--arms", 4, "--train_num_steps", 300, code=2)
    losses = [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    state = json.loads((folder / "checkpoints/step-00000200/state.json").read_text())
    assert (state["config"]["system"], state["config"]["arms"]) == ("flow", 3)
    with Image.open(folder / "samples/step-00000200.png") as picture, Image.open(folder / "samples/real.png") as real:
        assert picture.size == real.size
    said = run(installed, "sample.py", "--checkpoint", folder, "--num", 300, "--sampling_steps", 5, "--mode", 1)
    with np.load(folder / "samples-200" / "points.npz") as kept:
        points = kept["points"]
    assert points.shape == (300, 2)
    assert "grid.png" in said
    radius = np.linalg.norm(points, axis=1)
    assert 0.8 < np.median(radius) < 1.8, "half of the spiral's points lie within 1.4, half of the noise's within 1.2"


def test_its_keys_and_options_are_its_own(installed, tmp_path):
    shown = run(installed, "train.py", "--system", "flow", "--help")
    assert "--arms INT" in shown
    assert "--dim " not in shown
    assert re.search(r"^  flow +rectified flow on points of a spiral$", shown, re.MULTILINE)
    words = "arms is 3, but it belongs to the system flow, and system is score; leave it out, or set system: flow"
    assert words in run(installed, "train.py", "--system", "score", "--arms", 3, code=2)
    assert "arms is '13', expected at most 12" in run(installed, "train.py", "--system", "flow", "--arms", 13, code=2)


def test_a_package_that_is_broken_is_named(installed, tmp_path):
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ms_ddpm.systems]\nbad = no_such_module:SYSTEM\n")
    environment = installed | {"PYTHONPATH": f"{installed['PYTHONPATH']}{os.pathsep}{tmp_path}"}
    words = "the system bad of the package no_such_module cannot be loaded (ModuleNotFoundError"
    said = run(environment, "train.py", "--system", "bad", code=2)
    assert f"error: {words}" in said
    said = run(environment, "train.py", "--system", "flow", "--arms", 13, code=2)  # the others are there
    assert said.startswith(words)
    assert said.splitlines()[-1] == "error: configuration key arms is '13', expected at most 12"


def test_without_the_package_there_is_no_such_system(tmp_path):
    said = run(os.environ | {"PYTHONPATH": str(ROOT)}, "train.py", "--system", "flow", code=2)
    known = "diffusion, autoencoder, corruption, latent, score"
    assert said == f"error: configuration key system is 'flow', expected one of: {known}\n"
