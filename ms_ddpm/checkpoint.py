"""Checkpoints that are written whole or not at all.

``OUTPUT/checkpoints/step-00001600/`` holds ``model``, ``ema`` and ``optimizer.safetensors`` and ``state.json`` (step,
seed, configuration, versions, and a SHA-256 per file). A directory is written beside its place, synced to disk and
renamed, so that a process killed at any moment leaves only whole ones. The files ``last`` and ``best`` name a step.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import UserError

log = logging.getLogger("ms_ddpm")

Arrays = Mapping[str, np.ndarray]
_STEP = re.compile(r"^step-(\d{8,})$")
_WRITING = ".writing-"


@dataclass
class Checkpoint:
    """One checkpoint, read and verified: ``arrays["model"]`` etc. by name, and everything in state.json."""

    path: Path
    step: int
    state: dict
    arrays: dict[str, dict[str, np.ndarray]]


def step_name(step: int) -> str:
    """Directory name of a step."""
    return f"step-{step:08d}"


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file beside its place, syncs it, and renames it."""
    beside = path.with_name(f"{_WRITING}{path.name}-{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    _sync(path.parent)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest_310(file)


def _digest_310(file) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def save(directory: Path, step: int, arrays: Mapping[str, Arrays], state: Mapping, *, keep_max: int = 3) -> Path:
    """Writes the checkpoint of ``step`` under ``directory``, names it ``last``, and keeps ``keep_max`` of them.

    Raises UserError (disk full, no permission); nothing half-written stays.
    """
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    final = directory / step_name(step)
    writing = directory / f"{_WRITING}{step_name(step)}-{os.getpid()}"
    try:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir()
        files = {}
        for name, group in arrays.items():
            path = writing / f"{name}.safetensors"
            save_file({key: np.ascontiguousarray(value) for key, value in group.items()}, path)
            _sync(path)
            files[path.name] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
        content = {**state, "step": step, "files": files}
        (writing / "state.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        _sync(writing / "state.json")
        _sync(writing)
        if final.exists():  # the same step of a run that was resumed from before it
            shutil.rmtree(final)
        os.rename(writing, final)
        _sync(directory)
        write_atomically(directory / "last", f"{final.name}\n".encode())
    except OSError as error:
        shutil.rmtree(writing, ignore_errors=True)
        raise UserError(
            f"could not write checkpoint {final}: {error.strerror or error}; earlier checkpoints are intact"
        ) from None
    _rotate(directory, keep_max)
    return final


def mark_best(directory: Path, step: int) -> None:
    """Names ``step`` the best so far."""
    write_atomically(directory / "best", f"{step_name(step)}\n".encode())


def steps(directory: Path) -> list[int]:
    """Steps of the whole checkpoints under ``directory``, oldest first."""
    if not directory.is_dir():
        return []
    return sorted(int(match[1]) for match in map(_STEP.match, os.listdir(directory)) if match)


def named_step(directory: Path, name: str) -> int | None:
    """The step that ``last`` or ``best`` names, or None."""
    try:
        match = _STEP.match((directory / name).read_text().strip())
    except (OSError, UnicodeDecodeError):
        return None
    return int(match[1]) if match and (directory / step_name(int(match[1]))).is_dir() else None


def _rotate(directory: Path, keep_max: int) -> None:
    kept = {named_step(directory, "best"), named_step(directory, "last")}
    for step in steps(directory)[:-keep_max] if keep_max > 0 else []:
        if step not in kept:
            shutil.rmtree(directory / step_name(step), ignore_errors=True)


def clean(directory: Path) -> None:
    """Removes what a killed process left half-written."""
    if directory.is_dir():
        for path in directory.glob(f"{_WRITING}*"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def locate(path: Path, which: str = "last") -> Path:
    """The checkpoint directory meant by ``path``: itself, or the ``which`` one of an output directory."""
    if (path / "state.json").is_file():
        return path
    for directory in (path / "checkpoints", path):
        found = steps(directory)
        if found:
            step = named_step(directory, which)
            if which == "last":
                # A process killed between the rename and the update of ``last`` leaves a newer, whole directory.
                step = found[-1]
            if step is None:
                raise UserError(f"{directory} has no '{which}' checkpoint; it has steps {found}")
            return directory / step_name(step)
    raise UserError(f"no checkpoint in {path}; expected an output directory of train.py or a step-... directory in it")


def _broken(path: Path, reason: str) -> UserError:
    return UserError(
        f"checkpoint file {path} is damaged: {reason}; delete {path.parent} to fall back to an earlier step"
    )


def read_state(path: Path) -> dict:
    """state.json of one checkpoint directory. Raises UserError where it cannot be read."""
    try:
        state = json.loads((path / "state.json").read_text())
        if not (isinstance(state, dict) and isinstance(state["step"], int) and isinstance(state["files"], dict)):
            raise ValueError("step or files missing")
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path / 'state.json'}: {error.strerror or error}") from None
    except (ValueError, KeyError) as error:
        raise _broken(path / "state.json", str(error).splitlines()[0]) from None
    return state


def load(path: Path, groups: tuple[str, ...] = ("model", "ema", "optimizer")) -> Checkpoint:
    """Reads and verifies one checkpoint directory. Raises UserError naming the first file that was changed."""
    from safetensors.numpy import load as parse

    state = read_state(path)
    arrays = {}
    for group in groups:
        file = path / f"{group}.safetensors"
        expected = state["files"].get(file.name)
        if not isinstance(expected, dict):
            raise _broken(path / "state.json", f"it does not list {file.name}")
        try:
            data = file.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read checkpoint file {file}: {error.strerror or error}") from None
        if len(data) != expected.get("bytes"):
            raise _broken(file, f"{len(data)} bytes, expected {expected.get('bytes')}")
        if hashlib.sha256(data).hexdigest() != expected.get("sha256"):
            raise _broken(file, "its checksum differs from the one written with it")
        arrays[group] = parse(data)
    return Checkpoint(path, state["step"], state, arrays)


def match(arrays: Arrays, expected: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Raises UserError, naming the first differences, unless ``arrays`` has just the ``expected`` names and shapes."""
    problems = [f"missing {name}" for name in expected if name not in arrays]
    problems += [f"unexpected {name}" for name in arrays if name not in expected]
    problems += [
        f"{name} has shape {tuple(arrays[name].shape)}, expected {tuple(shape)}"
        for name, shape in expected.items()
        if name in arrays and tuple(arrays[name].shape) != tuple(shape)
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UserError(f"{what} is of another architecture: {'; '.join(problems[:3])}{more}")
