"""Who imports whom: no circles, and old names of modules for one release."""

import ast
import importlib
import subprocess
import sys

import pytest

from .conftest import ROOT

ROOMS = ("ms_ddpm", "torch_ref", "parity_tests/backends", "parity_tests/oracle", "parity_tests/systems")
MOVED = {
    "score_samplers": "samplers.score",
    "score_request": "samplers.request",
    "score_likelihood": "samplers.likelihood",
    "published": "systems.corruption.published",
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


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_name_is_the_new_module_and_says_so(old, new, mindspore):
    sys.modules.pop(f"ms_ddpm.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"ms_ddpm.{old} is ms_ddpm.{new} now"):
        module = importlib.import_module(f"ms_ddpm.{old}")
    assert module is importlib.import_module(f"ms_ddpm.{new}")


def test_nothing_of_ours_goes_by_an_old_name(mindspore):
    """Every module of the library, and its public names, in a process in which that warning is an error."""
    code = (
        "import importlib, pkgutil, ms_ddpm\n"
        f"old = {sorted(MOVED)}\n"
        "for module in pkgutil.walk_packages(ms_ddpm.__path__, 'ms_ddpm.'):\n"
        "    if module.name.split('.', 1)[1] not in old and not module.name.endswith(('__main__', '_kernels')):\n"
        "        importlib.import_module(module.name)\n"
        "for name in ms_ddpm.__all__:\n"
        "    getattr(ms_ddpm, name)\n"
    )
    error = "error:ms_ddpm:DeprecationWarning"
    done = subprocess.run([sys.executable, "-W", error, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
