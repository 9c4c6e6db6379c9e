"""The parity harness: does a MindSpore port compute what PyTorch computes, and if not, where does it stop?

    from parity_tests import Case, Computation, run

`verdict` holds the rule, `case` what is compared, `runner` runs it, `localise` finds the layer, `bundles` takes it
to machines without PyTorch, `mutants` tests the harness, `report` shows it.
Frameworks are imported when first used.
"""

from .case import Case, Computation
from .runner import Outcome, Record, run
from .tolerances import Tolerance, tolerance
from .verdict import TensorVerdict, judge, judge_tensor

__all__ = [
    "Case", "Computation", "Outcome", "Record", "TensorVerdict", "Tolerance",
    "judge", "judge_tensor", "run", "tolerance",
]  # fmt: skip
