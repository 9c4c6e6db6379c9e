"""Old names of modules, for one release: each is a file that calls `moved`."""

from __future__ import annotations

import importlib
import runpy
import sys
import warnings


def moved(name: str, new: str, old: str | None = None) -> None:
    """Makes the module that is being imported as ``name`` the module ``new`` itself, with a DeprecationWarning.

    What importing gives is what stands in ``sys.modules`` when the module's own code has run, so that there is one
    module under two names, and what is patched in one is patched in the other. ``name`` is its ``__name__``: where
    that is "__main__", by ``python -m``, it runs ``new``, and ``old`` says what it was called.
    """
    warnings.warn(f"{old or name} is {new} now, and goes in the next release", DeprecationWarning, stacklevel=3)
    if name == "__main__":
        runpy.run_module(new, run_name=name, alter_sys=True)
    else:
        sys.modules[name] = importlib.import_module(new)
