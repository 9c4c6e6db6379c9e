"""Faults on purpose: a disk whose every operation can fail, a process that ends at any of them, a loss of power.

`Disk` stands between `ms_ddpm` and the file system (os.rename, os.fsync, file.write, ...), numbers the operations that
change something and makes the chosen one fail. Run as a program it ends the process instead:

  python -m tests.faults FOLDER        ends a process before every operation of every kind of save
"""

from __future__ import annotations

import builtins
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ms_ddpm import checkpoint, files, runs
from ms_ddpm.errors import UserError

ARRAYS = ("model", "ema", "optimizer")


class Disk:
    """Within the ``with`` block, operation number ``at`` (from 0) of those that change the file system goes wrong.

    Args:
        at: which; None: all go well.
        error: errno that it fails with; a write that fails writes half of its bytes first, as a full disk does.
        for_good: so do all after it, but for those that remove things.
        kill: the process ends there, without any clean-up, instead of an error.
        root: only what happens under this directory counts.

    ``operations`` are their names and paths, ``events`` what they did, for `after_power_loss`. fsync is only pretended.
    """

    REMOVING = ("unlink", "rmdir", "remove")

    def __init__(
        self, at: int | None = None, error: int = 28, *, for_good: bool = False, kill: bool = False,
        root: Path = Path("/"),
    ):  # fmt: skip
        self.at, self.error, self.for_good, self.kill, self.root = at, error, for_good, kill, root
        self.operations, self.events = [], []
        self._real = {}

    def __enter__(self) -> Disk:
        for name in ("mkdir", "rename", "replace", "fsync", *self.REMOVING):
            self._real[name] = getattr(os, name)
            setattr(os, name, self._wrap(name))
        files.open = runs.open = self._open
        return self

    def __exit__(self, *error) -> None:
        for name, function in self._real.items():
            setattr(os, name, function)
        del files.open, runs.open

    def operation(self, name: str, path: str, act: Callable, half: Callable | None = None):
        """One operation, numbered."""
        if not Path(path).is_relative_to(self.root):
            return act()
        number = len(self.operations)
        self.operations.append(f"{name} {path}")
        hit = number == self.at or (self.for_good and self.at is not None and number > self.at)
        if hit and not (number != self.at and name in self.REMOVING):
            if self.kill:
                os._exit(99)
            if half is not None and (written := half()):
                return written
            raise OSError(self.error, os.strerror(self.error))
        return act()

    def _wrap(self, name: str) -> Callable:
        real = self._real[name]

        def call(*args, dir_fd=None, **kwargs):
            if name == "fsync":
                real_path = os.readlink(f"/proc/self/fd/{args[0]}")
                return self.operation(name, real_path, lambda: self.events.append(("fsync", real_path)))
            base = Path(os.readlink(f"/proc/self/fd/{dir_fd}")) if dir_fd is not None else Path.cwd()
            paths = [str(base / os.fspath(arg)) for arg in args if isinstance(arg, (str, os.PathLike))]
            if dir_fd is not None:
                kwargs["dir_fd"] = dir_fd

            def act():
                real(*args, **kwargs)
                self.events.append((name, *paths))

            return self.operation(name, paths[0], act)

        return call

    def _open(self, path, mode="r", **kwargs):
        def act():
            file = builtins.open(path, mode, **kwargs)  # noqa: SIM115 (closed by _File)
            self.events.append(("create", str(path)))
            return _File(self, file, str(path), raw=kwargs.get("buffering") == 0)

        return self.operation("open", str(path), act)


