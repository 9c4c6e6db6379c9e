"""What a mutant is."""

from __future__ import annotations

from dataclasses import dataclass

from ..verdict import DIFFER
from .editing import Apply


@dataclass(frozen=True)
class Mutant:
    """A port bug that the harness must find, and where.

    Args:
        name: unique; what the bug is.
        family: the part of the code that it is in.
        framework: whose code the bug is in, and who is judged.
        place: pattern (fnmatch) of the cases that must find it first: of the lowest tier that can.
        apply: makes the context in which the bug is there.
        source: where the bug is known from, a paper or a library; otherwise the kind of slip.
        cases: patterns of the cases that are run, beside those of ``place``.
        verdict: what the cases at ``place`` must say; a bug that stops the program is "broken".
    """

    name: str
    family: str
    framework: str
    place: str
    apply: Apply
    source: str
    cases: tuple[str, ...]
    verdict: str = DIFFER
