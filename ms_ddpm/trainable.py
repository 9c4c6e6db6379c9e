"""What the Trainer asks of a Cell, and what holds for one that does not say it.

A Cell needs ``draw(rng, batch)`` and ``construct(*batch, *draws) -> loss`` alone, so that anybody's can be trained. All
else is a default of `Trainable`, from which the models here derive; of another Cell it is asked by name, in `said_by`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from mindspore import nn

from .arrays import TakesArrays


class Trainable(TakesArrays):
    """A model that can be trained.

    Attributes:
        batch_fields: in the order in which ``draw`` and ``construct`` take them: columns of the data set, "image",
            "label" or others of one's own. None: the images, and their labels where `conditional`.
        conditional, num_classes: whether it is told a class, and how many there are.
        of_its_data: beginnings of names of parameters that it has from its data, and keeps when a run begins with
            other weights.
        free_on_resume: names of public attributes that may differ when a run goes on; see `fingerprint`.
        named_as_torch: whether its parameters have PyTorch's names already; see `storage.convert`, which asks networks
            too.
    """

    batch_fields: tuple[str, ...] | None = None
    conditional: bool = False
    num_classes: int = 0
    of_its_data: tuple[str, ...] = ()
    free_on_resume: frozenset[str] = frozenset()
    named_as_torch: bool = False
    # Or sample(batch_size, *, seed, first_image, progress, **options) -> (N, C, H, W) in [0, 1], with labels= where it
    # is conditional: what draws the pictures of a run, and what sample.py calls. Without it there are none.
    sample = None

    def saved_parameters(self) -> list[str]:
        """The names of the parameters that a checkpoint holds: all, unless a part follows from something else."""
        return [name for name, _ in self.parameters_and_names()]

    def check_sample(self, **options: Any) -> None:
        """Raises UserError where ``sample`` would refuse ``options``, those of `System.sampling`: before it is long."""

    def check_loaded(self, arrays: Mapping[str, np.ndarray], what: str) -> None:
        """Raises UserError where the weights ``arrays`` of ``what`` do not go with the data that were opened."""


def said_by(cell: nn.Cell, name: str) -> Any:
    """The attribute ``name`` of `Trainable` as ``cell`` has it; a method is bound to it."""
    default = getattr(Trainable, name)
    return getattr(cell, name, functools.partial(default, cell) if callable(default) else default)


def fields_of(cell: nn.Cell) -> tuple[str, ...]:
    """The columns of a batch that ``cell`` takes, in order."""
    fields = said_by(cell, "batch_fields")
    if fields is not None:
        return fields
    return ("image", "label") if said_by(cell, "conditional") else ("image",)
