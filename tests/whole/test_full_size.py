"""Networks of the published sizes: random weights that PyTorch wrote, streamed by us, and both sides' results.

No package carries the published weights. What they ask of a reader is all here: 3.4 GB in one file, 686 tensors.
"""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

pytestmark = pytest.mark.slow
SIZES = {  # parameters and tensors
    "text_encoder": (123_060_480, 196),
    "vae": (83_653_863, 248),
    "unet": (859_520_964, 686),
    "cifar10": (35_746_307, 328),
}
MOST = 10 * 2**30  # bytes of memory that any of the processes may take


def run(side, name, folder, **environment):
    """What the process says of itself, which is printed too, and its results."""
    command = [sys.executable, "-m", "tests.full_size_run", side, name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    with np.load(folder / f"{side}.npz") as file:
        return said, {key: file[key] for key in file.files}


def told(name, who, said):
    """A line of what it took."""
    seconds = ", ".join(f"{what} {took:.1f} s" for what, took in said["seconds"].items())
    return f"{name}, {who}: {said['peak'] / 2**30:.2f} GiB at most; {seconds}"


@pytest.fixture
def folder(tmp_path):
    """Where gigabytes lie no longer than the test takes."""
    made = tmp_path / "network"
    made.mkdir()
    yield made
    shutil.rmtree(made)


def errors(found, expected):
    """Of the largest of each array; of a gradient of at least a thousandth of the largest of all gradients.

    The latter for the bias of a key, whose gradient is zero but for rounding: the softmax does not see it.
    """
    assert found.keys() == expected.keys()
    largest = {key: float(abs(value).max()) for key, value in expected.items()}
    least = 1e-3 * max((value for key, value in largest.items() if key.startswith("gradient")), default=0.0)
    return {
        key: float(abs(found[key] - value).max()) / max(largest[key], least if key.startswith("gradient") else 0.0)
        for key, value in expected.items()
    }


@pytest.mark.parametrize("name", SIZES)
def test_a_network_of_the_published_size_computes_what_its_original_does(name, folder, capsys):
    from ms_ddpm.ops import kernels

    theirs, expected = run("torch", name, folder)
    lines, worst = [told(name, "PyTorch", theirs)], {}
    sides = {"MindSpore's operators": {"MS_DDPM_KERNELS": "0"}}
    if not kernels.why_not():
        sides["the C++ kernels"] = {}
    for who, environment in sides.items():
        ours, found = run("ours", name, folder, **environment)
        lines.append(told(name, who, ours))
        assert (ours["parameters"], ours["tensors"]) == (theirs["parameters"], theirs["tensors"]) == SIZES[name]
        assert max(ours["peak"], theirs["peak"]) < MOST, lines
        worst[who] = errors(found, expected)
    with capsys.disabled():
        print("", *lines, sep="\n")
        for who, ones in worst.items():
            outputs = {key: error for key, error in ones.items() if not key.startswith("gradient")}
            print(f"{name}, {who}: errors", ", ".join(f"{key} {error:.1e}" for key, error in outputs.items()))
    for who, ones in worst.items():
        for key, error in ones.items():
            assert error < (1e-4 if key.startswith("gradient") else 1e-5), (who, key, error)
