"""The rules of the house, read off the source."""

import ast
import re

import pytest

from tests.conftest import ROOT

MAY_SEE_BOTH = {"compare.py", "bench.py", "parity.py"}
READS_TORCH = "ms_ddpm/storage/torch_files.py"  # the one module of ms_ddpm that imports torch, and that unpickles
ROOMS = ("ms_ddpm", "torch_ref", "portparity", "parity_tests", "ms_ddpm_bench", "scripts")
SOURCES = sorted(p for folder in ROOMS for p in (ROOT / folder).rglob("*.py"))
IN_PLACE = re.compile(r"^(add|sub|mul|div|exp|clamp|clip|zero|fill|sqrt|neg|pow|addcmul|addcdiv|lerp)_$")
FOLDERS = (*ROOMS, "tests", "configs", "docs")
TEXTS = sorted(
    path for paths in (ROOT.glob("*"), *((ROOT / folder).rglob("*") for folder in FOLDERS)) for path in paths
    if path.suffix in (".py", ".md", ".yaml", ".sh", ".toml", ".txt", ".cpp", ".h") and path.name != "test_rules.py"
)  # fmt: skip
NOT_HERE = re.compile(  # what a reader of this repository has not got
    r"\b(?:PEERS|PARITY|TEXT2IMAGE|SEEDS|(?:MINDSPORE|DESIGN|STYLE)(?:\.md|: |'s))\b|\b[Dd]ocument 00\d"
    r"|\b[Tt]he (?:(?:source|corruption|score|latent|[Mm]ind[Ss]pore|DDPM) )*documents?\b"
)
TORCH = {"torch", "torch_ref", "torchvision"}
UNPICKLERS = {("pickle", "load"), ("pickle", "loads"), ("dill", "load"), ("joblib", "load"), ("torch", "load")}


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def at_the_top(tree):
    """What is imported with the module, and not when a function is called."""
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield from imports(node)


def violations(path, text=None):
    """What the file at ``path`` does that it may not, as sentences."""
    tree = ast.parse(text) if text is not None else tree_of(path)
    room = path.relative_to(ROOT).parts[0]
    seen = set(imports(tree))
    reads_torch = path.relative_to(ROOT).as_posix() == READS_TORCH
    if room == "ms_ddpm" and (set(at_the_top(tree)) if reads_torch else seen) & TORCH:
        yield "imports torch"
    if reads_torch and seen & (TORCH - {"torch"}):
        yield "imports more than torch"
    if room == "torch_ref" and seen & {"mindspore", "ms_ddpm"}:
        yield "imports mindspore"
    sees_torch, sees_mindspore = seen & {"torch", "torch_ref"}, seen & {"mindspore", "ms_ddpm"}
    if room == "scripts" and path.name not in MAY_SEE_BOTH and sees_torch and sees_mindspore:
        yield "sees both frameworks"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            if room == "ms_ddpm" and IN_PLACE.match(node.func.attr):
                yield f"line {node.lineno}: in-place {node.func.attr}"
            if (owner, node.func.attr) in UNPICKLERS:
                safe = any(k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in node.keywords)
                if not (reads_torch and safe):
                    yield f"line {node.lineno}: {owner}.{node.func.attr} unpickles"
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle" and getattr(keyword.value, "value", None) is not False:
                    yield f"line {node.lineno}: allow_pickle"
            if owner == "random" or (
                room == "ms_ddpm"
                and ast.unparse(node.func).startswith(("np.random.rand", "ops.rand", "ops.normal", "mint.rand"))
            ):
                yield f"line {node.lineno}: randomness that is not an explicit Generator"
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith("mint.optim"):
            yield f"line {node.lineno}: mint.optim"
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "mint.optim" in ast.unparse(node):
            yield f"line {node.lineno}: mint.optim"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rules_of_the_house(path):
    assert list(violations(path)) == []


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("ms_ddpm/x.py", "import torch"),
        ("ms_ddpm/x.py", "from torch.nn import Linear"),
        ("torch_ref/x.py", "import mindspore as ms"),
        ("scripts/train.py", "import torch\nimport mindspore"),
        ("ms_ddpm/x.py", "x.add_(1)"),
        ("ms_ddpm/x.py", "mint.optim.Adam(p)"),
        ("ms_ddpm/x.py", "from mindspore.mint.optim import Adam"),
        ("ms_ddpm/x.py", "np.load(f, allow_pickle=True)"),
        ("scripts/sample.py", "import torch\ntorch.load(f, weights_only=True)"),
        ("scripts/convert.py", "torch.load(f, weights_only=True)"),
        ("ms_ddpm/cli/convert.py", "def f():\n    import torch"),
        ("ms_ddpm/x/torch_files.py", "def f():\n    import torch"),
        ("ms_ddpm/storage/torch_files.py", "import torch"),
        ("ms_ddpm/storage/torch_files.py", "def f():\n    import torch_ref"),
        ("ms_ddpm/storage/torch_files.py", "torch.load(f)"),
        ("ms_ddpm/storage/checkpoint.py", "torch.load(f, weights_only=True)"),
        ("ms_ddpm/x.py", "np.random.randn(3)"),
        ("ms_ddpm/x.py", "ops.randn(3)"),
    ],
)
def test_the_rules_catch_what_they_forbid(place, text):
    assert list(violations(ROOT / place, text))


