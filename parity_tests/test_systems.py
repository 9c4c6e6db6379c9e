"""A system's checks are one folder, which is found where it lies; systems build on `core` and not on each other."""

import ast
import importlib
import sys

import pytest

from parity_tests import cases, systems
from portparity.errors import HarnessError

from .conftest import ROOT

HOME = ROOT / "parity_tests" / "systems"

CASES = """
from portparity.case import Case, Computation

def tier0(seed=0):
    yield Case("maths/own", "0", Computation("maths/own", dict, dict, [dict], {"torch": dict}), ("*",), "graph")

SMALL_SET = ("maths/own",)
"""


@pytest.fixture
def own_system(tmp_path, monkeypatch):
    """A folder beside the others, and all that is remembered of them forgotten."""

    def forget():
        for name in [name for name in sys.modules if name.startswith("parity_tests.systems.own")]:
            del sys.modules[name]
        systems.parts.cache_clear()
        systems.joined.cache_clear()
        importlib.invalidate_caches()

    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.setattr(systems, "__path__", [*systems.__path__, str(tmp_path)])
    forget()
    yield folder
    monkeypatch.undo()
    forget()


def test_a_folder_that_is_put_there_is_found(own_system):
    (own_system / "cases.py").write_text(CASES)
    (own_system / "on_numpy.py").write_text("KINDS = {'own': dict}\n")
    assert systems.names()[0] == "core"
    assert "own" in systems.names()
    assert [case.id for case in cases.joined("cases", "tier0")(0)].count("maths/own") == 1
    assert cases.named("SMALL_SET").count("maths/own") == 1
    assert systems.joined("on_numpy")["own"] is dict


def test_two_systems_that_have_one_name_for_a_leg_are_told_so(own_system):
    (own_system / "on_numpy.py").write_text("KINDS = {'tables': dict}\n")
    with pytest.raises(HarnessError, match=r"systems\.own\.on_numpy\.KINDS has 'tables', which another system has"):
        systems.joined("on_numpy")


def test_a_part_that_cannot_be_imported_is_not_passed_over(own_system):
    (own_system / "cases.py").write_text("import no_such_module\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        systems.parts("cases")


def test_every_system_is_compared_and_has_bugs_that_must_be_found():
    for name in systems.names():
        stems = {path.stem for path in (HOME / name).iterdir()}
        assert {"cases", "on_mindspore", "on_torch", "mutants"} <= stems, name


def test_systems_do_not_use_each_other():
    used = set()
    for path in sorted(HOME.glob("*/**/*.py")):
        own = path.relative_to(HOME).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("parity_tests.systems."):
                used.add((own, node.module.split(".")[2]))
    assert {there for own, there in used if own != there} == {"core"}
    assert not {(own, there) for own, there in used if own == "core" and there != "core"}


def test_what_is_of_all_systems_names_none_but_the_core():
    """Otherwise a new one would have to be written there too."""
    named = set()
    for path in sorted((ROOT / "parity_tests").glob("*.py")) + sorted((ROOT / "parity_tests/backends").glob("*.py")):
        if path.name.startswith("test_") or path.name == "_moved.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and "systems." in (node.module or ""):
                named.add(node.module.partition("systems.")[2].split(".")[0])
    assert named <= {"core"}
