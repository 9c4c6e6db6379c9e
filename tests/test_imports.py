"""Who imports whom: no circles, arrows that point down, and old names of modules for one release."""

import ast
import functools
import importlib
import subprocess
import sys

import pytest

from ms_ddpm import _moved
from tests.conftest import ROOT

ROOMS = ("ms_ddpm", "torch_ref", "portparity", "parity_tests", "ms_ddpm_bench", "scripts", "examples")
# The house, from the ground up: a module imports from its own floor or from one below. `ms_ddpm` itself, whose public
# names are loaded when they are used, stands outside.
FLOORS = (
    {"_moved", "errors", "bars", "arrays", "trainable"},  # old names, and words that everybody uses
    {"maths"},
    {"ops"},
    {"config", "registry", "storage", "devices"},
    {"nn"},
    {"models"},
    {"samplers", "schedulers", "data", "pictures", "metrics"},
    {"training", "pipelines"},
    {"systems"},
    {"cli", "doctor", "verify"},
)
WHICH_DEVICE = "an operator is chosen for the device that MindSpore was started on, and `runtime` is the one that knows"
MAY_LOOK_UP = {  # (who, at what): why
    **{
        (f"ms_ddpm.ops.{module}", "ms_ddpm.devices.runtime"): WHICH_DEVICE
        for module in ("elementary", "kernel_library", "modular", "relu", "sums")
    },
    ("ms_ddpm.ops.assign", "ms_ddpm.storage.floats"): "bfloat16, which numpy lacks, and which imports nothing of ours",
    ("ms_ddpm.registry", "ms_ddpm.systems"): "finds the systems by their folders, and loads one when it is asked for",
}
MATHS_MAY = {"numpy", "scipy", *sys.stdlib_module_names}  # beside our errors
UNSEEN = {  # who imports by a name that is made when it runs: what it may be
    "ms_ddpm": "its table of public names, which stands outside the house",
    "ms_ddpm._moved": "its tables of old names",
    "ms_ddpm.cli.__main__": "its table of commands, on the top floor and above",
    "ms_ddpm.ops.source_lines": "a module of MindSpore's",
}

MAY_VISIT = {
    "torch_ref": set(),
    "portparity": set(),
    "ms_ddpm": set(),
    "parity_tests": {"ms_ddpm", "torch_ref", "portparity"},
    "ms_ddpm_bench": {"ms_ddpm", "torch_ref", "portparity", "parity_tests"},
}

SYSTEMS = {path.name for path in (ROOT / "ms_ddpm/systems").iterdir() if (path / "__init__.py").is_file()}
BUILT_ON = {  # all else knows no system by its name
    "ms_ddpm.systems.latent": {"autoencoder", "score"},
    "ms_ddpm.cli.explain": {"corruption"},  # its pages
}


def by_name(call, name, package):
    """What a call of importlib.import_module imports: as much of its name as stands there, None where nothing does."""
    given = call.args[0]
    known, text = {"__package__": package, "__name__": name}, ""
    for part in given.values if isinstance(given, ast.JoinedStr) else [given]:
        if isinstance(part, ast.Constant):
            text += part.value
        elif ast.unparse(getattr(part, "value", part)) in known:
            text += known[ast.unparse(getattr(part, "value", part))]
        else:
            text = text.rpartition(".")[0]
            break
    inside = text.lstrip(".")
    if not inside:
        return None
    up = len(text) - len(inside)
    return ".".join([*package.split(".")[: 1 - up or None], inside]) if up else inside


