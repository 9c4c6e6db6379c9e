"""What `mkdocs build` does to a page beyond Markdown (mkdocs.yml, "hooks"): a text reads well on GitHub and there.

Links to files that are no pages, such as ../configs/digits.yaml, lead to the repository (REPO_URL); where that is not
known they become plain text. The line that leads to a page's other language is left out, since every page of the site
has a switch for it. ``::: ms_ddpm.Unet`` becomes the full name of `Unet`, found in the source without importing it, so
that the site is built where there is no MindSpore, and the page need not know in which file a class stands.
"""

from __future__ import annotations

import ast
import functools
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[([^\]\[]*)\]\(((?!https?:|#)[^)\s]+)\)")
OTHER_LANGUAGE = re.compile(r"^\[(?:简体中文|English)\]\([\w.]+\.md\)\n+", re.MULTILINE)
PUBLIC = re.compile(r"^::: ms_ddpm\.(\w+)$", re.MULTILINE)


@functools.cache
def homes() -> dict[str, str]:
    """Name of a class or function -> the module below ms_ddpm that holds it; of public names the one that the package
    takes them from, of others the only one that has them."""
    found: dict[str, set[str]] = {}
    public = {}
    for path in (ROOT / "ms_ddpm").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT / "ms_ddpm").with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if module.startswith("cli."):  # the commands, some of which are called as what they call
                continue
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not module.endswith("__init__"):
                found.setdefault(node.name, set()).add(module)
            if module == "__init__" and isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
                public = ast.literal_eval(node.value)
    home = {name: modules.pop() for name, modules in found.items() if len(modules) == 1}
    return home | {name: where for name, where in public.items() if where in found.get(name, {where})}


def outward(page: str, target: str) -> str | None:
    """The path, from the repository's root, of what the page ``page`` of docs/ links to; None where it is in docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target.partition("#")[0]))
    return None if path.startswith("docs/") else path


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Called by MkDocs with the text of each page."""
    if page.file.src_uri.startswith("index."):
        page.meta["hide"] = ["navigation"]  # it would have one entry
    home = homes()
    markdown = OTHER_LANGUAGE.sub("", markdown)
    markdown = PUBLIC.sub(lambda m: f"::: ms_ddpm.{home[m[1]]}.{m[1]}", markdown)
    markdown = markdown.replace("<details>", '<details markdown="1">')

    def link(match: re.Match) -> str:
        text, target = match.groups()
        path = outward(page.file.src_uri, target)
        if path is None:
            return match[0]
        repository = (config.repo_url or "").rstrip("/")
        return f"[{text}]({repository}/blob/main/{path})" if repository else text

    return LINK.sub(link, markdown)