def test_the_reader_of_pytorch_s_files_may_import_torch_inside_a_call():
    text = "def read(file):\n    import torch\n    return torch.load(file, weights_only=True)"
    assert list(violations(ROOT / READS_TORCH, text)) == []
    assert (ROOT / READS_TORCH).is_file()


def test_no_text_names_what_is_not_in_the_repository():
    """A comment says the fact, or the paper, or the page and heading of docs/ where it stands."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {hit[0]}"
        for path in TEXTS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for hit in NOT_HERE.finditer(line)
    ]  # fmt: skip
    assert found == []
    assert len(TEXTS) > 400


@pytest.mark.parametrize(
    "text",
    ["PEERS: clip 1.0", "see MINDSPORE.md", "MINDSPORE: var/std", "of the document", "the score documents' loop",
     "Document 001", "as the MindSpore DDPM document", "PARITY.md"],
)  # fmt: skip
def test_names_of_what_is_not_in_the_repository_are_seen(text):
    assert NOT_HERE.search(text)
    assert not NOT_HERE.search("PARITY_DEVICE_TARGET, foreign_files.MINDSPORE, the documentation of MindSpore")


SYSTEMS = {path.name for path in (ROOT / "ms_ddpm/systems").iterdir() if (path / "__init__.py").is_file()}
ANY_ARRAY = "an array of whatever library somebody has"
NOT_EVERYWHERE = "what an operating system may lack"
ASKED_BY_NAME = {  # (file of ms_ddpm, attribute): why no class of ours can have a default for it
    ("trainable.py", "name"): "the one place that asks a Cell of anybody's; the defaults are those of `Trainable`",
    ("nn/contract.py", "name"): "the one place that asks a network of anybody's; the defaults are those of `Silent`",
    ("registry.py", "name"): "an object of somebody else's package, before it is known to be a system",
    ("training/training_run.py", "columns"): "a function, which may say how many of its pictures make a row",
    ("storage/fingerprint.py", "_MARK"): "the mark of a decorator on a constructor",
    ("schedulers/config.py", "unchosen"): "a mapping: a plain dict, or one of ours, which says so",
    ("data/given.py", "__len__"): "somebody's data set",
    ("data/given.py", "__getitem__"): "somebody's data set",
    ("data/given.py", "method"): ANY_ARRAY,
    ("data/labels.py", "asnumpy"): ANY_ARRAY,
    ("maths/random.py", "asnumpy"): ANY_ARRAY,
    ("data/reading.py", "is_animated"): "an image of Pillow: formats differ in what they have",
    ("data/reading.py", "palette"): "an image of Pillow: formats differ in what they have",
    ("devices/runtime.py", "sched_setaffinity"): NOT_EVERYWHERE,
    ("devices/runtime.py", "sched_getaffinity"): NOT_EVERYWHERE,
    ("devices/watch.py", "name"): NOT_EVERYWHERE,
    ("training/runs.py", "SIGHUP"): NOT_EVERYWHERE,
    ("errors.py", "strerror"): "an exception of any library",
    ("storage/checkpoint.py", "strerror"): "an exception of any library",
    ("ops/source_lines.py", "__code__"): "whatever MindSpore's parser was given: a function, a method, a class",
    ("ops/source_lines.py", "__func__"): "whatever MindSpore's parser was given: a function, a method, a class",
    ("ops/source_lines.py", "inspect"): "a module of MindSpore's, of another version perhaps",
}
KNOWS_THE_DEFAULT_SYSTEM = {
    "registry.py": "puts it before the others",
    "cli/train.py": "without any option the digits are trained, whose recipe is of that system",
}


def asked_by_name(tree):
    """The attributes that hasattr, or getattr with a default, asks for."""
    for node in ast.walk(tree):
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if called == "hasattr" or (called == "getattr" and len(node.args) + len(node.keywords) > 2):
            asked = node.args[1]
            yield str(asked.value) if isinstance(asked, ast.Constant) else ast.unparse(asked)


def systems_compared(tree):
    """The names of systems, and ``DEFAULT_SYSTEM``, that something is compared with, a ``case`` of a ``match`` too."""
    for node in ast.walk(tree):
        sides = []
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.NotEq, ast.In, ast.NotIn)):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            sides = [node.value]
        for side in sides:
            for part in getattr(side, "elts", [side]):
                if isinstance(part, ast.Constant) and part.value in SYSTEMS:
                    yield part.value
                elif ast.unparse(part).rpartition(".")[2] == "DEFAULT_SYSTEM":
                    yield "DEFAULT_SYSTEM"


SHARED = {
    path.relative_to(ROOT / "ms_ddpm").as_posix(): path
    for path in SOURCES
    if path.is_relative_to(ROOT / "ms_ddpm") and not path.is_relative_to(ROOT / "ms_ddpm/systems")
}


def test_what_a_class_may_say_has_a_default_there():
    """Nothing is found out by ``hasattr`` but of what others bring."""
    found = {(name, asked) for name, path in SHARED.items() for asked in asked_by_name(tree_of(path))}
    assert (found - set(ASKED_BY_NAME), set(ASKED_BY_NAME) - found) == (set(), set())


def test_code_that_systems_share_asks_for_none_by_name():
    found = {name for name, path in SHARED.items() if set(systems_compared(tree_of(path)))}
    assert found == set(KNOWS_THE_DEFAULT_SYSTEM)
    assert all(set(systems_compared(tree_of(SHARED[name]))) == {"DEFAULT_SYSTEM"} for name in found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("if hasattr(cell, 'sample'): pass", ["sample"]),
        ("x = getattr(cell, 'named_as_torch', False)", ["named_as_torch"]),
        ("x = getattr(cell, name, default=None)", ["name"]),
        ("x = getattr(cell, 'weight')", []),
    ],
)
def test_asking_by_name_is_seen(text, found):
    assert list(asked_by_name(ast.parse(text))) == found


@pytest.mark.parametrize(
    "text",
    [
        "if config.system == 'score': pass", "if 'latent' != name: pass", "x = name in ('score', 'latent')",
        "x = name not in ['corruption']", "match name:\n    case 'autoencoder': pass",
        "x = config.system == keys.DEFAULT_SYSTEM",
    ],
)  # fmt: skip
def test_a_comparison_with_a_system_s_name_is_seen(text):
    assert list(systems_compared(ast.parse(text)))
    assert not list(systems_compared(ast.parse("x = mode == 'graph' or name < 'score'")))


def public_definitions(path):
    """Functions, classes and methods of ``path`` that others may call."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    for node in tree_of(path).body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                inherited = (
                    "construct",
                    "forward",
                    "backward",
                    "bprop",
                    "place",
                    "prepared_weight",
                    "memory_shape",
                    "error",
                )
                yield from (
                    m for m in node.body
                    if isinstance(m, ast.FunctionDef) and not m.name.startswith("_") and m.name not in inherited
                )  # fmt: skip


