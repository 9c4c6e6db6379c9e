"""Things built once per spec and kept for a while."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

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
