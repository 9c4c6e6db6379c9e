"""The READMEs and the pages of docs/ say what the code does."""

import argparse
import ast
import importlib.util
import re
import runpy
import shlex
import subprocess
import sys

import pytest
import yaml

from ms_ddpm import config
from tests.conftest import ROOT

READMES = ("README.md", "README_CN.md")
PAGES = [*READMES, "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
TWINS = {"README.md": "README_CN.md"} | {
    page: page.replace(".md", ".zh.md") for page in PAGES if page.replace(".md", ".zh.md") in PAGES
}
IN_ENGLISH_ALONE = {  # what commands write, and what the design was measured against: docs/index.zh.md says so
    "kill_matrix", "speed_tables", "operators", "design/mindspore", "design/peers", "design/verdict",
}  # fmt: skip


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def tool(name):
    """What scripts/``name``.py defines."""
    return runpy.run_path(str(ROOT / f"scripts/{name}.py"), run_name=name)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_options_page_is_the_configurations(language):
    make = tool("make_options_page")
    assert make["PAGES"][language].read_text(encoding="utf-8") == make["page"](language), (
        "run python scripts/make_options_page.py"
    )


def test_the_options_page_has_words_for_every_key_as_it_is_today():
    make = tool("make_options_page")
    said = {name: words for section in make["words"]()["sections"] for name, words in section["keys"].items()}
    known = make["options"]()
    how = "write its words into scripts/docs_options.yaml, then run python scripts/make_options_page.py"
    assert set(said) == set(known) == set(config.FIELDS), how
    for name, option in known.items():
        assert said[name]["help"] == option.help, f"the help of {name} has changed; see scripts/docs_options.yaml"
        assert said[name]["zh"]
    for language in ("en", "zh"):
        text = make["page"](language)
        rows = {m[1]: bool(m[2]) for m in re.finditer(r"^\| `(\w+)`(\*?) \| `([^`]*)` \|", text, re.MULTILINE)}
        assert rows == {name: name in config.FREE_ON_RESUME for name in config.FIELDS}


def test_the_readmes_are_short_and_count_nothing():
    for page in READMES:
        text = read(page)
        assert len(text.splitlines()) <= 150
        assert re.findall(r"[\d,]+ (?:checks|tests|lines of code|bugs|mutants)\b", text) == []
        assert re.findall(r"[\d,]+ ?[项个](?:检查|测试|错误)", text) == []


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page):
    rooms = "scripts|configs|tests|torch_ref|ms_ddpm"
    for target in re.findall(rf"(?<![\w/])(?:{rooms})/[\w/]+\.(?:py|sh|yaml|toml)", read(page)):
        assert (ROOT / target).exists(), target


def test_every_page_is_there_in_chinese_but_those_that_are_said_not_to_be():
    english = [page for page in PAGES if page.startswith("docs/") and ".zh." not in page]
    alone = {page.removeprefix("docs/").removesuffix(".md") for page in english if page not in TWINS}
    assert alone == IN_ENGLISH_ALONE
    said = read("docs/index.zh.md").split("## 只有英文的页面")[1]
    assert {link for link in re.findall(r"\(([\w/]+)\.md\)", said)} == IN_ENGLISH_ALONE


def prose(text):
    """A page's text without its blocks of code."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def headings(page):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_pages_and_headings_that_are_named_are_there():
    """In links from page to page, and as docs/page.md#heading anywhere in the code."""
    named = []
    for page in map(ROOT.joinpath, PAGES):
        for target, anchor in re.findall(
            r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", prose(page.read_text(encoding="utf-8"))
        ):
            named.append((page, page.parent / target if target else page, anchor))
    for folder in ("ms_ddpm", "torch_ref", "portparity", "parity_tests", "ms_ddpm_bench", "scripts", "configs"):
        for file in (f for f in (ROOT / folder).rglob("*") if f.suffix in (".py", ".yaml", ".sh", ".toml")):
            for target, anchor in re.findall(r"(\bdocs/[\w/]+\.md)#?([\w-]*)", file.read_text(encoding="utf-8")):
                named.append((file, ROOT / target, anchor))
    assert len(named) > 100
    for where, page, anchor in named:
        assert page.exists(), f"{where}: {page}"
        assert not anchor or anchor in headings(page), f"{where}: {page}#{anchor}"


