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

from .errors import UserError, quoted, reason_of
from .files import WRITING, sync, write_atomically
from .untrusted import check_regular, read_bytes, read_text

log = logging.getLogger("ms_ddpm")

Arrays = Mapping[str, np.ndarray]
_STEP = re.compile(r"step-([0-9]{8,18})")


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
    found = [step_of(name) for name in os.listdir(directory)]
    return sorted(step for step in found if step is not None and (directory / step_name(step)).is_dir())


def step_of(name: str) -> int | None:
    """The step that a directory is named after, or None; step-000000001, with a zero too many, is no such name."""
    match = _STEP.fullmatch(name)
    return int(match[1]) if match and step_name(int(match[1])) == name else None


def named_step(directory: Path, name: str) -> int | None:
    """The step that ``last`` or ``best`` names, or None."""
    try:
        step = step_of(read_text(directory / name, limit=1000).strip())
    except (OSError, UnicodeDecodeError):
        return None
    return step if step is not None and (directory / step_name(step)).is_dir() else None


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
    file = path / "state.json"
    try:
        state = json.loads(read_text(file))
        if not (isinstance(state, dict) and type(state.get("step")) is int and isinstance(state.get("files"), dict)):
            raise ValueError("step or files missing")
        if state.get("sha256") != state_digest(state):
            raise ValueError("its checksum differs from the one written with it")
        named = step_of(path.name)  # None where the directory was given another name
        if not _is_count(state["step"]) or named not in (None, state["step"]):
            raise ValueError(f"it is of step {quoted(state['step'])}")
    except OSError as error:
        raise UserError(f"cannot read checkpoint {file}: {error.strerror or error}") from None
    except RecursionError:
        raise _broken(file, "it is nested too deeply") from None
    except ValueError as error:
        raise _broken(file, reason_of(error)) from None
    return state


def load(path: Path, groups: tuple[str, ...] = ("model", "ema", "optimizer")) -> Checkpoint:
    """Reads and verifies one checkpoint directory. Raises UserError naming the first file that was changed."""
    state = read_state(path)
    arrays = {}
    for group in groups:
        file = path / f"{group}.safetensors"
        expected = state["files"].get(file.name)
        if not isinstance(expected, dict):
            raise _broken(path / "state.json", f"it does not list {file.name}")
        try:
            size = check_regular(file)
            if size != expected.get("bytes"):
                raise _broken(file, f"{size} bytes, expected {quoted(expected.get('bytes'))}")
            data = read_bytes(file)
        except OSError as error:
            raise UserError(f"cannot read checkpoint file {file}: {error.strerror or error}") from None
        if hashlib.sha256(data).hexdigest() != expected.get("sha256"):
            raise _broken(file, "its checksum differs from the one written with it")
        try:
            arrays[group] = parse_tensors(data)
        except ValueError as error:
            raise _broken(file, reason_of(error)) from None
    return Checkpoint(path, state["step"], state, arrays)


def parse_tensors(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name. Raises ValueError where it is none, or of types that numpy lacks."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as parse

    try:
        return parse(data)
    except KeyError as error:
        raise ValueError(f"it holds numbers of type {error}, which numpy does not have") from None
    except (SafetensorError, ValueError, TypeError, OverflowError, MemoryError, AttributeError) as error:
        raise ValueError(f"it is no safetensors file: {reason_of(error)}") from None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 10**18


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300  # false for nan


_TRAINING = {  # of state["training"]: what a value must be, in a function and in words
    "arguments": (lambda v: v is None or isinstance(v, dict), "a mapping"),
    "ema_calls": (_is_count, "a whole number"),
    "scaler": (
        lambda v: isinstance(v, dict) and all(_is_number(v.get(k)) and v[k] >= 0 for k in ("scale", "good_steps"))
        and v["scale"] > 0,
        "scale and good_steps",
    ),
    "best_loss": (lambda v: v is None or _is_number(v), "a number or null"),
    "best_step": (lambda v: v is None or _is_count(v), "a whole number or null"),
    "skipped_steps": (_is_count, "a whole number"),
    "workers": (lambda v: _is_count(v) and v > 0, "a whole number above 0"),
    "batches_seen": (lambda v: v is None or _is_count(v), "a whole number or null"),
}  # fmt: skip
_DEFAULTS = {"arguments": None, "workers": 1, "batches_seen": None}  # convert.py writes none of them


def training_state(loaded: Checkpoint) -> dict:
    """What the Trainer continues from. Raises UserError where it is not there or not of its types."""
    training = loaded.state.get("training")
    if not isinstance(training, dict):
        raise UserError(f"checkpoint {loaded.path} holds no training state to continue from")
    config = loaded.state.get("config")
    if config is not None and not isinstance(config, dict):
        raise _broken(loaded.path / "state.json", f"config is {quoted(config)}, expected a mapping or null")
    training = {**_DEFAULTS, **training}
    for name, (fits, expected) in _TRAINING.items():
        if name not in training:
            raise _broken(loaded.path / "state.json", f"training.{name} is missing")
        if not fits(training[name]):
            raise _broken(
                loaded.path / "state.json", f"training.{name} is {quoted(training[name])}, expected {expected}"
            )
    return {**training, "arguments": training["arguments"] or {}}


def match(arrays: Arrays, expected: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Raises UserError, naming the first differences, unless ``arrays`` has just the ``expected`` names and shapes.

    And unless every value is a finite float32: a wider type would be rounded, a narrower one was.
    """
    problems = [f"missing {name}" for name in expected if name not in arrays]
    problems += [f"unexpected {name}" for name in arrays if name not in expected]
    problems += [
        f"{name} has shape {tuple(arrays[name].shape)}, expected {tuple(shape)}"
        for name, shape in expected.items()
        if name in arrays and tuple(arrays[name].shape) != tuple(shape)
    ]
    if not problems:
        for name, array in arrays.items():
            if array.dtype != np.float32:
                raise UserError(f"{what} is damaged: {name} holds {array.dtype}, expected float32")
            if not np.isfinite(array).all():
                raise UserError(f"{what} is damaged: {name} holds values that are not finite")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UserError(f"{what} is of another architecture: {'; '.join(problems[:3])}{more}")
