"""The parity harness: does a port compute what the original computes, and if not, where does it stop?

    from portparity import check

    print(check(torch_module, mindspore_cell, {"x": x}))

`check` is for two models. Below it, for anything else: `verdict` holds the rule, `case` what is compared, `runner` runs
it, `localise` finds the layer, `bundles` takes it to machines without the reference framework, `mutants` tests the
harness, `report` shows it, `ports` makes legs of a PyTorch module and a MindSpore cell. Needs numpy alone; frameworks
are imported when first used.
"""

from .case import Case, Computation
from .checking import Report, check, compare, record
from .runner import Outcome, Record, run
from .tolerances import Tolerance, tolerance
from .verdict import TensorVerdict, judge, judge_tensor

__all__ = [
    "Case",
    "Computation",
    "Outcome",
    "Record",
    "Report",
    "TensorVerdict",
    "Tolerance",
    "check",
    "compare",
    "judge",
    "judge_tensor",
    "record",
    "run",
    "tolerance",
]  # fmt: skip
