"""Bugs in `torch_ref` (`torch_maths`, `torch_nets`, `torch_training`), in `ms_ddpm` and around its C++ kernels."""

from __future__ import annotations

from portparity.mutants import Mutant

from . import kernels, on_mindspore, torch_maths, torch_nets, torch_training

MUTANTS: tuple[Mutant, ...] = (
    *torch_maths.MUTANTS, *torch_nets.MUTANTS, *torch_training.MUTANTS, *on_mindspore.MUTANTS, *kernels.MUTANTS,
)  # fmt: skip
