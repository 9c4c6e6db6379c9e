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
from .files import WRITING, sync, write_atomically

log = logging.getLogger("ms_ddpm")

Arrays = Mapping[str, np.ndarray]
_STEP = re.compile(r"^step-(\d{8,})$")


@dataclass
class Checkpoint:
    """One checkpoint, read and verified: ``arrays["model"]`` etc. by name, and everything in state.json."""

    path: Path
    step: int
    state: dict
    arrays: dict[str, dict[str, np.ndarray]]


def versions() -> dict[str, str]:
    """What a checkpoint was made with."""
    from importlib.metadata import version

    from . import __version__

    return {"ms_ddpm": __version__, **{name: version(name) for name in ("mindspore", "numpy")}}


def step_name(step: int) -> str:
    """Directory name of a step."""
    return f"step-{step:08d}"


def save(directory: Path, step: int, arrays: Mapping[str, Arrays], state: Mapping, *, keep_max: int = 3) -> Path:
    """Writes the checkpoint of ``step`` under ``directory``, names it ``last``, and keeps ``keep_max`` of them.

    Raises UserError (disk full, no permission); nothing half-written stays.
    """
    from safetensors.numpy import save as serialise

    final = directory / step_name(step)
    writing = directory / f"{WRITING}{step_name(step)}-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir()
        files = {}
        for name, group in arrays.items():
            data = serialise({key: np.ascontiguousarray(value) for key, value in group.items()})
            files[f"{name}.safetensors"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            write_atomically(writing / f"{name}.safetensors", data)
        content = {**state, "step": step, "files": files}
        content["sha256"] = state_digest(content)
        write_atomically(writing / "state.json", json.dumps(content, indent=2, sort_keys=True).encode())
        if final.exists():  # the same step of a run that was resumed from before it
            _remove(final)
        os.rename(writing, final)
        sync(directory)
        write_atomically(directory / "last", f"{final.name}\n".encode())
    except (OSError, UserError) as error:
        shutil.rmtree(writing, ignore_errors=True)
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"could not write checkpoint {final}: {reason}; earlier checkpoints are intact") from None
    _rotate(directory, keep_max)
    return final


def _remove(path: Path) -> None:
    """Removes a checkpoint so that a kill on the way leaves none that looks whole."""
    aside = path.with_name(f"{WRITING}old-{path.name}-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(path, aside)
    shutil.rmtree(aside, ignore_errors=True)


def state_digest(state: Mapping) -> str:
    """Checksum of everything in state.json but itself."""
    rest = {key: value for key, value in state.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


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
            _remove(directory / step_name(step))


def clean(*directories: Path) -> None:
    """Removes what a killed process left half-written."""
    for directory in directories:
        for path in directory.glob(f"{WRITING}*"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def locate(path: Path, which: str = "last") -> Path:
    """The checkpoint directory meant by ``path``: itself, or the ``which`` one of an output directory."""
    if (path / "state.json").is_file():
        return path
    for directory in (path / "checkpoints", path):
        found = steps(directory)
        if found:
            # A process killed between the rename and the update of ``last`` leaves a newer, whole directory.
            step = found[-1] if which == "last" else named_step(directory, which)
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
        if state.get("sha256") != state_digest(state):
            raise ValueError("its checksum differs from the one written with it")
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
