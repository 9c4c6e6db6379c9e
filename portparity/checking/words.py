"""What a check says while it runs, and what an exception says, in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def bar(items: Iterable[Item], what: str, count: int | None = None) -> Iterable[Item]:
    """``items``, ``count`` of them, with a bar on a terminal where tqdm is installed."""
    if not sys.stderr.isatty():
        return items
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return items
    return tqdm(items, desc=what, total=count, leave=False)


def said_by(who: str, error: BaseException) -> str:
    """What a leg raised."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip("- \n")), "")
    return f"{who} raised {getattr(error, 'kind', type(error).__name__)}: {first}"
