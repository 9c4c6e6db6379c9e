"""Checkpoints that are written whole or not at all.

``OUTPUT/checkpoints/step-00001600/`` holds ``model``, ``ema`` and ``optimizer.safetensors`` and ``state.json`` (step,
seed, configuration, versions, and a SHA-256 per file). A directory is written beside its place, synced to disk and
renamed, so that a process killed at any moment, or a loss of power, leaves only whole ones. The files ``last`` and
``best`` name a step. ``python -m ms_ddpm.verify OUTPUT`` checks every one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError, quoted, reason_of
from . import floats, tensorfile
from .files import WRITING, make_directory, sync, write_atomically
from .untrusted import check_regular, read_bytes, read_text

log = logging.getLogger("ms_ddpm")

Arrays = Mapping[str, np.ndarray]
_STEP = re.compile(r"step-([0-9]{8,18})")
_OLD = f"{WRITING}old-"  # what a checkpoint is called that is being removed or replaced
_ASIDE = "damaged-"  # what one is called that `set_aside` took out of the way


class Damaged(UserError):
    """A checkpoint that does not hold what was written. ``path`` is its directory."""

    def __init__(self, path: Path, file: Path, reason: str):
        super().__init__(f"checkpoint file {file} is damaged: {reason}")
        self.path = path


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

    from .. import __version__

    return {"ms_ddpm": __version__, **{name: version(name) for name in ("mindspore", "numpy")}}


def step_name(step: int) -> str:
    """Directory name of a step."""
    return f"step-{step:08d}"


def save(directory: Path, step: int, arrays: Mapping[str, Arrays], state: Mapping, *, keep_max: int = 3) -> Path:
    """Writes the checkpoint of ``step`` under ``directory``, names it ``last``, and keeps ``keep_max`` of them.

    Raises UserError (disk full, no permission); nothing half-written stays.
    """
    final = directory / step_name(step)
    writing = directory / f"{WRITING}{step_name(step)}-{os.getpid()}"
    try:
        make_directory(directory)
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir()
        files = {}
        for name, group in arrays.items():
            data = tensorfile.serialise(group)
            files[f"{name}.safetensors"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            write_atomically(writing / f"{name}.safetensors", data)
        content = {**state, "step": step, "files": files}
        content["sha256"] = state_digest(content)
        write_atomically(writing / "state.json", json.dumps(content, indent=2, sort_keys=True).encode())
        _put_in_place(writing, final)
        write_atomically(directory / "last", f"{final.name}\n".encode())
    except (OSError, UserError) as error:
        shutil.rmtree(writing, ignore_errors=True)
        reason = getattr(error, "strerror", None) or error
        found = steps(directory)
        kept = f"the newest is {directory / step_name(found[-1])}" if found else "there are none yet"
        raise UserError(
            f"could not write checkpoint {final}: {reason}; earlier checkpoints are intact, {kept}; "
            "mend that and run the same command again"
        ) from None
    _rotate(directory, keep_max)
    return final


def _put_in_place(writing: Path, final: Path) -> None:
    """Renames ``writing`` to ``final``, which may exist: a row of skipped steps saves the step before it again."""
    old = final.with_name(f"{_OLD}{final.name}")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        if _same(writing, final):
            shutil.rmtree(writing)
            return
        os.rename(final, old)  # a kill from here to the next rename: `clean` brings it back
    try:
        os.rename(writing, final)
        sync(final.parent)
    except OSError:
        if old.exists() and not final.exists():
            os.rename(old, final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _same(path: Path, other: Path) -> bool:
    """Whether ``other`` is whole and holds what the checkpoint ``path`` holds."""
    try:
        return check(other)["sha256"] == _read_state(path)["sha256"]
    except UserError:
        return False


def _remove(path: Path) -> None:
    """Removes a checkpoint so that a kill, or a loss of power, on the way leaves none that looks whole."""
    aside = path.with_name(f"{WRITING}removed-{path.name}-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(path, aside)
    sync(path.parent)
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


def named(directory: Path, name: str) -> str | None:
    """The directory name that the file ``last`` or ``best`` holds, or None where there is no such file."""
    try:
        return read_text(directory / name, limit=1000).strip()
    except (OSError, UnicodeDecodeError):
        return None


def named_step(directory: Path, name: str) -> int | None:
    """The step that ``last`` or ``best`` names, or None."""
    step = step_of(named(directory, name) or "")
    return step if step is not None and (directory / step_name(step)).is_dir() else None


def _rotate(directory: Path, keep_max: int) -> None:
    kept = {named_step(directory, "best"), named_step(directory, "last")}
    for step in steps(directory)[:-keep_max] if keep_max > 0 else []:
        if step not in kept:
            try:
                _remove(directory / step_name(step))
            except OSError as error:
                log.warning("could not remove the old checkpoint of step %d: %s", step, error.strerror or error)


def clean(*directories: Path) -> bool:
    """Removes what a killed process left half-written, and ends what it left half-replaced.

    True where a checkpoint that was about to be replaced came back.
    """
    restored = False
    for directory in directories:
        for path in directory.glob(f"{WRITING}*"):
            final = path.name.removeprefix(_OLD)
            if path.name.startswith(_OLD) and step_of(final) is not None and not (directory / final).exists():
                os.rename(path, directory / final)
                restored = True
            else:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return restored


def locate(path: Path, which: str = "last") -> Path:
    """The checkpoint directory meant by ``path``: itself, or the ``which`` one of an output directory."""
    if (path / "state.json").is_file():
        return path
    found = all_in(path)
    directory = found[0].parent
    # A process killed between the rename and the update of ``last`` leaves a newer, whole directory.
    step = step_of(found[-1].name) if which == "last" else named_step(directory, which)
    if step is None:
        raise UserError(f"{directory} has no '{which}' checkpoint; it has steps {steps(directory)}")
    return directory / step_name(step)


def all_in(path: Path) -> list[Path]:
    """The checkpoint directories of an output directory, or of its checkpoints/, oldest first. UserError for none."""
    for directory in (path / "checkpoints", path):
        if found := [directory / step_name(step) for step in steps(directory)]:
            return found
    raise UserError(f"no checkpoint in {path}; expected an output directory of train.py or a step-... directory in it")


def newest_whole(directory: Path, before: int | None = None) -> Path | None:
    """The newest checkpoint under ``directory`` that is whole, of those before step ``before``; None if none is."""
    for step in reversed(steps(directory)):
        if before is None or step < before:
            try:
                check(directory / step_name(step))
                return directory / step_name(step)
            except Damaged as error:
                log.warning("%s", error)
    return None


def set_aside(directory: Path, after: int) -> None:
    """Renames the checkpoints later than step ``after`` to ``damaged-step-...``, out of the way of a run."""
    for step in steps(directory):
        if step > after:
            name = f"{_ASIDE}{step_name(step)}"
            number = sum(1 for path in directory.glob(f"{name}*"))
            os.rename(directory / step_name(step), directory / (f"{name}.{number}" if number else name))


def _broken(file: Path, reason: str) -> Damaged:
    return Damaged(file.parent, file, reason)


def _unreadable(file: Path, error: OSError) -> UserError:
    """No rights, say, is no damage: another checkpoint in its place would hide a whole one."""
    if isinstance(error, FileNotFoundError):
        return _broken(file, "it is missing")
    if error.errno == errno.EINVAL:  # a folder, device or pipe: see `check_regular`
        return _broken(file, error.strerror)
    return UserError(f"cannot read checkpoint file {file}: {error.strerror or error}")


def _advised(read: Callable, path: Path, *args):
    """``read(path, *args)``, whose error about damage says which earlier checkpoint is whole and how to go on."""
    try:
        return read(path, *args)
    except Damaged as error:
        step = step_of(path.name)
        earlier = newest_whole(path.parent, before=step) if step is not None else None
        if earlier is None:
            raise UserError(f"{error}; there is no earlier checkpoint that is whole") from None
        raise UserError(
            f"{error}; {earlier} is whole: train.py --resume whole continues from there and puts the damaged one aside"
        ) from None


def read_state(path: Path) -> dict:
    """state.json of one checkpoint directory. Raises UserError where it cannot be read."""
    return _advised(_read_state, path)


def _read_state(path: Path) -> dict:
    file = path / "state.json"
    try:
        state = json.loads(read_text(file))
        if not (isinstance(state, dict) and type(state.get("step")) is int and isinstance(state.get("files"), dict)):
            raise ValueError("step or files missing")
        if state.get("sha256") != state_digest(state):
            raise ValueError("its checksum differs from the one written with it")
        named = step_of(path.name)  # None where the directory was given another name
        if not 0 <= state["step"] < 10**18 or named not in (None, state["step"]):
            step = quoted(state["step"])
            raise ValueError(f"it is of step {step}: the directory was renamed or the file swapped")
    except OSError as error:
        raise _unreadable(file, error) from None
    except RecursionError:
        raise _broken(file, "it is nested too deeply") from None
    except ValueError as error:
        raise _broken(file, reason_of(error)) from None
    return state


def load(path: Path, groups: tuple[str, ...] = ("model", "ema", "optimizer")) -> Checkpoint:
    """Reads and verifies one checkpoint directory. Raises UserError naming the first file that was changed."""
    return _advised(_load, path, groups)


def _load(path: Path, groups: tuple[str, ...]) -> Checkpoint:
    state = _read_state(path)
    arrays = {}
    for group in groups:
        file = path / f"{group}.safetensors"
        if not isinstance(state["files"].get(file.name), dict):
            raise _broken(path / "state.json", f"it does not list {file.name}")
        try:
            arrays[group] = tensorfile.parse(_verified_bytes(file, state["files"][file.name]))
        except UserError:
            raise
        except ValueError as error:
            raise _broken(file, reason_of(error)) from None
    for name in strangers(path, state):
        log.warning("checkpoint %s: %s is not part of it and is not read", path, name)
    return Checkpoint(path, state["step"], state, arrays)


def _verified_bytes(file: Path, expected: Mapping) -> bytes:
    try:
        size = check_regular(file)
        if size != expected.get("bytes"):
            raise _broken(file, f"{size} bytes, expected {quoted(expected.get('bytes'))}")
        data = read_bytes(file)
    except OSError as error:
        raise _unreadable(file, error) from None
    if hashlib.sha256(data).hexdigest() != expected.get("sha256"):
        raise _broken(file, "its checksum differs from the one written with it")
    return data


def check(path: Path) -> dict:
    """Verifies every file of one checkpoint directory and returns its state. Raises UserError naming what differs."""
    state = _read_state(path)
    for name, expected in state["files"].items():
        if Path(name).name != name or not isinstance(expected, dict):
            raise _broken(path / "state.json", f"it lists {quoted(name)}, expected names of files beside it")
        _verified_bytes(path / name, expected)
    return state


def strangers(path: Path, state: Mapping) -> list[str]:
    """Names in a checkpoint directory that are not part of the checkpoint."""
    return sorted(name for name in os.listdir(path) if name not in state["files"] and name != "state.json")


def match(
    arrays: Arrays, expected: Mapping[str, tuple[int, ...]], what: str, types: Mapping[str, str] | None = None
) -> None:
    """Raises UserError, naming the first differences, unless ``arrays`` has just the ``expected`` names and shapes.

    And unless every value is finite and of its type, float32 or what ``types`` says for its name (see `floats`): a
    wider type would be rounded, a narrower one was.
    """
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
    for name, array in arrays.items():
        own, wanted = floats.name_of(array.dtype), (types or {}).get(name, "float32")
        if own != wanted and own in floats.NAMES:
            raise UserError(
                f"{what} has weights of another type: {name} holds {own}, expected {wanted}; "
                "weights.load_weights(cell, path, cast=True) rounds them"
            )
        if own != wanted:
            raise UserError(f"{what} is damaged: {name} holds {own}, expected {wanted}")
        if not floats.is_finite(array):
            raise UserError(f"{what} is damaged: {name} holds values that are not finite")
