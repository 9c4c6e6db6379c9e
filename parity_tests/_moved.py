"""Old names of what is in `portparity` now, for one release: each is a file that calls `moved`."""

from __future__ import annotations

import importlib
import runpy
import sys
import warnings


def moved(name: str, old: str, new: str) -> None:
    """Makes the module that is being imported as ``old`` the module ``new`` itself, with a DeprecationWarning.

    What importing gives is what stands in ``sys.modules`` when the module's own code has run. ``name`` is its
    ``__name__``: run by ``python -m``, it runs ``new``.
    """
    warnings.warn(f"{old} is {new} now, and goes in the next release", DeprecationWarning, stacklevel=3)
    if name == "__main__":
        runpy.run_module(new, run_name=name, alter_sys=True)
    else:
        sys.modules[old] = importlib.import_module(new)
