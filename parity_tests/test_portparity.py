"""portparity is a library of its own: it imports nothing of this project's and knows no diffusion; old names import."""

import ast
import importlib
import re
import subprocess
import sys

import pytest

from .conftest import ROOT

HOME = ROOT / "portparity"
FILES = sorted(HOME.rglob("*.py"))
OURS = {"ms_ddpm", "torch_ref", "parity_tests", "ms_ddpm_bench", "scripts", "tests"}
FOREIGN = {
    "numpy", "tomllib", "tomli", "safetensors", "tqdm", "matplotlib", "torch", "mindspore", "onnxruntime", "pytest",
}  # fmt: skip
OF_A_FRAMEWORK = {  # imported where a leg runs
    "on_torch.py", "rounded_products.py", "on_mindspore.py", "classifier.py", "double.py", "torch_side.py",
    "mindspore_side.py", "mint_functions.py", "mint_on_cpu.py", "pytest_plugin.py",
}  # fmt: skip
DIFFUSION = re.compile(r"unet|ddpm|ddim|score|diffusion|latent|sampler|torch_ref|parity_tests", re.IGNORECASE)


def modules(nodes):
    """The packages that these statements import, those of portparity by a dot."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else node.module.split(".")[0]


def refused(text, name="x.py"):
    """What a module of portparity may not import, and does."""
    tree = ast.parse(text)
    inside = set(modules(ast.walk(tree)))
    yield from sorted(inside - FOREIGN - {".", "portparity"} - sys.stdlib_module_names)
    if name not in OF_A_FRAMEWORK:
        yield from sorted(set(modules(tree.body)) & (FOREIGN - {"numpy"}))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOME)))
def test_it_imports_nothing_of_ours_and_numpy_alone_at_once(path):
    text = path.read_text(encoding="utf-8")
    assert list(refused(text, path.name)) == []
    assert DIFFUSION.findall(text.replace("FlashAttentionScore", "")) == []  # an operator of MindSpore's


@pytest.mark.parametrize(
    "text", [*(f"def f():\n    from {name} import x" for name in sorted(OURS)), "import torch", "from tqdm import tqdm"]
)
def test_what_it_may_not_import_is_seen(text):
    assert list(refused(text))


def test_importing_all_of_it_loads_no_framework_and_nothing_of_ours():
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES if path.name not in OF_A_FRAMEWORK
    ]  # fmt: skip
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        f"print(sorted({OURS | FOREIGN - {'numpy', 'tomllib', 'tomli'}!r} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (found.stdout.strip(), found.stderr) == ("[]", "")


def test_its_packages_are_all_installed():
    """pip install ./portparity takes those that its pyproject.toml names."""
    named = re.findall(r'"(portparity[.\w]*)"', (HOME / "pyproject.toml").read_text().split("packages =")[1])
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in FILES}
    assert set(named) == there


MOVED = ("ports", "localise", "bundles", "report", "examples.classifier")


@pytest.mark.parametrize("name", MOVED)
def test_an_old_name_is_the_module_under_its_new_one_and_warns(name, monkeypatch):
    if name == "examples.classifier":
        pytest.importorskip("mindspore")
    monkeypatch.delitem(sys.modules, f"parity_tests.{name}", raising=False)
    with pytest.warns(DeprecationWarning, match=f"parity_tests.{name} is portparity.{name} now"):
        old = importlib.import_module(f"parity_tests.{name}")
    assert old is importlib.import_module(f"portparity.{name}")


def test_old_names_of_the_package_itself_warn_and_others_are_not_there():
    import parity_tests
    import portparity

    with pytest.warns(DeprecationWarning, match=r"portparity\.run"):
        assert parity_tests.run is portparity.run
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        parity_tests.nothing  # noqa: B018
