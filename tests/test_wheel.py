"""What pip installs besides Python files: of the whole project, and of the harness by itself."""

import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

BUILD = "from setuptools import setup; setup(script_args=['--quiet', 'build_py', '--build-lib', {target!r}])"
HOLDS = {
    "setup.py": (
        "ms_ddpm/py.typed", "portparity/py.typed", "ms_ddpm/configs/digits.yaml", "parity_tests/tolerances.toml",
        "parity_tests/bundles/maths__cosine-T1000/manifest.json",
    ),
    "portparity/pyproject.toml": ("portparity/py.typed",),
}  # fmt: skip


@pytest.mark.parametrize("project", HOLDS)
def test_what_is_installed_besides_python_files(project, tmp_path):
    """What setuptools puts into a wheel, without making one: that needs packages of its own."""
    pytest.importorskip("setuptools")
    file, target = ROOT / project, tmp_path / "built"
    if file.name == "setup.py":
        command, source = [str(file), "--quiet", "build_py", "--build-lib", str(target)], ROOT
    else:  # from a copy, since it writes beside what it reads
        command, source = ["-c", BUILD.format(target=str(target))], tmp_path / "copy"
        shutil.copytree(file.parent, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    done = subprocess.run([sys.executable, *command], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [name for name in HOLDS[project] if not (target / name).is_file()] == []
    assert (target / "portparity/checking/check.py").is_file()