def examples(page):
    """A page's Python code blocks, without comments."""
    return [re.sub(r" +#.*", "", block) for block in re.findall(r"```python\n(.*?)```", read(page), re.DOTALL)]


@pytest.mark.parametrize("page", TWINS)
def test_both_languages_give_the_same_code_and_the_same_commands(page):
    assert examples(page) == examples(TWINS[page])
    assert list(commands(page)) == list(commands(TWINS[page]))


def test_the_libraries_examples_name_what_is_there(mindspore):
    import inspect

    names = {}
    for block in [*examples("README.md"), *examples("docs/library.md")]:
        for node in ast.parse(block).body:
            if isinstance(node, ast.ImportFrom):
                exec(ast.unparse(node), names)
        for call in (node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name):
                keywords = {keyword.arg for keyword in call.keywords}
                assert keywords <= set(inspect.signature(names[call.func.id]).parameters), ast.unparse(call)


def test_every_python_block_of_every_page_names_what_it_made_or_imported():
    """Blocks of one page are read one after another. What a page does not make cannot be pasted."""
    import builtins

    seen = 0
    for page in PAGES:
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


SMALLER = {  # what makes the examples a matter of seconds; operator by operator there is nothing to compile
    'runtime.setup("CPU")': 'runtime.setup("CPU", mode=1)', "train_num_steps=100": "train_num_steps=2",
    "sampling_timesteps=20": "sampling_timesteps=3", "num_samples=4": "num_samples=1", "steps=20": "steps=2",
    "image_size=28, channels=1)": "image_size=28, channels=1, sampling_timesteps=2)",
    '"digits28", ': '"digits28", num_samples=1, ', "batch_size=16": "batch_size=2", "sample(16": "sample(2",
}  # fmt: skip


def run_blocks(page, folder, after=""):
    """What the blocks of ``page``, one after another as pasted into one session and made small, leave defined."""
    return run("\n".join(block for block in examples(page) if "ms_ddpm" in block), folder, after)


def run(code, folder, after=""):
    """The same of ``code``, and of ``after``, which is not made small."""
    from ms_ddpm import runtime

    for large, small in SMALLER.items():
        code = code.replace(large, small)
    file = folder / "example.py"
    file.write_text(f"{code}\n{after}\n")
    scope = {"__name__": "example"}
    try:
        with runtime.execution_mode(1):
            exec(compile(file.read_text(), str(file), "exec"), scope)
    finally:
        runtime.setup("CPU")
    return scope


