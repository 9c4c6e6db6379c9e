"""Progress bars of loops, which whoever is outside may silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")

_silent = ContextVar("silent", default=False)  # of this thread


@contextmanager
def silenced(on: bool = True) -> Iterator[None]:
    """Inside the ``with`` block no `bar` is shown, whatever the functions that are called were told; False: they are.

    A Trainer without progress bars silences those of its pictures so: the function that draws them may be anybody's.
    """
    before = _silent.set(on or _silent.get())
    try:
        yield
    finally:
        _silent.reset(before)


def bar(items: Iterable[T], description: str, *, show: bool = True, **options: Any) -> Iterable[T]:
    """``items``, counted by a progress bar called ``description``; ``options`` are tqdm's."""
    return tqdm(items, desc=description, disable=not show or _silent.get(), **options)
