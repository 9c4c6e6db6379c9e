"""The parity harness: does a port compute what the original computes, and if not, where does it stop?

    from portparity import Case, Computation, run

`verdict` holds the rule, `case` what is compared, `runner` runs it, `localise` finds the layer, `bundles` takes it
to machines without the reference framework, `mutants` tests the harness, `report` shows it, `ports` makes legs of a
PyTorch module and a MindSpore cell. Needs numpy alone; frameworks are imported when first used.
"""

from .case import Case, Computation
from .runner import Outcome, Record, run
from .tolerances import Tolerance, tolerance
from .verdict import TensorVerdict, judge, judge_tensor

__all__ = [
    "Case", "Computation", "Outcome", "Record", "TensorVerdict", "Tolerance",
    "judge", "judge_tensor", "run", "tolerance",
]  # fmt: skip
