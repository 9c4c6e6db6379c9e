"""What stands around the arithmetic: the order of data and draws, resuming, averaging, rates, what sampling is asked.

Each check of `CHECKS` is a function of an empty folder that raises AssertionError where ms_ddpm does something else
than is written down here in numpy. `parity_tests.mutants.orchestration` holds the bugs that each of them must find.
"""

from __future__ import annotations

from . import asked, draws, sampling, settings, stored, training

CHECKS = {**asked.CHECKS, **draws.CHECKS, **sampling.CHECKS, **settings.CHECKS, **stored.CHECKS, **training.CHECKS}