def test_the_readmes_example_runs(mindspore, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_blocks("README.md", tmp_path)["images"].shape == (2, 1, 8, 8)
    assert (tmp_path / "example.png").stat().st_size > 0


def test_the_libraries_examples_run(mindspore, tmp_path, monkeypatch):
    """And the loss by hand of the text."""
    [by_hand] = re.findall(r"`(diffusion\(img, \*diffusion\.draw\(rng, \(img,\)\)\))`", read("docs/library.md"))
    after = f"import numpy as np\nrng = np.random.default_rng(0)\nimg = rng.random((4, 1, 8, 8))\nloss = {by_hand}"
    assert all(large in "".join(examples("docs/library.md")) for large in SMALLER)
    monkeypatch.chdir(tmp_path)
    scope = run_blocks("docs/library.md", tmp_path, after)
    assert scope["images"].shape == (2, 1, 28, 28)
    assert (tmp_path / "example.png").stat().st_size > 0
    assert 0.1 < float(scope["loss"]) < 5


def test_the_code_of_the_page_on_the_mindspore_article_runs(mindspore, tmp_path):
    scope = run_blocks("docs/mindspore_article.md", tmp_path)
    assert scope["images"].shape == (4, 1, 8, 8)
    assert 0.1 < float(scope["loss"]) < 5


LORAS = """
import numpy as np
from ms_ddpm.nn.adapters import TARGETS, factor_shapes, targeted, weight_shapes
from ms_ddpm.storage import lora_files

rng, shapes = np.random.default_rng(0), weight_shapes(pipe.unet)
for name in ("pytorch_lora_weights", "other"):
    of_layers = {
        path: lora_files.Factors(*(rng.standard_normal(s, dtype=np.float32) for s in factor_shapes(shapes[path], 2)), 2)
        for path in targeted(shapes, TARGETS)
    }
    lora_files.write(f"{name}.safetensors", {"unet": of_layers})
"""


def test_the_code_of_the_page_on_text_to_image_runs(mindspore, tmp_path, monkeypatch):
    """Its first block, which wants a directory and a LoRA file, behind those that make a directory."""
    monkeypatch.chdir(tmp_path)
    first, encoder, drawing, loras = examples("docs/text2image.md")
    (tmp_path / "stable-diffusion-v1-5").symlink_to("tiny")
    first = first.replace("num_inference_steps=25", "num_inference_steps=2")
    scope = run("\n".join([encoder, drawing, LORAS, loras, first]), tmp_path)
    assert (tmp_path / "astronaut.png").stat().st_size > 0
    assert scope["ids"].shape == (2, 77)
    assert (scope["vectors"].shape, scope["ends"].shape) == ((2, 77, 32), (2, 32))
    assert len(scope["tokenizer"]) == 530


def test_what_the_page_on_the_mindspore_article_says_is_so(mindspore):
    """Of MindSpore's cache, of numpy's times and of cosine's last beta."""
    import numpy as np
    from mindspore import nn
    from mindspore.ops._primitive_cache import _get_cache_prim

    from ms_ddpm import schedules

    first, second = (_get_cache_prim(nn.Conv2d)(8, 24, 1, pad_mode="valid", has_bias=False) for _ in range(2))
    assert first is second
    others = sum(
        list(reversed(np.linspace(-1, 999, steps + 1).astype(np.int32).tolist())) != schedules.ddim_times(1000, steps)
        for steps in range(1, 1000)
    )
    assert f"{others} get other times" in read("docs/mindspore_article.md")
    betas = schedules.beta_schedule("cosine", 1000)
    assert betas[-1] == 0.999
    assert (np.diff(betas) > 0).all()


def test_every_public_name_of_the_package_is_there(mindspore):
    import ms_ddpm

    assert {"score_likelihood", "score_samplers", "LatentDiffusion", "VESDE", "VPSDE", "SubVPSDE"} <= set(
        ms_ddpm.__all__
    )
    for name in ms_ddpm.__all__:
        assert getattr(ms_ddpm, name) is not None


def commands(page):
    """The commands of a page: lines of its bash blocks, without comments and with continued lines joined."""
    for block in re.findall(r"```bash\n(.*?)```", read(page), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"(^|\s)#.*", "", line).strip()
            if command:
                yield command


def spoken(page):
    """Commands within the text."""
    return [" ".join(found.split()) for found in re.findall(r"`((?:python|ms-ddpm) [^`]+)`", prose(read(page)))]


class Parsed(BaseException):
    """Raised in the place of running a command, with what was read of its line."""


def parsed(command, monkeypatch):
    """(script, options) of a command of ours, read by the parser of the script itself; None for other commands.

    Raises SystemExit or UserError where the script would.
    """
    words = [word for word in shlex.split(command) if word != "..."]
    named = next((i for i, word in enumerate(words) if re.fullmatch(r"scripts/\w+\.py", word)), None)
    if words == ["ms-ddpm", "--help"]:
        return None
    if words[0] == "ms-ddpm" or words[:3] == ["python", "-m", "ms_ddpm.cli"]:
        from ms_ddpm.cli.__main__ import main

        name, *arguments = words[1 if words[0] == "ms-ddpm" else 3 :]
        arguments = [name, *arguments]
    elif words[:2] == ["python", "-m"] and words[2].startswith("ms_ddpm."):
        name, arguments = words[2], words[3:]
        module = importlib.import_module(f"{name}.__main__" if name == "ms_ddpm.doctor" else name)
        main = module.main
    elif named is not None:
        name, arguments = words[named], words[named + 1 :]
        main = runpy.run_path(str(ROOT / name), run_name="script").get("main")
        if main is None or name in ("scripts/make_options_page.py", "scripts/check_recipes.py"):
            return name, arguments
    else:
        return None
    read_line = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        raise Parsed(read_line(self, args, namespace))

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        with pytest.raises(Parsed) as caught:
            main(arguments)
    return name, vars(caught.value.args[0])


@pytest.mark.parametrize("page", [page for page in PAGES if page not in TWINS.values()])
def test_every_command_of_every_page_is_understood_by_its_script(page, monkeypatch):
    """As it stands there: options, choices, and what train.py makes of them. The other language has the same ones."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    for command in [*commands(page), *spoken(page)]:
        if "--system flow" in command:
            continue  # of examples/own_system, which tests/systems/test_own_system.py runs
        try:
            name, options = parsed(command, monkeypatch) or ("", {})
        except SystemExit:
            pytest.fail(f"{page}: {command}")
        if name in ("scripts/train.py", "train"):
            config.resolve({k: v for k, v in options.items() if k != "config"}, options["config"])


@pytest.mark.parametrize(
    "command",
    [
        "python scripts/train.py --dimm 3",
        "python scripts/parity.py chek",
        "python -m ms_ddpm.doctor --device GPU",
        "msrun --worker_num 2 scripts/sample.py --nums 3",
        "ms-ddpm trian --config digits",
        "ms-ddpm train --dimm 3",
    ],
)
def test_a_command_that_a_script_refuses_is_seen(command, monkeypatch):
    with pytest.raises(SystemExit):
        parsed(command, monkeypatch)


def test_the_pages_say_what_there_is_to_run():
    """Every script of the checkout stands on a page, and the READMEs name those that a user begins with."""
    everything = "\n".join(map(read, PAGES))
    for script in sorted((ROOT / "scripts").glob("[!_]*")):
        if script.suffix in (".py", ".sh") and script.stem != "docs_hooks":
            assert f"scripts/{script.name}" in everything, script.name
    run = {word for page in READMES for command in commands(page) for word in command.split() if "scripts/" in word}
    first = (
        "train.py",
        "sample.py",
        "evaluate.py",
        "convert.py",
        "parity.py",
        "compare.py",
        "bench.py",
        "quickstart.sh",
    )
    assert run >= {f"scripts/{name}" for name in (*first, "test.sh")}


ASCEND = ("docs/ascend.md", "docs/ascend.zh.md")


def test_the_pages_on_ascend_are_about_ascend():
    assert sum("--device_target Ascend" in line for line in commands(ASCEND[0])) >= 8


@pytest.mark.parametrize("page", ASCEND)
def test_the_pages_on_ascend_name_checks_that_are_there(page):
    from parity_tests.cases import all_cases, select

    text = read(page)
    cases = all_cases()
    for name in re.findall(r"bisect (\S+)", text):
        assert select(cases, [name])
    judged = sum(len(select(cases, [key])) for key in small_set())
    assert f"{judged} of {judged} checks agree" in text


def small_set():
    from parity_tests.cases import SMALL_SET

    return SMALL_SET


# --- the site ---------------------------------------------------------------------------------------------------------


def site():
    """mkdocs.yml, with its tags read as nothing."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)
    return yaml.load(read("mkdocs.yml"), Loader)


def in_navigation(entry):
    """The pages of a part of mkdocs.yml's ``nav``."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in in_navigation(part)]


def titles(entry):
    """The names that a part of mkdocs.yml's ``nav`` gives its pages and sections."""
    if isinstance(entry, dict):
        return [*entry, *(title for part in entry.values() for title in titles(part))]
    return [title for part in entry for title in titles(part)] if isinstance(entry, list) else []


def test_the_site_has_every_page_and_names_it_in_both_languages():
    pages = in_navigation(site()["nav"])
    assert sorted(f"docs/{page}" for page in pages) == [p for p in PAGES if p.startswith("docs/") and ".zh." not in p]
    [languages] = [plugin["i18n"]["languages"] for plugin in site()["plugins"] if "i18n" in plugin]
    [chinese] = [language for language in languages if language["locale"] == "zh"]
    untranslated = set(titles(site()["nav"])) - set(chinese["nav_translations"])
    assert untranslated <= {"GPU", "Ascend", "API"}


def test_a_page_links_to_its_other_language_and_chinese_pages_to_chinese_ones():
    for english, chinese in TWINS.items():
        if english != "README.md":
            assert f"[简体中文]({chinese.rpartition('/')[2]})" in read(english), english
            assert f"[English]({english.rpartition('/')[2]})" in read(chinese), chinese
        folder = (ROOT / chinese).parent
        for text, target in re.findall(r"\[([^\]]+)\]\((?!https?:)([\w/.]+\.md)", read(chinese)):
            page = str((folder / target).resolve().relative_to(ROOT))
            assert page not in TWINS or text == "English", f"{chinese}: {target} has a Chinese twin"


def test_the_page_of_the_api_has_every_public_name():
    from ms_ddpm import _HOME

    hooks = tool("docs_hooks")
    shown = hooks["PUBLIC"].findall(read("docs/api.md"))
    assert shown == hooks["PUBLIC"].findall(read("docs/api.zh.md"))
    assert set(_HOME) <= set(shown)
    homes = hooks["homes"]()
    for name in shown:
        assert name in homes, f"{name} is nowhere, or in more than one module"
        assert name not in _HOME or homes[name].startswith(_HOME[name])


def test_links_out_of_the_pages_lead_to_the_repository():
    class Config:
        repo_url = "https://example.org/us/ours"

    class Page:
        class file:
            src_uri = "design/peers.md"

    rewrite = tool("docs_hooks")["on_page_markdown"]
    text = "[x](../../configs/digits.yaml) [y](../speed.md#how) ![z](../../README.md) [w](https://a.b/c)"
    assert rewrite(text, Page, Config, None) == text.replace(
        "../../configs", "https://example.org/us/ours/blob/main/configs"
    )
    Config.repo_url = ""
    assert rewrite(text, Page, Config, None) == text.replace("[x](../../configs/digits.yaml)", "x")
    assert rewrite("# T\n\n[English](peers.md)\n\nText", Page, Config, None) == "# T\n\nText"


def test_the_script_installs_what_the_extra_does():
    extra = ast.literal_eval(re.search(r"^docs = (\[.*?^\])", read("setup.py"), re.MULTILINE | re.DOTALL)[1])
    assert shlex.split(re.search(r"^requirements=\((.*)\)", read("scripts/docs.sh"), re.MULTILINE)[1]) == extra
    of_tests = re.search(r'^ +"test": \[(.*)\]', read("setup.py"), re.MULTILINE)[1]
    assert "*docs," in of_tests  # so that CI builds the site


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="the extra docs is not installed")
def test_the_site_builds(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for page in tmp_path.rglob("*.html"):  # a reader without a network sees all of it
        assert not re.findall(r'(?:src|rel="stylesheet" href)="https?://', page.read_text(encoding="utf-8")), page