class _File:
    """A file whose writes are operations of a `Disk`."""

    def __init__(self, disk: Disk, file, path: str, *, raw: bool):
        self.disk, self.file, self.path, self.raw = disk, file, path, raw

    def write(self, data) -> int:
        """All of ``data``; an unbuffered file that meets the end of the disk says how much of it went there."""
        data = bytes(data)

        def act():
            self.file.write(data)
            self.file.flush()
            self.disk.events.append(("write", self.path, data))
            return len(data)

        def half():
            if self.disk.at == len(self.disk.operations) - 1:
                self.file.write(data[: len(data) // 2])
                self.file.flush()
                return len(data) // 2 if self.raw else 0
            return 0

        return self.disk.operation("write", self.path, act, half)

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error) -> None:
        self.file.close()


# --- a loss of power ------------------------------------------------------------------------------------------------


class _Node:
    """A file (``content``) or a directory (``entries``), as the process sees it and as the disk has it."""

    def __init__(self, directory: bool):
        self.seen = {} if directory else b""
        self.on_disk = {} if directory else b""
        self.directory = directory


def after_power_loss(events: list[tuple], root: Path, start: Path, target: Path, *, lost: str) -> None:
    """Makes under ``target`` what a machine may find after ``events`` happened to ``root`` and its power failed.

    ``start``: a copy of ``root`` from before, all of it on the disk. ``lost`` says what never got there of what was not
    synced: "all"; "bytes" (file systems with delayed allocation: the names are there, files are empty); "names"
    (directories of which a parent is older than its children).
    """
    root_node = _read_tree(start)

    def find(path: str) -> _Node:
        node = root_node
        for part in Path(path).relative_to(root).parts:
            node = node.seen[part]
        return node

    for name, path, *rest in events:
        if Path(path) != root and not Path(path).is_relative_to(root):
            continue
        parent, last = (find(str(Path(path).parent)), Path(path).name) if Path(path) != root else (None, "")
        if name in ("create", "mkdir"):
            parent.seen[last] = _Node(name == "mkdir")
        elif name == "write":
            parent.seen[last].seen += rest[0]
        elif name == "fsync":
            node = find(path)
            node.on_disk = dict(node.seen) if node.directory else node.seen
        elif name in ("rename", "replace"):
            find(str(Path(rest[0]).parent)).seen[Path(rest[0]).name] = parent.seen.pop(last)
        else:
            del parent.seen[last]

    def put(node: _Node, path: Path, depth: int) -> None:
        if not node.directory:
            path.write_bytes(node.on_disk)
            return
        path.mkdir()
        old = lost == "all" or (lost == "names" and depth == 1)
        for name, child in (node.on_disk if old else node.seen).items():
            put(child, path / name, depth + 1)

    put(root_node, target, 0)


def _read_tree(path: Path) -> _Node:
    node = _Node(path.is_dir())
    node.seen = {p.name: _read_tree(p) for p in path.iterdir()} if node.directory else path.read_bytes()
    node.on_disk = dict(node.seen) if node.directory else node.seen
    return node


# --- saves, and what must hold after a fault ------------------------------------------------------------------------


def arrays(value: float) -> dict:
    """The three groups of a checkpoint, filled with ``value``."""
    return {name: {"w": np.full((2, 3), value, np.float32)} for name in ARRAYS}


def save(folder: Path, step: int, value: float | None = None, **options) -> Path:
    """A small checkpoint whose numbers are its step, or ``value``."""
    return checkpoint.save(folder, step, arrays(step if value is None else value), {"config": None}, **options)


def prepare(run: Path, kind: str) -> None:
    """A run directory just before a save of ``kind``."""
    folder = run / "checkpoints"
    run.mkdir(parents=True)
    with Disk():
        for step in {"first": [], "replacing": [2], "the same": [2], "best": [1]}.get(kind, [1, 2]):
            save(folder, step, 1.5 if kind == "replacing" else None)
        if kind == "rotating best":
            checkpoint.mark_best(folder, 1)


def perform(run: Path, kind: str) -> None:
    """The save itself."""
    folder = run / "checkpoints"
    step = 2 if kind in ("replacing", "the same", "best") else 3
    save(folder, step, keep_max=1 if kind.startswith("rotating") else 3)
    if kind == "best":
        checkpoint.mark_best(folder, step)


KINDS = ("first", "next", "rotating", "rotating best", "replacing", "the same", "best")
NEW = {"first": 3, "next": 3, "rotating": 3, "rotating best": 3, "replacing": 2, "the same": 2, "best": 2}
LAST_BEFORE = {"first": None, "next": 2, "rotating": 2, "rotating best": 2, "replacing": 2, "the same": 2, "best": 1}


def assert_intact(folder: Path) -> list[int]:
    """Every step that shows under ``folder`` is whole, and ``last`` and ``best`` name such; returns the steps."""
    found = checkpoint.steps(folder)
    for step in found:
        path = folder / checkpoint.step_name(step)
        state = checkpoint.check(path)
        assert (state["step"], checkpoint.strangers(path, state)) == (step, [])
        assert set(checkpoint.load(path).arrays) == set(ARRAYS)
    for name in ("last", "best"):
        assert not (folder / name).exists() or checkpoint.named_step(folder, name) in found, name
    return found


def assert_recovers(run: Path, kind: str, *, finished: bool, at_once: bool = True) -> None:
    """What must hold of ``run`` after any fault in a save of ``kind``, and that the next one goes well."""
    folder = run / "checkpoints"
    if at_once or kind != "replacing":  # there a kill may leave the checkpoint under another name until the next start
        found = assert_intact(folder)
        assert LAST_BEFORE[kind] is None or found[-1] >= LAST_BEFORE[kind], "the last good checkpoint is lost"
    checkpoint.clean(run, folder)
    found = assert_intact(folder)
    assert LAST_BEFORE[kind] is None or found[-1] >= LAST_BEFORE[kind], "the last good checkpoint is lost"
    assert not finished or NEW[kind] in found, "a save that ended well is lost"
    assert kind != "rotating best" or 1 in found, "the best checkpoint is lost"
    assert not list(run.rglob(f"{files.WRITING}*")), "half-written files stay"
    for step in found:
        value = checkpoint.load(folder / checkpoint.step_name(step)).arrays["model"]["w"][0, 0]
        assert value == step or (kind, value) == ("replacing", 1.5)
    with Disk():
        save(folder, 9)
    assert assert_intact(folder)[-1] == 9


def fresh(template: Path, target: Path) -> Path:
    """A copy of a prepared directory."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(template, target)
    return target


def failing(work: Path, error: int, *, for_good: bool) -> int:
    """Makes every operation of every kind of save fail once; returns how many faults there were."""
    faults = 0
    for kind in KINDS:
        template = work / f"template {kind}"
        prepare(template, kind)
        at, finished = 0, False
        while not finished:
            run = fresh(template, work / "run")
            with Disk(at, error, for_good=for_good) as disk:
                failed = False
                try:
                    perform(run, kind)
                except UserError as problem:  # anything else fails the test
                    failed, message = True, str(problem)
            finished = len(disk.operations) <= at
            assert not (finished and failed)
            assert not failed or (os.strerror(error) in message and "\n" not in message), message
            assert_recovers(run, kind, finished=not failed, at_once=not for_good)
            faults += not finished
            at += 1
        shutil.rmtree(template)
    return faults


def kills(work: Path) -> int:
    """Ends a forked process before every operation of every kind of save; returns how often."""
    faults = 0
    for kind in KINDS:
        template = work / f"template {kind}"
        prepare(template, kind)
        at, killed = 0, True
        while killed:
            run = fresh(template, work / "run")
            child = os.fork()
            if child == 0:
                with Disk(at, kill=True):
                    perform(run, kind)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in (0, 99), code
            killed = code == 99
            assert_recovers(run, kind, finished=not killed, at_once=False)
            faults += killed
            at += 1
        shutil.rmtree(template)
    return faults


def power_losses(work: Path) -> int:
    """Fails the power after every operation of every kind of save, in three ways; returns how often."""
    faults = 0
    for kind in KINDS:
        template = work / f"template {kind}"
        prepare(template, kind)
        run = fresh(template, work / "run")
        with Disk() as disk:
            perform(run, kind)
        for lost in ("all", "bytes", "names"):
            for at in range(len(disk.events) + 1):
                found = work / "found"
                shutil.rmtree(found, ignore_errors=True)
                after_power_loss(disk.events[:at], run, template, found, lost=lost)
                try:
                    assert_recovers(found, kind, finished=at == len(disk.events), at_once=False)
                except (AssertionError, UserError) as error:
                    raise AssertionError(f"{kind}, {lost} lost after {at}: {disk.events[:at][-3:]}: {error}") from None
                faults += 1
        shutil.rmtree(template)
    return faults


if __name__ == "__main__":
    print(json.dumps({"kills": kills(Path(sys.argv[1]))}))
