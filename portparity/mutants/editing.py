"""Port bugs as the edits they are: for the duration of a ``with`` block a function is the one its changed source makes.

    edit("package.layers:RMSNorm.forward", (" * self.scale", ""))

A text that is not there exactly once is a `StaleMutant`: the source moved on, and the mutant must follow it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import itertools
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from unittest import mock

from ..errors import HarnessError

Apply = Callable[[], AbstractContextManager]
Change = tuple[str, str]
HOLDERS: set[str] = set()  # packages that import functions from each other: those of the code under test
_numbers = itertools.count()


class StaleMutant(HarnessError):
    """A mutant that no longer fits the source it changes."""


def _resolve(target: str) -> tuple[object, str]:
    """(what holds it, its name) of "package.module:Class.method"."""
    module, path = target.split(":")
    holder = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    return holder, name


def _changed_source(target: str, function: Callable, changes: tuple[Change, ...]) -> str:
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        if source.count(old) != 1:
            raise StaleMutant(f"{target} has {old!r} {source.count(old)} times, and a mutant needs it once")
        source = source.replace(old, new)
    return source


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="mutants_")


def _made(target: str, function: Callable, changes: tuple[Change, ...], owner: type | None) -> Callable:
    """``function`` with ``changes``, in a file: MindSpore compiles from the source."""
    text = _changed_source(target, function, changes)
    name = function.__name__
    text = f"def make(__class__):\n{textwrap.indent(text, '    ')}\n    return {name}\n"  # super() reads __class__
    file = Path(_folder().name) / f"mutant_{next(_numbers)}.py"
    file.write_text(text, encoding="utf-8")
    scope: dict = {}
    exec(compile(text, str(file), "exec"), inspect.unwrap(function).__globals__, scope)
    return scope["make"](owner)


def _holders(function: Callable) -> Iterator[tuple[dict, str]]:
    """Every dict (a module's names, a table in a module) of `HOLDERS` in which ``function`` stands, and its key."""
    for module_name, module in list(sys.modules.items()):
        if module is None or not module_name.startswith(tuple(HOLDERS)):
            continue
        tables = [vars(module), *(value for value in vars(module).values() if isinstance(value, dict))]
        for table in tables:
            yield from ((table, key) for key, value in list(table.items()) if value is function)


@contextlib.contextmanager
def replaced(target: str, make: Callable[[Callable, type | None], Callable]) -> Iterator[None]:
    """Inside, ``target`` is what ``make`` gives for (it, its class); a module's function wherever it was imported."""
    holder, name = _resolve(target)
    with ExitStack() as stack:
        if isinstance(holder, type):
            raw = inspect.getattr_static(holder, name)
            made = make(getattr(raw, "__func__", raw), holder)
            stack.enter_context(mock.patch.object(holder, name, type(raw)(made) if hasattr(raw, "__func__") else made))
        else:
            original = getattr(holder, name)
            made = make(original, None)
            for table, key in _holders(original):
                stack.enter_context(mock.patch.dict(table, {key: made}))
        yield


def edit(target: str, *changes: Change) -> Apply:
    """A mutant that changes texts in the source of ``target`` ("package.module:Class.method")."""

    @functools.cache
    def make(function: Callable, owner: type | None) -> Callable:
        return _made(target, function, changes, owner)

    return partial(replaced, target, make)


def swap(target: str, value: object) -> Apply:
    """A mutant that gives a constant, or an entry of a table ("package.module:TABLE[key]"), another value."""
    target, _, key = target.rstrip("]").partition("[")

    @contextlib.contextmanager
    def applied() -> Iterator[None]:
        holder, name = _resolve(target)
        if key:
            table = getattr(holder, name)
            if key not in table:
                raise StaleMutant(f"{target} has no {key!r}")
            patched = mock.patch.dict(table, {key: value})
        else:
            patched = mock.patch.object(holder, name, value)  # raises where there is none
        with patched:
            yield

    return applied


def together(*applies: Apply) -> Apply:
    """One mutant of several changes."""

    @contextlib.contextmanager
    def applied() -> Iterator[None]:
        with ExitStack() as stack:
            for apply in applies:
                stack.enter_context(apply())
            yield

    return applied
