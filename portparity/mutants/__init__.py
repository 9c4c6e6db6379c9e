"""The harness tested: seeded bugs that it must find at their place, and clean variants that it must not object to.

A `Mutant` is a name, the place where it must be found, and the change of the source that it is (`edit`, `swap`).
`examine` runs one on a `Bench` of cases, `kill_matrix` all of them under our rule and the rivals'. `comparator` holds
what is done to correct outputs, and no comparison may overlook.
"""

from .editing import StaleMutant, edit, replaced, swap, together
from .matrix import Bench, Finding, count_alarms, examine, is_good, kill_matrix
from .mutant import Mutant

__all__ = [
    "Bench", "Finding", "Mutant", "StaleMutant", "count_alarms", "edit", "examine", "is_good", "kill_matrix",
    "replaced", "swap", "together",
]  # fmt: skip
