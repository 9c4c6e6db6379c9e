"""Which systems there are: the folders in ``systems/``, and the packages that announce themselves.

What a system is, `ms_ddpm.systems` says. This module knows their names alone, and imports one when it is asked for.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from .config.keys import DEFAULT_SYSTEM
from .errors import UserError, quoted

log = logging.getLogger("ms_ddpm")

GROUP = "ms_ddpm.systems"  # of entry points


@cache
def _own() -> dict[str, Any]:
    """Those of the folders in ``systems/``: the default one first, the others by name."""
    path = Path(__file__).parent / "systems"
    folders = [m.name for m in pkgutil.iter_modules([str(path)]) if m.ispkg]
    found = [importlib.import_module(f"{__package__}.systems.{folder}").SYSTEM for folder in folders]
    return {system.name: system for system in sorted(found, key=lambda s: (s.name != DEFAULT_SYSTEM, s.name))}


@cache
def _announced() -> dict[str, EntryPoint]:
    """Those of other packages, not loaded yet."""
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in _own()}


@cache
def names() -> tuple[str, ...]:
    """The names of all systems; a warning names another package's that cannot be loaded."""
    loaded = list(_own())
    for name in _announced():
        try:
            _load(name)
        except UserError as error:
            log.warning("%s", error)
        else:
            loaded.append(name)
    return tuple(loaded)


@cache
def _load(name: str) -> Any:
    entry = _announced()[name]
    try:
        system = entry.load()
    except Exception as error:  # of somebody else's package: anything
        raise UserError(
            f"the system {name} of the package {entry.value.split(':')[0]} cannot be loaded "
            f"({type(error).__name__}: {' '.join(str(error).split())}); mend or remove that package"
        ) from None
    if getattr(system, "name", None) != name:
        raise UserError(f"{entry.value} is not the system {name}; it must be an object of a subclass of systems.System")
    return system


def get(name: str) -> Any:
    """The system called ``name``. Raises UserError where there is none, or another package's is broken."""
    if isinstance(name, str) and name in _own():
        return _own()[name]
    if not isinstance(name, str) or name not in _announced():
        raise UserError(f"configuration key system is {quoted(name)}, expected one of: {', '.join(names())}")
    return _load(name)


def of(config: Any) -> Any:
    """The system of a configuration."""
    return get(config.system)
