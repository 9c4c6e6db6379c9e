"""Writes what a comparison found."""

from __future__ import annotations

import json
from pathlib import Path

from ms_ddpm.storage.files import write_atomically

from . import markdown, page, pictures
from .run import Comparison


def write(found: Comparison, folder: str | Path) -> list[Path]:
    """Writes compare.html, summary.md, compare.json and both sample grids; the page first in the list."""
    drawn, factor = pictures.make(found.samples)
    text = json.dumps(page.finite(found.results), indent=1, allow_nan=False)
    files = {
        "compare.html": page.page(found.results, drawn, factor).encode(),
        "summary.md": markdown.summary(found.results).encode(),
        "compare.json": (text + "\n").encode(),
        "mindspore.png": drawn["mindspore"],
        "torch.png": drawn["torch"],
    }
    for name, content in files.items():
        write_atomically(Path(folder) / name, content)
    return [Path(folder) / name for name in files]
