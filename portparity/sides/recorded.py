"""What the original answered, for a machine without PyTorch: every question of `check` and its answer, in a folder.

`Recording` asks a side and writes down; `Recorded` answers from what was written. A question is known by its name, its
arguments and the weights that the side holds, so that an answer is never given to another question: other inputs,
other weights or another seed are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..bundles import parsed, versions
from ..case import Arrays
from ..dtypes import as_bfloat16, dtype_of
from ..errors import BundleError, reason_of
from ..files import read_bytes, read_text, write_atomically
from .side import Call, Given, Run, Side, Weight

FORMAT = 1
CLASSES = {kind.__name__: kind for kind in (Call, Given, Run, Weight)}
ASKED = ("weights", "layers", "argument_names", "run", "run_layer", "steps")


def plain(value: Any, arrays: list[np.ndarray]) -> Any:
    """``value`` as JSON; the arrays in it go to the end of ``arrays``."""
    if isinstance(value, np.ndarray | np.generic):
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1, "dtype": dtype_of(value)}
    if is_dataclass(value):
        content = {field.name: plain(getattr(value, field.name), arrays) for field in fields(value)}
        return {"class": type(value).__name__, "fields": content}
    if isinstance(value, Mapping):
        return {"dict": [[key, plain(item, arrays)] for key, item in value.items()]}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [plain(item, arrays) for item in value]}
    return {"value": value}


def restored(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The opposite of `plain`, arrays by number as text."""
    if "array" in value:
        found = arrays[str(value["array"])]
        return as_bfloat16(found) if value["dtype"] == "bfloat16" else found
    if "class" in value:
        return CLASSES[value["class"]](**{k: restored(item, arrays) for k, item in value["fields"].items()})
    if "dict" in value:
        return {key: restored(item, arrays) for key, item in value["dict"]}
    for kind in (tuple, list):
        if kind.__name__ in value:
            return kind(restored(item, arrays) for item in value[kind.__name__])
    return value["value"]


def _hash(value: Any) -> str:
    arrays: list[np.ndarray] = []
    digest = hashlib.sha256(json.dumps(plain(value, arrays), sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class _Known:
    """A side whose questions have names: by what is asked, what is loaded, and how it behaves."""

    forward_only = False

    def __init__(self, framework: str, precision: str):
        self.framework = framework
        self.precision = precision
        self._loaded: dict[str, str] = {}
        self._behaviour = "eval"

    def _key(self, method: str, args: tuple, kwargs: Mapping) -> str:
        return _hash([method, args, dict(kwargs), self._behaviour, sorted(self._loaded.items())])

    def load(self, weights: Arrays) -> None:
        """See `Side`."""
        self._loaded |= {name: _hash(value) for name, value in weights.items()}

    def behave(self, how: str) -> None:
        """See `Side`."""
        self._behaviour = how

    def give_back(self) -> None:
        """See `Side`."""

    def close(self) -> None:
        """See `Side`."""

    def __getattr__(self, method: str) -> Any:
        if method not in ASKED:
            raise AttributeError(method)
        return lambda *args, **kwargs: self._ask(method, args, kwargs)


class Recording(_Known):
    """A side whose answers are kept; the same question may have several, where the model draws at random."""

    def __init__(self, side: Side):
        super().__init__(side.framework, side.precision)
        self.side = side
        self.answers: dict[str, list[Any]] = {}

    def _ask(self, method: str, args: tuple, kwargs: Mapping) -> Any:
        answer = getattr(self.side, method)(*args, **kwargs)
        known = self.answers.setdefault(self._key(method, args, kwargs), [])
        if not known or _hash(known[-1]) != _hash(answer):
            known.append(answer)
        return answer

    def load(self, weights: Arrays) -> None:
        """See `Side`."""
        super().load(weights)
        self.side.load(weights)

    def behave(self, how: str) -> None:
        """See `Side`."""
        super().behave(how)
        self.side.behave(how)

    def close(self) -> None:
        """See `Side`."""
        self.side.close()


class Recorded(_Known):
    """A side that answers what was recorded."""

    def __init__(self, framework: str, precision: str, answers: Mapping[str, list[Any]], folder: Path):
        super().__init__(framework, precision)
        self.answers = answers
        self.folder = folder
        self._asked: dict[str, int] = {}

    def _ask(self, method: str, args: tuple, kwargs: Mapping) -> Any:
        key = self._key(method, args, kwargs)
        if key not in self.answers:
            raise BundleError(
                f"{self.folder} has no answer to this {method}: it was recorded from other inputs, weights or options; "
                "record it anew where PyTorch is, with the same ones"
            )
        turn = self._asked.get(key, 0)
        self._asked[key] = turn + 1
        return self.answers[key][min(turn, len(self.answers[key]) - 1)]


def write(folder: Path, sides: Mapping[str, Recording], about: Mapping[str, Any]) -> None:
    """Writes what ``sides`` answered and what it is ``about``."""
    from safetensors.numpy import save

    arrays: list[np.ndarray] = []
    manifest = {
        "format": FORMAT,
        "about": plain(dict(about), arrays),
        "versions": versions(),
        "sides": {
            name: {
                "framework": side.framework, "precision": side.precision,
                "answers": {key: plain(answers, arrays) for key, answers in side.answers.items()},
            }
            for name, side in sides.items()
        },
    }  # fmt: skip
    data = save({str(i): np.ascontiguousarray(array).reshape(np.shape(array)) for i, array in enumerate(arrays)})
    manifest["sha256"] = hashlib.sha256(data).hexdigest()
    write_atomically(folder / "data.safetensors", data)
    write_atomically(folder / "manifest.json", json.dumps(manifest).encode())


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Recorded], dict[str, str]]:
    """What a folder is about, its sides, and the versions with which it was made. Raises BundleError."""
    try:
        manifest = json.loads(read_text(folder / "manifest.json", 1 << 31))
        data = read_bytes(folder / "data.safetensors")
        if manifest["format"] != FORMAT:
            raise BundleError(f"{folder} has format {manifest['format']!r}, this version reads {FORMAT}")
        if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
            raise BundleError(f"{folder} is not what was recorded (sha256): copy it again, or record it anew")
        arrays = parsed(data)
        sides = {
            name: Recorded(
                side["framework"], side["precision"],
                {key: restored(answers, arrays) for key, answers in side["answers"].items()}, folder,
            )
            for name, side in manifest["sides"].items()
        }  # fmt: skip
        return restored(manifest["about"], arrays), sides, manifest["versions"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{folder} is no recording of portparity, or damaged ({reason_of(error)})") from error
