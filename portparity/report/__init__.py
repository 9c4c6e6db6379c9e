"""Shows what was found: from one results.json a terminal table, JUnit XML, Markdown and an HTML page.

`schema` defines results.json; `facts` says what is in it, `words` puts that in words; `terminal`, `junit`, `markdown`
and `html` lay it out, the last with `sections`, `charts`, `svg` and `style`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..files import write_atomically
from . import html, junit, markdown, terminal
from .schema import exit_code, load, results, save

__all__ = ["exit_code", "html", "junit", "load", "markdown", "results", "save", "terminal", "write"]

RENDERERS = {"junit.xml": junit.render, "summary.md": markdown.summary, "report.html": html.page}


def write(
    found: Mapping, directory: str | Path, renderers: Mapping[str, Callable[[Mapping], str]] = RENDERERS
) -> list[Path]:
    """Writes results.json and everything that is rendered from it.

    Args:
        found: as `results` makes it or `load` reads it.
        directory: made where it is missing.
        renderers: what makes each file of it, by name.

    Returns:
        The files, results.json first.
    """
    directory = Path(directory)
    # an undecodable byte in a message must not cost the report
    pages = {name: render(found).encode("utf-8", "replace") for name, render in renderers.items()}
    save(directory / "results.json", found)
    for name, page in pages.items():
        write_atomically(directory / name, page)
    return [directory / name for name in ("results.json", *renderers)]
