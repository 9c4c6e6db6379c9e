"""What `check` gives."""

from __future__ import annotations

from pathlib import Path

from . import page
from .findings import Findings


class Report(Findings):
    """The verdicts of a port, to look at and to write down; see `Findings`.

    A class of its own, so that what writes the pages knows what was found, and not who asks for them.
    """

    def write(self, folder: str | Path) -> Path:
        """Writes results.json, junit.xml, summary.md and report.html; returns the folder."""
        return page.write(self, Path(folder))
