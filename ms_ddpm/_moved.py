"""Old names of modules, for one release: each is a file of two lines that calls `moved`."""

from __future__ import annotations

import importlib
import sys
import warnings


def moved(old: str, new: str) -> None:
    """Makes the module that is being imported as ``old`` the module ``new`` itself, with a DeprecationWarning.

    What importing gives is what stands in ``sys.modules`` when the module's own code has run, so that there is one
    module under two names, and what is patched in one is patched in the other.
    """
    warnings.warn(f"{old} is {new} now, and goes in the next release", DeprecationWarning, stacklevel=3)
    sys.modules[old] = importlib.import_module(new)