CONTRACT = {
    node.name for node in ast.walk(tree_of(ROOT / "ms_ddpm/systems/__init__.py")) if isinstance(node, ast.FunctionDef)
}
OPERATIONS = {node.name for node in public_definitions(ROOT / "ms_ddpm/ops/by_operators.py")}


def test_public_definitions_have_docstrings_and_types():
    missing = []
    for path in SOURCES:
        if path.name.startswith(("test_", "conftest")):
            continue
        for node in public_definitions(path):
            if path.parent.parent.name == "systems" and node.name in CONTRACT:
                continue  # a system's answer to what systems/__init__.py asks, and documents
            if path.name == "by_kernels.py" and node.name in OPERATIONS:
                continue  # documented where both kinds of operations are named
            where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
            if not ast.get_docstring(node):
                missing.append(f"{where}: no docstring")
            if isinstance(node, ast.FunctionDef):
                arguments = [a for a in node.args.args + node.args.kwonlyargs if a.arg != "self"]
                if not any(a.annotation for a in arguments) and node.returns is None:
                    missing.append(f"{where}: no types")
    assert missing == []


def test_bars_are_made_where_they_can_be_silenced():
    """`bars.bar` of loops, and `epochs.Progress`, which a Trainer shows or does not."""
    makers = {str(path.relative_to(ROOT)) for path in SOURCES if "tqdm" in set(imports(tree_of(path)))}
    assert {path for path in makers if path.startswith("ms_ddpm/")} == {"ms_ddpm/bars.py", "ms_ddpm/training/epochs.py"}


