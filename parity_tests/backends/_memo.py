"""What backends share: things built once per spec, and outputs split by time."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_built: OrderedDict[str, Any] = OrderedDict()
CAPACITY = 12  # compiled graphs are worth keeping while their neighbours run, not for ever


def memo(make: Callable[[], Any], *names: object) -> Any:
    """What ``make`` gives, made once for ``names`` (anything JSON knows) and kept for a while."""
    key = json.dumps(names, sort_keys=True)
    if key not in _built:
        _built[key] = make()
        if len(_built) > CAPACITY:
            _built.popitem(last=False)
    _built.move_to_end(key)
    return _built[key]


def forget() -> None:
    """Drops everything built: what comes next is built from the source as it is now (a mutant, for example)."""
    _built.clear()


def by_time(outputs: Mapping[str, np.ndarray], t: np.ndarray) -> dict[str, np.ndarray]:
    """One output per image of the batch, named by its time: "mean[t=500]"."""
    return {
        f"{name}[t={int(time)}]": np.ascontiguousarray(value[row])
        for name, value in outputs.items()
        for row, time in enumerate(t)
    }


def given(inputs: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The inputs called PREFIX.NAME, by NAME."""
    return {name[len(prefix) + 1 :]: value for name, value in inputs.items() if name.startswith(prefix + ".")}
