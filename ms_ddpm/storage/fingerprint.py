"""What a Cell says of itself: the facts by which a checkpoint knows the model that it is of.

A class under `remembers` keeps what its constructor was given, and needs no further look. Of every other Cell the plain
public attributes are read, and those of the Cells in it. Nothing is listed by hand: a new argument is a new fact.
Names are paths: ``objective``, ``model.dim``, ``model.net.0.stride``. Weights are no facts; a checkpoint holds them.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from mindspore import Parameter, Tensor, nn

from .. import config
from ..errors import quoted
from ..trainable import said_by

HOW_NOT_WHAT = {"by_kernels", "compute_dtype", "rng", "use_kernels"}  # the machine's business, or the first weights'
LONGEST = 200  # of a text or a list that is kept as it is
UNKNOWN = object()  # what `plain_fact` gives of a value that is no fact
_MARK = "remembers_its_arguments"


class _Settings(NamedTuple):
    free: frozenset[str]
    apart: frozenset[str]


def remembers(*, free: Sequence[str] = (), apart: Sequence[str] = ()) -> Callable[[type], type]:
    """Class decorator: objects keep what their constructor was given, for `arguments_of` and `facts_of`.

    Args:
        free: arguments that may differ between a run and its continuation, beside `config.FREE_ON_RESUME`.
        apart: arguments whose names are those of attributes that mean something else.
    """

    def decorate(cls: type) -> type:
        plain = cls.__init__
        signature = inspect.signature(plain)

        @functools.wraps(plain)
        def init(self, *args, **kwargs):
            plain(self, *args, **kwargs)
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            given = list(bound.arguments.items())[1:]
            kept = {name: _kept(value) for name, value in given}
            # Past MindSpore's own __setattr__, which would look for parameters in it. The outermost constructor of a
            # chain is the last to come here.
            object.__setattr__(self, "_arguments", {name: v for name, v in kept.items() if v is not UNKNOWN})

        setattr(init, _MARK, _Settings(frozenset(free), frozenset(apart)))
        cls.__init__ = init
        return cls

    return decorate


def _settings(thing: object) -> _Settings | None:
    """Those of `remembers`; None where the last constructor is not under it."""
    return getattr(type(thing).__init__, _MARK, None)


def _kept(value: Any) -> Any:
    """An argument as it is remembered: objects that have facts of their own, and copies of plain values."""
    if isinstance(value, nn.Cell) or _settings(value) is not None:
        return value
    return plain_fact(value)


def arguments_of(thing: object) -> dict[str, Any] | None:
    """What the constructor of ``thing`` was given, by name, defaults too, or what has become of it since.

    None where its class does not remember.
    """
    settings = _settings(thing)
    if settings is None:
        return None
    found = dict(thing._arguments)
    cells = thing.name_cells() if isinstance(thing, nn.Cell) else {}
    for name, value in found.items():
        if isinstance(value, nn.Cell):
            found[name] = cells.get(name, value)
            continue
        now = plain_fact(vars(thing).get(name, UNKNOWN))
        if value is not None and name not in settings.apart and now is not UNKNOWN:
            found[name] = now
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _array_fact(array: np.ndarray) -> str:
    """Type, shape and a digest. Of floats four digits count: another machine's exp may differ in the last."""
    if array.dtype.kind == "f":
        with np.errstate(all="ignore"):
            wide = array.astype(np.float64)
            size = 10.0 ** (np.floor(np.log10(np.abs(wide))) - 3)
            array = np.where(np.isfinite(size) & (size > 0), np.rint(wide / size) * size, wide).astype(np.float32)
    return f"{array.dtype} {array.shape} {_digest(np.ascontiguousarray(array).tobytes())}"


def plain_fact(value: Any) -> Any:
    """``value`` as JSON can hold it: numbers, texts, lists, mappings; of arrays a digest. `UNKNOWN` for the rest."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{len(value)} characters {_digest(value.encode(errors='replace'))}"
    if isinstance(value, Tensor) and not isinstance(value, Parameter):
        value = value.asnumpy()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return _array_fact(value)
    if isinstance(value, (list, tuple)):
        items = [plain_fact(item) for item in value]
        if any(item is UNKNOWN for item in items):
            return UNKNOWN
        return items if len(items) <= LONGEST else f"{len(items)} values {_digest(repr(items).encode())}"
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        items = {key: plain_fact(item) for key, item in value.items()}
        if any(item is UNKNOWN for item in items.values()):
            return UNKNOWN
        return items or None  # no arguments of a schedule are none
    return UNKNOWN


@functools.cache
def _of_every_cell() -> frozenset[str]:
    return frozenset(vars(nn.Cell()))


def _attributes(cell: nn.Cell) -> dict[str, Any]:
    """What ``cell`` holds beside parameters: its public attributes, its buffers and the Cells in it."""
    found = {
        name: value
        for name, value in vars(cell).items()
        if not name.startswith("_") and name not in _of_every_cell() and not isinstance(value, Parameter)
    }
    return found | dict(cell.named_buffers(recurse=False)) | dict(cell.name_cells())


def facts_of(cell: nn.Cell) -> dict[str, Any]:
    """The facts of ``cell`` by name, in the types of JSON; without those that may differ when a run goes on.

    A class may name such attributes in ``free_on_resume``.
    """
    facts: dict[str, Any] = {"class": type(cell).__name__}
    _collect(cell, "", facts, set())
    return facts


def _collect(thing: object, prefix: str, facts: dict[str, Any], seen: set[int]) -> None:
    if id(thing) in seen:
        return
    seen.add(id(thing))
    settings = _settings(thing)
    free = HOW_NOT_WHAT | set(said_by(thing, "free_on_resume"))
    values = _attributes(thing) if settings is None else arguments_of(thing)
    if settings is not None:  # elsewhere a name like "mode" may mean anything
        free = free | config.FREE_ON_RESUME | settings.free
    for name, value in values.items():
        if name in free:
            continue
        fact = plain_fact(value)
        if fact is not UNKNOWN:
            facts[f"{prefix}{name}"] = fact
        elif isinstance(value, nn.Cell) or _settings(value) is not None:
            facts[f"{prefix}{name}"] = type(value).__name__
            _collect(value, f"{prefix}{name}.", facts, seen)


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """What differs, as name -> "NAME was X, now Y". What one of the two does not know is no difference."""
    return {
        name: f"{name} was {quoted(before[name])}, now {quoted(value)}"
        for name, value in now.items()
        if name in before and before[name] != value
    }