def test_the_tests_of_a_folder_are_found_by_its_name():
    """tests/storage has those of ms_ddpm/storage, and so on down to a system's."""
    apart = {"bench", "fixtures", "fuzz", "whole"}
    folders = {str(path.parent.relative_to(ROOT / "tests")) for path in (ROOT / "tests").rglob("test_*.py")} - {"."}
    assert {folder for folder in folders - apart if not (ROOT / "ms_ddpm" / folder).is_dir()} == set()


def test_what_shares_compiled_graphs_stays_with_one_worker(request):
    """pytest-xdist tells it by the end of a test's id. With a pytest that is too new for it, all is compiled twice."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("the tests run in one process")
    assert request.node.nodeid.endswith("@tests/test_rules.py")


# --- attributes are set one by one -----------------------------------------------------------------------------------


def crowds(tree):
    """Lines of statements that set three attributes or more, where they are not so many alike things of one loop."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and not isinstance(node.value, (ast.GeneratorExp, ast.ListComp)):
            places = [place for target in node.targets for place in ast.walk(target)]
            if sum(isinstance(p, ast.Attribute) and isinstance(p.ctx, ast.Store) for p in places) >= 3:
                yield node.lineno


def test_attributes_are_set_one_by_one():
    """Of a layer it can then be seen which argument is whose."""
    sources = [*SOURCES, *(ROOT / "examples").rglob("*.py")]
    found = [f"{path.relative_to(ROOT)}:{line}" for path in sources if not path.name.startswith("test_")
             for line in crowds(tree_of(path))]  # fmt: skip
    assert found == []
    assert [*crowds(ast.parse("self.a, self.b, self.c = x, y, z")), *crowds(ast.parse("s.a = s.b = s.c = 0"))] == [1, 1]
    assert not [*crowds(ast.parse("self.a, self.b, self.c = (nn.LayerNorm(dim) for _ in range(3))"))]
