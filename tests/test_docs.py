"""The READMEs say what the code does."""

import re

import pytest

from ms_ddpm import config
from ms_ddpm.keys import default_of

from .conftest import ROOT

READMES = ("README.md", "README_CN.md")
ASCEND = ("docs/ascend.md", "docs/ascend_CN.md")


def rows(readme):
    """The options table: key -> (marked as free on resume, default as written)."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    return {m[1]: (bool(m[2]), m[3]) for m in re.finditer(r"^\| `(\w+)`(\*?) \| `([^`]*)` \|", text, re.MULTILINE)}


@pytest.mark.parametrize("readme", READMES)
def test_the_options_table_is_the_configurations(readme):
    table = rows(readme)
    assert set(config.FIELDS) <= set(table) | {"source"}
    plain = {True: "true", False: "false", None: "null"}
    for name, value in {name: default_of(field) for name, field in config.all_fields().items()}.items():
        if name == "source":
            continue
        free, written = table[name]
        assert free == (name in config.FREE_ON_RESUME), name
        shown = plain.get(value, str(value)) if isinstance(value, (bool, type(None))) else str(value)
        assert written.replace("'", "").replace('"', "") == shown.replace("'", "") or float(written) == value, name


@pytest.mark.parametrize("readme", READMES)
def test_links_to_files_lead_somewhere(readme):
    text = (ROOT / readme).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), target
    for target in re.findall(r"(?:scripts|configs)/\w+\.(?:py|sh|yaml)", text):
        assert (ROOT / target).exists(), target


def headings(page):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_pages_and_headings_that_are_named_are_there():
    """In links from page to page, and as docs/page.md#heading anywhere in the code."""
    named = []
    for page in (*map(ROOT.joinpath, READMES), *(ROOT / "docs").rglob("*.md")):
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
            named.append((page, page.parent / target if target else page, anchor))
    for folder in ("ms_ddpm", "torch_ref", "parity_tests", "scripts", "configs"):
        for file in (f for f in (ROOT / folder).rglob("*") if f.suffix in (".py", ".yaml", ".sh", ".toml")):
            for target, anchor in re.findall(r"(\bdocs/[\w/]+\.md)#?([\w-]*)", file.read_text(encoding="utf-8")):
                named.append((file, ROOT / target, anchor))
    assert len(named) > 100
    for where, page, anchor in named:
        assert page.exists(), f"{where}: {page}"
        assert not anchor or anchor in headings(page), f"{where}: {page}#{anchor}"


def examples(page):
    """A page's Python code blocks, without comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [re.sub(r" +#.*", "", block) for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


def test_the_libraries_examples_name_what_is_there_and_are_the_same_in_both_languages(mindspore):
    import ast
    import inspect

    english, chinese = map(examples, READMES)
    assert english == chinese
    assert len(english) >= 2
    names = {}
    for block in english:
        for node in ast.parse(block).body:
            if isinstance(node, ast.ImportFrom):
                exec(ast.unparse(node), names)
        for call in (node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name):
                keywords = {keyword.arg for keyword in call.keywords}
                assert keywords <= set(inspect.signature(names[call.func.id]).parameters), ast.unparse(call)


def test_every_python_block_of_every_page_names_what_it_made_or_imported():
    """Blocks of one page are read one after another. What a page does not make cannot be pasted."""
    import ast
    import builtins

    pages = [*READMES, *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
    seen = 0
    for page in pages:
        known = set(dir(builtins))
        for block in examples(page):
            seen += 1
            nodes = list(ast.walk(ast.parse(block)))
            for node in nodes:
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    known |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
                elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    known.add(node.name)
                elif isinstance(node, ast.arg):
                    known.add(node.arg)
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    known.add(node.id)
            used = {node.id for node in nodes if isinstance(node, ast.Name)}
            assert used <= known, f"{page}: {sorted(used - known)}"
    assert seen >= 10


SMALLER = {  # what makes the README's examples a matter of seconds; operator by operator there is nothing to compile
    'runtime.setup("CPU")': 'runtime.setup("CPU", mode=1)', "train_num_steps=100": "train_num_steps=2",
    "sampling_timesteps=20": "sampling_timesteps=3", "num_samples=4": "num_samples=1", "steps=20": "steps=2",
    "image_size=28, channels=1)": "image_size=28, channels=1, sampling_timesteps=2)",
    '"digits28", ': '"digits28", num_samples=1, ', "batch_size=16": "batch_size=2", "sample(16": "sample(2",
}  # fmt: skip


def test_the_libraries_examples_run(mindspore, tmp_path, monkeypatch):
    """The README's blocks one after another, as pasted into one session, and the loss by hand of the text."""
    from ms_ddpm import runtime

    blocks = [block for block in examples("README.md") if "ms_ddpm" in block]
    code = "\n".join(blocks)
    for large, small in SMALLER.items():
        assert large in code, large
        code = code.replace(large, small)
    [by_hand] = re.findall(
        r"`(diffusion\(img, \*diffusion\.draw\(rng, \(img,\)\)\))`", (ROOT / "README.md").read_text()
    )
    code += "\nimport numpy as np\nrng = np.random.default_rng(0)\nimg = rng.random((4, 1, 8, 8))\n"
    file = tmp_path / "example.py"
    file.write_text(f"{code}\nloss = {by_hand}\n")
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "example"}
    try:
        exec(compile(file.read_text(), str(file), "exec"), scope)
    finally:
        runtime.setup("CPU")
    assert scope["images"].shape == (2, 1, 28, 28)
    assert (tmp_path / "example.png").stat().st_size > 0
    assert 0.1 < float(scope["loss"]) < 5


def test_every_public_name_of_the_package_is_there(mindspore):
    import ms_ddpm

    assert {"score_likelihood", "score_samplers", "LatentDiffusion", "VESDE", "VPSDE", "SubVPSDE"} <= set(
        ms_ddpm.__all__
    )
    for name in ms_ddpm.__all__:
        assert getattr(ms_ddpm, name) is not None


def commands(page):
    """The lines of a page's code blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_pages_on_ascend_give_the_same_commands_in_both_languages():
    english, chinese = map(commands, ASCEND)
    assert english == chinese
    assert sum("--device_target Ascend" in line for line in english) >= 8


@pytest.mark.parametrize("page", ASCEND)
def test_the_pages_on_ascend_name_files_and_checks_that_are_there(page):
    from parity_tests.cases import all_cases, select

    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / "docs" / target).exists(), target
    for target in re.findall(r"(?:scripts|configs|tests|docs|ms_ddpm)/[\w/]+\.(?:py|sh|yaml|md)", text):
        assert (ROOT / target).exists(), target
    cases = all_cases()
    for name in re.findall(r"bisect (\S+)", text):
        assert select(cases, [name])
    judged = sum(len(select(cases, [key])) for key in small_set())
    assert f"{judged} of {judged} checks agree" in text


def small_set():
    from parity_tests.cases import SMALL_SET

    return SMALL_SET
