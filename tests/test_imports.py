"""Who imports whom: no circles, arrows that point down, and old names of modules for one release."""

import ast
import importlib
import subprocess
import sys

import pytest

from ms_ddpm import _moved
from tests.conftest import ROOT

ROOMS = ("ms_ddpm", "torch_ref", "parity_tests/backends", "parity_tests/oracle", "parity_tests/systems")
# The house, from the ground up: a module imports from its own floor or from one below. `ms_ddpm` itself, whose public
# names are loaded when they are used, stands outside.
FLOORS = (
    {"errors", "bars", "arrays", "trainable"},  # words that everybody uses
    {"config", "registry", "maths", "ops", "storage", "devices"},
    {"nn"},
    {"models"},
    {"samplers", "schedulers", "data", "pictures", "metrics"},
    {"training", "pipelines"},
    {"systems"},
    {"cli", "doctor", "verify"},
)

SYSTEMS = {path.name for path in (ROOT / "ms_ddpm/systems").iterdir() if (path / "__init__.py").is_file()}
BUILT_ON = {  # all else knows no system by its name
    "ms_ddpm.systems.latent": {"autoencoder", "score"},
    "ms_ddpm.cli.explain": {"corruption"},  # its pages
}


def imported(tree, name, is_package):
    """The full names that the module ``name`` imports, at its top, in its functions and for its types alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")
            outer = parts[: len(parts) - node.level + is_package] if node.level else []
            module = ".".join([*outer, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def graph(folder):
    """Module -> the modules of ``folder`` that it imports. A package is left out where a module in it is meant."""
    paths = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    edges = {}
    for name, path in paths.items():
        found = set(imported(ast.parse(path.read_text(encoding="utf-8")), name, path.name == "__init__.py")) & set(
            paths
        )
        edges[name] = {one for one in found if one != name and not any(other.startswith(f"{one}.") for other in found)}
    return edges


def circles(edges):
    """The modules that import themselves by way of others, those of one circle together."""

    def reached(start):
        seen, ahead = set(), list(edges[start])
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += edges[name]
        return seen

    reach = {name: reached(name) for name in edges}
    return {frozenset(other for other in reach[name] if name in reach[other]) for name in edges if name in reach[name]}


@pytest.mark.parametrize("folder", ROOMS)
def test_no_modules_import_each_other(folder):
    assert circles(graph(folder)) == set()


def test_a_circle_would_be_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {frozenset("bc")}


def floor(module):
    """The number of the floor that ``module`` lies on."""
    room = module.split(".")[1]
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def up(edges):
    """Imports from a higher floor, as text."""
    return [
        f"{module} imports {other}" for module, others in edges.items() for other in others
        if "." in module and "." in other and floor(module) < floor(other)
    ]  # fmt: skip


def test_arrows_point_down():
    edges = graph("ms_ddpm")
    edges.pop("ms_ddpm._moved")
    assert up(edges) == []
    assert up({"ms_ddpm.maths.sde": {"ms_ddpm.nn.layers"}, "ms_ddpm.nn.layers": {"ms_ddpm.maths.sde"}}) == [
        "ms_ddpm.maths.sde imports ms_ddpm.nn.layers"
    ]


def strangers(edges):
    """Imports of a system by what is neither in its folder nor built on it, as text."""
    found = []
    for module, others in edges.items():
        known = next((names for start, names in BUILT_ON.items() if module.startswith(start)), set())
        for other in others:
            room, name = (*other.split("."), "", "")[1:3]
            if (
                room == "systems"
                and name in SYSTEMS - known
                and not f"{module}.".startswith(f"ms_ddpm.systems.{name}.")
            ):
                found.append(f"{module} imports {other}")
    return found


def test_a_system_knows_no_other():
    assert strangers(graph("ms_ddpm")) == []
    for module in ("ms_ddpm.systems.score", "ms_ddpm.systems.latent.size", "ms_ddpm.systems.recipes", "ms_ddpm.data"):
        assert strangers({module: {"ms_ddpm.systems.corruption.pictures"}})


@pytest.mark.parametrize(("old", "new"), _moved.MOVED.items())
def test_an_old_name_is_the_new_module_and_says_so(old, new, mindspore):
    sys.modules.pop(f"ms_ddpm.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"ms_ddpm.{old} is ms_ddpm.{new} now"):
        module = importlib.import_module(f"ms_ddpm.{old}")
    assert module is importlib.import_module(f"ms_ddpm.{new}")
    assert module.__spec__.name == module.__name__ == f"ms_ddpm.{new}"  # pickling and reloading go by these


def test_nothing_of_ours_goes_by_an_old_name(mindspore):
    """Every module of the library, and its public names, in a process in which that warning is an error."""
    code = (
        "import importlib, pkgutil, ms_ddpm\n"
        "for module in pkgutil.walk_packages(ms_ddpm.__path__, 'ms_ddpm.'):\n"
        "    if not module.name.endswith(('__main__', '_kernels')):\n"
        "        importlib.import_module(module.name)\n"
        "for name in ms_ddpm.__all__:\n"
        "    getattr(ms_ddpm, name)\n"
    )
    error = "error:ms_ddpm:DeprecationWarning"
    done = subprocess.run([sys.executable, "-W", error, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
