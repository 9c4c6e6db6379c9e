"""What the harness asks of a framework: one module per framework, registered by name, imported when first used.

A backend has a table ``KINDS``: name -> function(spec, inputs, **options) -> outputs. ``spec`` is JSON and says what
to build. It may have a function ``why_not(spec)``, which says why that cannot run on this machine.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from functools import partial
from types import ModuleType

from .case import Arrays, Leg
from .errors import NothingRan

MODULES: dict[str, str] = {}


def register(**modules: str) -> None:
    """Says which module is the backend of a framework, which has the name of its package: ``torch="mine.on_torch"``."""
    MODULES.update(modules)


def installed(package: str) -> bool:
    """Whether ``package`` can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def backend(framework: str) -> ModuleType:
    """The backend of ``framework``. Raises NothingRan where that framework is not installed."""
    if not installed(framework):
        raise NothingRan(
            f"{framework} is not installed, so nothing was compared; "
            + ("check against a recorded bundle instead: --bundle DIR" if framework == "torch" else "install it")
        )
    return importlib.import_module(MODULES[framework])


def why_not(framework: str, spec: Mapping) -> str:
    """Why the computation ``spec`` cannot run on ``framework`` on this machine; nothing where it can."""
    if framework not in MODULES:  # a leg that is a function of its own
        return ""
    ask = getattr(backend(framework), "why_not", None)
    return ask(spec) if ask else ""


def _run(framework: str, kind: str, spec: Mapping, options: Mapping, inputs: Arrays) -> Arrays:
    return backend(framework).KINDS[kind](spec, inputs, **options)


def leg(framework: str, kind: str, spec: Mapping, **options) -> Leg:
    """The leg that runs computation ``kind`` of ``spec`` on ``framework``, which is imported at the first call."""
    return partial(_run, framework, kind, spec, options)
