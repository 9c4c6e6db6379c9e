"""The bench on which this project's mutants are run, and the kill matrix of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from portparity.backends import why_not as reason_of
from portparity.case import Case
from portparity.errors import NothingRan
from portparity.memo import forget
from portparity.mutants import matrix
from portparity.mutants.mutant import Mutant

from ..cases import all_cases
from .variants import Variant, clean_variants

EAGER = ("tables", "times", "ema", "clip", "roundtrip")  # kinds that compile little or nothing in MindSpore
GRAPHS = (  # the only others that it compiles here
    "training/loss-pred_v-l2-fixed-selfcond-graph",
    "step/p_mean_variance-pred_noise-learned-selfcond-clip",
    "step/ddim-pred_v-plain-eta0.5",
)


class Bench(matrix.Bench):
    """`portparity.mutants.Bench` on this project's cases: of MindSpore's without those that take long to compile."""

    def __init__(self, framework: str, cases: Sequence[Case] | None = None):
        super().__init__(framework, all_cases() if cases is None else cases)

    def takes(self, case: Case) -> bool:
        """All of PyTorch's; of MindSpore's what compiles little, or is one of few graphs."""
        made = case.computation
        quick = case.mode == "pynative" or made.spec.get("kind") in EAGER or made.key in GRAPHS
        return self.framework != "mindspore" or quick

    def suits(self, mutant: Mutant, case: Case) -> bool:
        """Mutants of MindSpore are in what it does without the C++ kernels, but for the family of that name."""
        return mutant.family == "kernels" or not case.computation.spec.get("kernels")

    def around(self, mutant: Mutant) -> Callable[[], AbstractContextManager]:
        """In MindSpore nothing that was built on one side of a mutant is used on the other."""

        @contextmanager
        def applied():
            forget()
            try:
                with mutant.apply(), nullcontext() if mutant.family == "kernels" else _without_kernels():
                    yield
            finally:
                forget()

        return mutant.apply if mutant.framework == "torch" else applied


def _without_kernels() -> AbstractContextManager:
    """MindSpore's own operators compute, in which most mutants are."""
    from ms_ddpm.ops import kernels

    return kernels.switched_off()


def why_not(mutant: Mutant) -> str:
    """Why ``mutant`` cannot be run on this machine; nothing where it can."""
    try:
        return reason_of(mutant.framework, {"kernels": mutant.family == "kernels"})
    except NothingRan:
        return f"{mutant.framework} is not installed"


def count_alarms(variants: Sequence[Variant], progress: bool = True) -> tuple[dict[str, int], list[str]]:
    """By rule, over how many clean ``variants`` it raised an alarm; and what ours said."""
    return matrix.count_alarms(variants, Bench, progress)


def kill_matrix(mutants: Sequence[Mutant] | None = None, variants: int = 100, progress: bool = True) -> dict:
    """Every mutant against every rule, and the false alarms: what results.json holds under "mutants".

    Args:
        mutants: default all that can be run here.
        variants: how many clean variants are run.
        progress: shows a bar.
    """
    from . import MUTANTS

    chosen = [mutant for mutant in MUTANTS if not why_not(mutant)] if mutants is None else mutants
    return matrix.kill_matrix(chosen, clean_variants(variants), all_cases(), Bench, progress)
