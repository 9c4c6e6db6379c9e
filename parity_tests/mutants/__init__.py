"""The harness tested: seeded port bugs that it must find at their place, and clean variants that it must not object to.

    kill_matrix()                   every mutant under our rule and the rivals', and the false alarms of each
    examine(mutant, Bench("torch"))         one of them

A mutant is a row of a table in its system's folder (`parity_tests.systems`): a name, the place where it must be found,
and the change of the source that it is. `NOT_HERE` says which known traps no mutant stands for, and why.
"""

from __future__ import annotations

from portparity.mutants import Finding, Mutant, StaleMutant, examine, is_good
from portparity.mutants.comparator import TAMPERINGS

from ..systems import parts
from .bench import Bench, count_alarms, kill_matrix, why_not
from .unseen import NOT_HERE
from .variants import Variant, clean_variants

MUTANTS: tuple[Mutant, ...] = tuple(mutant for system in parts("mutants") for mutant in system.MUTANTS)

__all__ = [
    "MUTANTS", "NOT_HERE", "TAMPERINGS", "Bench", "Finding", "Mutant", "StaleMutant", "Variant",
    "clean_variants", "count_alarms", "examine", "is_good", "kill_matrix", "why_not",
]  # fmt: skip
