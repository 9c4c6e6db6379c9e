"""Every system's checks, a folder each. A folder that is put here is found; nothing names it elsewhere.

    cases           tier0(seed) ... tier7(seed): its cases, tier by tier
                    SMALL_SET, LONG_SET: those whose results lie in parity_tests/bundles and bundles_long
                    PRODUCTS: kinds that multiply matrices, and the key of a spec without which they do not ("": none);
                    WITHOUT_PRODUCTS: layers and modules that do not
    peers           tier_peers(seed): its cases that a number others published, or another library, judges
    on_mindspore  on_torch  on_numpy  on_diffusers
                    KINDS: its legs by name, each a function(spec, inputs, **options) -> outputs
                    LAYERS, NETWORKS: what kinds "layer" and "network" make of a name
    oracle          its formulas in float64 numpy; those that several need are in `parity_tests.oracle`
    mutants         MUTANTS: the bugs that its cases must find

Each is a file, or a folder where it is large, and a system has those that it needs. `core` is diffusion itself, whose
parts the others may use; they do not use each other's.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from types import ModuleType
from typing import Any

from portparity.errors import HarnessError


def names() -> list[str]:
    """The systems: `core`, and then the others by name."""
    return sorted((module.name for module in pkgutil.iter_modules(__path__)), key=lambda name: (name != "core", name))


@functools.cache
def parts(part: str) -> tuple[ModuleType, ...]:
    """The module ``part`` of every system that has one."""
    places = [f"{__name__}.{name}.{part}" for name in names()]
    return tuple(importlib.import_module(place) for place in places if importlib.util.find_spec(place))


@functools.cache
def joined(part: str, table: str = "KINDS") -> dict[str, Any]:
    """The tables called ``table`` of every system's ``part`` as one. Raises HarnessError where two have a key."""
    found: dict[str, Any] = {}
    for module in parts(part):
        own = getattr(module, table, {})
        if twice := sorted(set(own) & set(found)):
            raise HarnessError(f"{module.__name__}.{table} has {twice[0]!r}, which another system has already")
        found |= own
    return found
