"""A check where there is no PyTorch, on a device that is not here: what it is told, what it says of itself."""

import argparse
import json
import os
import subprocess
import sys

import pytest

from ms_ddpm import runtime
from parity_tests import cli, device
from parity_tests.cases import SMALL

from .conftest import ROOT

# Neither PyTorch nor a library made of it can be imported, and the CPU passes for an Ascend.
STAND_IN = """
import importlib.abc, sys
class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "torch_ref", "diffusers", "denoising_diffusion_pytorch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without())
sys.path.insert(0, ROOT)
if STANDS_IN:
    from ms_ddpm import runtime
    setup = runtime.setup
    def setup_of_another(device_target, **options):
        assert device_target == "Ascend", device_target
        setup("CPU", **options)
    runtime.setup, runtime.device_target = setup_of_another, lambda: "Ascend"
    from ms_ddpm.ops import elementary
    class Cpu:  # whose float32 exp is not exact enough, which is no matter of the Ascend's
        device_target = staticmethod(lambda: "CPU")
    elementary.runtime = Cpu
from parity_tests.cli import main
from ms_ddpm.cli import run
run(main)
"""


def parity(*arguments, cwd, stands_in):
    code = f"ROOT, STANDS_IN = {str(ROOT)!r}, {stands_in}\n{STAND_IN}"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False,
        cwd=cwd, env={**os.environ, "ASCEND_HOME_PATH": str(cwd), "MS_JIT": "0"},
    )  # fmt: skip


def test_the_bundles_agree_with_what_is_chosen_for_an_ascend(tmp_path):
    """No kernels, plain sums, the hash without overflow; and the report says where it was. Nothing is compiled."""
    (tmp_path / "compiler").mkdir()
    (tmp_path / "compiler" / "version.info").write_text("Version=9.1.0.B010\ntimestamp=x\n")
    found = parity(
        "check", "--bundle", SMALL, "--device_target", "Ascend", "--output_dir", "out", cwd=tmp_path,
        stands_in=True,
    )  # fmt: skip
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-2000:]
    assert results["summary"]["agree"] == results["summary"]["total"] > 50
    said = results["environment"]
    assert said["device_target"] == "Ascend"
    assert said["cann"] == "9.1.0.B010"
    assert said["kernels"] == "none: they are for CPU"
    assert {"device", "precision_mode", "matmul_allow_hf32", "conv_allow_hf32"} <= set(said)


@pytest.mark.skipif(runtime.accelerator_present(), reason="an accelerator is here")
def test_a_device_that_is_not_there_is_one_line_and_no_report(tmp_path):
    found = parity(
        "check", "--bundle", SMALL, "--device_target", "Ascend", "--output_dir", "out", cwd=tmp_path,
        stands_in=False,
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stderr.startswith("error: device_target Ascend is not available here; available: CPU")
    assert not (tmp_path / "out").exists()


def test_the_cpu_needs_no_more_words():
    assert device.facts("CPU") == {}


@pytest.mark.parametrize(
    ("place", "content", "says"),
    [
        ("compiler/version.info", "Version=8.5.0\n", "8.5.0"),
        ("share/info/compiler/version.info", "timestamp=1\nversion = 9.0.0\n", "9.0.0"),
        ("compiler/version.info", "nothing\n", "not found"),
        ("elsewhere", "Version=8.5.0\n", "has no compiler/version.info"),
    ],
)
def test_the_version_of_cann_is_what_its_own_file_says(tmp_path, place, content, says):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(content)
    assert says in device.cann_version({"ASCEND_HOME_PATH": str(tmp_path)})


def test_without_set_env_the_report_says_so():
    assert "set_env.sh was not sourced" in device.cann_version({})


def test_what_mindspore_does_not_answer_is_no_error(monkeypatch):
    import mindspore

    def refuses(*arguments):
        raise RuntimeError("no such device\nsecond line")

    monkeypatch.setattr(mindspore.hal, "get_device_name", refuses)
    monkeypatch.setattr(mindspore, "get_context", lambda name: {"device_id": 0, "conv_allow_hf32": "0"}.get(name, ""))
    found = device.facts("Ascend")
    assert found["device"] == "not known: no such device"
    assert found["conv_allow_hf32"] == "0"
    assert found["precision_mode"] == "not set"


def test_a_recording_keeps_the_flags_too(monkeypatch):
    monkeypatch.setattr(device, "facts", lambda target: {"device": f"a {target}"})
    options = argparse.Namespace(device_target="Ascend")
    assert cli.flags(options)["device"] == "a Ascend"
    assert cli.environment(options)["device"] == "a Ascend"
