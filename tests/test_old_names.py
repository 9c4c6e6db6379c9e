"""Modules that moved import under their old names for one release, and nothing of ours does so."""

import importlib
import subprocess
import sys

import pytest

from parity_tests import _moved as parity_moved
from tests.conftest import ROOT

OF_PARITY = {f"{parity_moved.HERE}{old}": new for old, new in parity_moved.MOVED.items()}


@pytest.mark.parametrize("old", OF_PARITY)
def test_a_module_of_the_checks(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is {OF_PARITY[old]} now"):
        assert importlib.import_module(old) is importlib.import_module(OF_PARITY[old])


def test_a_module_below_a_package_that_moved(monkeypatch):
    monkeypatch.delitem(sys.modules, "parity_tests.report.words", raising=False)
    with pytest.warns(DeprecationWarning, match=r"parity_tests.report.words is portparity.report.words now"):
        old = importlib.import_module("parity_tests.report.words")
    assert old is importlib.import_module("portparity.report.words")


def test_a_module_of_the_reference():
    pytest.importorskip("torch")
    import torch_ref
    from torch_ref._moved import MOVED

    for old, new in MOVED.items():
        sys.modules.pop(old, None)
        vars(torch_ref).pop(old.rpartition(".")[2], None)
        with pytest.warns(DeprecationWarning, match=f"{old} is {new} now"):
            module = getattr(torch_ref, old.rpartition(".")[2])
        assert module is importlib.import_module(old) is importlib.import_module(new)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        torch_ref.nothing  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        importlib.import_module("torch_ref.nothing")


def test_a_moved_program_still_runs():
    """``python -m`` of an old name."""
    code = "import sys; sys.modules['torch'] = sys.modules['mindspore'] = None\nimport runpy\n"
    code += "runpy.run_module('parity_tests.examples.classifier', run_name='__main__')"
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "portparity/examples/classifier.py" in done.stderr  # it got as far as wanting a framework


def test_nothing_of_ours_goes_by_an_old_name():
    """All cases, mutants and legs, in a process in which the warning is an error."""
    pytest.importorskip("torch")
    code = (
        "import parity_tests.cli, parity_tests.peers, parity_tests.orchestration.asked, torch_ref.train\n"
        "from parity_tests.mutants import MUTANTS, orchestration\n"
        "from parity_tests.backends import on_numpy, on_torch\n"
        "for mutant in MUTANTS:\n"
        "    if mutant.framework == 'torch':\n"
        "        with mutant.apply(): pass\n"
    )
    errors = [f"error:{package}.:DeprecationWarning" for package in ("torch_ref", "parity_tests")]
    options = [word for error in errors for word in ("-W", error)]
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
