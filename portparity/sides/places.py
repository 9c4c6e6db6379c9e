"""Models named on a command line: "FILE.py:NAME" or "package.module:NAME", a model or a function that makes one."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import HarnessError, reason_of


def loaded(place: str) -> Any:
    """What stands at ``place``. Raises HarnessError in one line."""
    where, _, name = place.rpartition(":")
    if not where or not name:
        raise HarnessError(f"{place!r} is no place: expected FILE.py:NAME or package.module:NAME")
    module = _module(where)
    try:
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        there = [other for other, value in vars(module).items() if callable(value) and not other.startswith("_")]
        raise HarnessError(f"{where} has no {name}; it has: {', '.join(there[:10]) or 'nothing to call'}") from None
    return found


def _module(where: str) -> ModuleType:
    if not where.endswith(".py"):
        try:
            return importlib.import_module(where)
        except ImportError as error:
            raise HarnessError(f"{where} cannot be imported: {reason_of(error)}") from error
    path = Path(where).resolve()
    if not path.is_file():
        raise HarnessError(f"{where} does not exist")
    label = f"portparity_place_{path.stem}"
    if label in sys.modules and sys.modules[label].__file__ == str(path):
        return sys.modules[label]
    sys.path.insert(0, str(path.parent))  # what lies beside it can be imported, as when Python is given the file
    spec = importlib.util.spec_from_file_location(label, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[label] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[label]
        raise HarnessError(f"{where} raised {type(error).__name__}: {reason_of(error)}") from error
    return module