def imported(tree, name, is_package):
    """The full names that the module ``name`` imports, at its top, in its functions and for its types alone.

    None is one that importlib.import_module is given when it runs.
    """
    parts = name.split(".")
    package = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = parts[: len(parts) - node.level + is_package] if node.level else []
            module = ".".join([*outer, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
            "import_module",
            "__import__",
        ):
            yield by_name(node, name, package)


def modules_of(folder):
    """Module -> its file."""
    paths = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


@functools.cache
def imports_of(path, name):
    """The set of `imported` of the module ``name`` at ``path``."""
    return frozenset(imported(ast.parse(path.read_text(encoding="utf-8")), name, path.name == "__init__.py"))


def graph(folder):
    """Module -> the modules of ``folder`` that it imports, but for `MAY_LOOK_UP`.

    A package is left out where a module in it is meant.
    """
    paths, edges = modules_of(folder), {}
    for name, path in paths.items():
        found = imports_of(path, name) & set(paths)
        meant = {one for one in found - {name} if not any(other.startswith(f"{one}.") for other in found)}
        edges[name] = meant - {other for who, other in MAY_LOOK_UP if who == name}
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
    assert up(graph("ms_ddpm")) == []


@pytest.mark.parametrize(
    ("module", "other"),
    [("maths.schedules", "ops.expm1"), ("maths.schedules", "storage.files"), ("ops.relu", "nn.layers"),
     ("ops.relu", "storage.files"), ("ops.relu", "config"), ("storage.convert", "systems"), ("nn.sde", "models.unet")],
)  # fmt: skip
def test_an_arrow_up_is_seen(module, other):
    module, other = f"ms_ddpm.{module}", f"ms_ddpm.{other}"
    assert up({module: {other}}) == [f"{module} imports {other}"]
    assert up({other: {module}}) == []


def test_nobody_looks_up_without_need():
    """What is allowed is still done, and what ``storage.floats`` is allowed for holds."""
    paths = modules_of("ms_ddpm")
    assert [pair for pair in MAY_LOOK_UP if pair[1] not in imports_of(paths[pair[0]], pair[0])] == []
    assert imports_of(paths["ms_ddpm.storage.floats"], "ms_ddpm.storage.floats") & set(paths) == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("importlib.import_module('ms_ddpm.systems.score')", "ms_ddpm.systems.score"),
        ("import_module('..systems.score', __package__)", "ms_ddpm.systems.score"),
        ("importlib.import_module(f'..systems.{NAME}.weights', __package__)", "ms_ddpm.systems"),
        ("importlib.import_module(f'{__package__}.systems.{name}')", "ms_ddpm.storage.systems"),
        ("importlib.import_module(name)", None),
        ("importlib.import_module(f'.{name}', __package__)", None),
    ],
)
def test_an_import_by_name_is_seen(text, found):
    assert list(imported(ast.parse(text), "ms_ddpm.storage.convert", False)) == [found]


def test_who_imports_by_a_name_that_cannot_be_read_is_listed():
    assert {name for name, path in modules_of("ms_ddpm").items() if None in imports_of(path, name)} == set(UNSEEN)


def too_much(names):
    """What of these imports maths may not have: it is formulas in float64 numpy."""
    return {
        one for one in names - {"ms_ddpm", "ms_ddpm.maths"}
        if one.split(".")[0] not in MATHS_MAY and not one.startswith(("ms_ddpm.errors", "ms_ddpm.maths."))
    }  # fmt: skip


def test_maths_is_numpy():
    found = {name: too_much(imports_of(path, name)) for name, path in modules_of("ms_ddpm/maths").items()}
    assert {name: names for name, names in found.items() if names} == {}
    assert "ms_ddpm.maths.schedules" in found


@pytest.mark.parametrize(
    "text",
    [
        "from mindspore import ops", "import mindspore", "from ..arrays import takes_arrays",
        "from .. import trainable", "def f():\n    from ..devices import runtime",
    ],
)  # fmt: skip
def test_more_than_numpy_in_maths_is_seen(text):
    assert too_much(set(imported(ast.parse(text), "ms_ddpm.maths.schedules", False)))


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


@pytest.mark.parametrize("house", MAY_VISIT)
def test_a_package_knows_only_those_that_it_is_built_on(house):
    """What portparity and torch_ref may import, parity_tests/test_portparity.py and tests/test_rules.py say too."""
    found = {
        f"{name} imports {one}"
        for name, path in modules_of(house).items()
        for one in imports_of(path, name) - {None}
        if one.split(".")[0] in set(MAY_VISIT) - MAY_VISIT[house] - {house}
    }
    assert found == set()


@pytest.mark.parametrize(("old", "new"), _moved.MOVED.items())
def test_an_old_name_is_the_new_module_and_says_so(old, new, mindspore):
    sys.modules.pop(f"ms_ddpm.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"ms_ddpm.{old} is ms_ddpm.{new} now"):
        module = importlib.import_module(f"ms_ddpm.{old}")
    assert module is importlib.import_module(f"ms_ddpm.{new}")
    assert module.__spec__.name == module.__name__ == f"ms_ddpm.{new}"  # pickling and reloading go by these


@pytest.mark.parametrize(
    ("module", "name", "home"), [(m, n, home) for m, moved in _moved.NAMES.items() for n, home in moved.items()]
)
def test_a_name_that_moved_alone_is_the_new_one_and_says_so(module, name, home, mindspore):
    old = importlib.import_module(f"ms_ddpm.{module}")
    with pytest.warns(DeprecationWarning, match=f"ms_ddpm.{module}.{name} is ms_ddpm.{home}.{name} now") as warned:
        found = getattr(old, name)
    assert found is getattr(importlib.import_module(f"ms_ddpm.{home}"), name)
    assert warned[0].filename == __file__
    with pytest.raises(AttributeError, match=f"'ms_ddpm.{module}' has no attribute 'nothing'"):
        old.nothing  # noqa: B018


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
