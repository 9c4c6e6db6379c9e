"""What stands around the arithmetic: the order of data and draws, resuming, averaging, rates, what sampling is asked.

Each check of `CHECKS` is a function of an empty folder that raises AssertionError where ms_ddpm does something else
than is written down here in numpy. `parity_tests.mutants.orchestration` holds the bugs that each of them must find.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings

from . import asked, draws, sampling, settings, stored, training

CHECKS = {**asked.CHECKS, **draws.CHECKS, **sampling.CHECKS, **settings.CHECKS, **stored.CHECKS, **training.CHECKS}


def prepare() -> None:
    """To be called before a bug is put in: what is first imported or made while it is there would keep it."""
    import ms_ddpm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of old names, which are walked over too
        for module in pkgutil.walk_packages(ms_ddpm.__path__, "ms_ddpm."):
            if not module.name.endswith((".__main__", "._kernels")):  # the latter is a library of C++
                importlib.import_module(module.name)
    training.prepare()
