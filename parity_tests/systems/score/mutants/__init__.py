"""Bugs of score models, in `torch_ref` (`models`), and of score networks, in `ms_ddpm` (`nets`)."""

from __future__ import annotations

from portparity.mutants import Mutant

from . import models, nets

MUTANTS: tuple[Mutant, ...] = (*models.MUTANTS, *nets.MUTANTS)
