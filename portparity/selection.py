"""Cases picked from a list by their names."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from .case import Case
from .errors import NothingRan, UnknownCase


def matches(case: Case, pattern: str) -> bool:
    """Whether ``pattern`` names ``case`` or the computation it belongs to."""
    return fnmatch.fnmatchcase(case.id, pattern) or fnmatch.fnmatchcase(case.computation.key, pattern)


def select(cases: Sequence[Case], patterns: Sequence[str] = (), mode: str | None = None) -> list[Case]:
    """The cases whose id matches one of ``patterns`` (fnmatch), in the ``mode`` where that is given.

    Raises UnknownCase for a pattern that nothing matches, NothingRan where nothing is left.
    """
    for pattern in patterns:
        if not any(matches(case, pattern) for case in cases):
            near = [case.id for case in cases if pattern.strip("*").lower() in case.id.lower()][:3]
            hint = f"; did you mean {', '.join(near)}?" if near else "; the command list shows all"
            raise UnknownCase(f"no case is called {pattern!r}{hint}")
    chosen = [
        case for case in cases
        if (not patterns or any(matches(case, pattern) for pattern in patterns)) and mode in (None, case.mode)
    ]  # fmt: skip
    if not chosen:
        raise NothingRan("the selection is empty: nothing ran, so nothing agrees")
    return chosen
