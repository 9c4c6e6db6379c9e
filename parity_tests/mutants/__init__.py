"""The harness tested: seeded port bugs that it must find at their place, and clean variants that it must not object to.

    kill_matrix()                   every mutant under our rule and the rivals', and the false alarms of each
    examine(mutant, Bench("torch"))         one of them

A mutant is a row of a table (`torch_maths`, `torch_nets`, `torch_training`, `torch_score`, `on_mindspore`,
`score_nets`, `kernels`, `corruption`, `schedulers`, `latent`): a name, the place where it must be found, and the change
of the source that it is. `NOT_HERE` says which known traps no mutant stands for, and why.
"""

from __future__ import annotations

from portparity.mutants import Finding, Mutant, StaleMutant, examine, is_good
from portparity.mutants.comparator import TAMPERINGS

from . import (
    corruption,
    kernels,
    latent,
    on_mindspore,
    schedulers,
    score_nets,
    torch_maths,
    torch_nets,
    torch_score,
    torch_training,
)
from .bench import Bench, count_alarms, kill_matrix, why_not
from .unseen import NOT_HERE
from .variants import Variant, clean_variants

MUTANTS: tuple[Mutant, ...] = (
    *torch_maths.MUTANTS,
    *torch_nets.MUTANTS,
    *torch_training.MUTANTS,
    *torch_score.MUTANTS,
    *on_mindspore.MUTANTS,
    *score_nets.MUTANTS,
    *kernels.MUTANTS,
    *corruption.MUTANTS,
    *schedulers.MUTANTS,
    *latent.MUTANTS,
)

__all__ = [
    "MUTANTS", "NOT_HERE", "TAMPERINGS", "Bench", "Finding", "Mutant", "StaleMutant", "Variant",
    "clean_variants", "count_alarms", "examine", "is_good", "kill_matrix", "why_not",
]  # fmt: skip
