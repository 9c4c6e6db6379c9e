"""The additions of CONTRIBUTING.md work as they stand there."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = {title: text for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)}


def blocks(section, language):
    return re.findall(rf"```{language}\n(.*?)```", SECTIONS[section], re.DOTALL)


def printed(code, folder, path=ROOT, compiled=True):
    """What ``code`` prints in a process of its own, which imports this project from ``path``.

    Not ``compiled``: graphs run operator by operator, by MindSpore's own switch.
    """
    file = folder / "page.py"
    file.write_text(code, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(path)} | ({} if compiled else {"MS_JIT": "0"})
    result = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=300, env=env, cwd=folder
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return [line.strip() for line in result.stdout.strip().splitlines()]


@pytest.mark.parametrize("section", ["A layer", "A case", "A system"])
def test_a_section_prints_what_it_says(section, tmp_path):
    pytest.importorskip("torch")
    [code], [shown] = blocks(section, "python"), blocks(section, "text")
    assert (
        printed(code, tmp_path, compiled=section != "A case")[-len(shown.splitlines()) :] == shown.strip().splitlines()
    )


def test_the_bug_that_the_layer_names_is_found(tmp_path):
    pytest.importorskip("torch")
    [code] = blocks("A layer", "python")
    wrong = code.replace("x.mean((2, 3))", "x.amax((2, 3))")
    assert wrong != code
    assert "`x.amax((2, 3))`" in SECTIONS["A layer"]
    assert {line.split()[0] for line in printed(wrong, tmp_path, compiled=False)} == {"differ"}


TRY = """
import numpy as np
import mindspore as ms
from ms_ddpm import runtime

runtime.setup("CPU")
from ms_ddpm.ops import kernels

assert kernels.why_not() == "", kernels.why_not()
rng = np.random.default_rng(0)
x, dy = rng.standard_normal((2, 3, 5, 7, 6), dtype=np.float32)
gate = rng.standard_normal((3, 6), dtype=np.float32)
scale = kernels.scale_channels()
assert np.array_equal(scale(ms.Tensor(x), ms.Tensor(gate)).asnumpy(), x * gate[:, None, None])
cotangent = ms.Tensor(dy)


def product(x, gate):
    return (scale(x, gate) * cotangent).sum()


dx, dgate = ms.grad(product, (0, 1))(ms.Tensor(x), ms.Tensor(gate))
np.testing.assert_allclose(dx.asnumpy(), dy * gate[:, None, None], rtol=1e-6)
np.testing.assert_allclose(dgate.asnumpy(), (dy.astype(np.float64) * x).sum((1, 2)), rtol=1e-6, atol=1e-6)
"""


def onednn_headers():
    """A directory that holds oneapi/dnnl/dnnl.h: PyTorch's wheel brings it."""
    torch = importlib.util.find_spec("torch")
    folder = torch and Path(torch.origin).parent / "include"
    return folder if folder and (folder / "oneapi/dnnl/dnnl.h").exists() else None


@pytest.mark.slow
@pytest.mark.skipif(onednn_headers() is None or not shutil.which("g++"), reason="no compiler, or no headers of oneDNN")
def test_the_kernel_builds_and_computes(tmp_path):
    """In a copy of the library, with the two blocks put where the page says."""
    for name in ("ms_ddpm", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    [cpp], [python] = blocks("A kernel", "cpp"), blocks("A kernel", "python")
    source, wrapper = tmp_path / "ms_ddpm/ops/csrc/kernels.cpp", tmp_path / "ms_ddpm/ops/kernels.py"
    before, mark, after = source.read_text().partition("// --- dense layers")
    source.write_text(f"{before}{cpp}\n{mark}{after}")
    wrapper.write_text(f"{wrapper.read_text()}\n\n{python[python.index('@functools') :]}")
    for built in (tmp_path / "ms_ddpm/ops").glob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"):
        built.unlink()
    env = {**os.environ, "ONEDNN_INCLUDE": str(onednn_headers())}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=500)
    printed(TRY, tmp_path, path=tmp_path)
