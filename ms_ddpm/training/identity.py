"""By what a run is known: what its checkpoints say of it, and what may not change when it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindspore import nn

from ..data import ImageSource
from ..devices import precision
from ..errors import UserError
from ..storage import checkpoint
from . import resuming
from .plan import Plan
from .settings import Settings


@dataclass
class Identity:
    """What makes a run this one and no other.

    Attributes:
        settings, workers: what it was asked for, and the number of its workers.
        arguments: those of the settings that may not change, with the number of images.
        fingerprint: what is known of its Cell and of its images.
        described: the configuration that builds the Cell again, found by looking at it; or why there is none.
    """

    settings: Settings
    workers: int
    arguments: dict[str, Any]
    fingerprint: resuming.Fingerprint
    described: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, cell: nn.Cell, images: ImageSource, plan: Plan, dataset: object) -> Identity:
        """That of a run on ``images``, those held out too, which it was given as ``dataset``."""
        arguments = {**resuming.fixed_arguments(settings.by_name()), "images": len(images)}
        if plan.by_epochs:
            arguments["steps_per_epoch"] = plan.steps_per_epoch
        found = cls(settings, settings.group.world, arguments, resuming.Fingerprint.of(cell, images))
        if settings.config is None and settings.group.writer:
            found.described = _description(cell, settings, dataset)
        return found

    def check(self, loaded: checkpoint.Checkpoint, training: Mapping) -> dict[str, str]:
        """The changes since ``loaded`` that are accepted; see `resuming.check_same_run`. Raises UserError."""
        return resuming.check_same_run(
            loaded, training, config=self.settings.config, arguments=self.arguments, workers=self.workers,
            fingerprint=self.fingerprint, accept=self.settings.accepted,
        )  # fmt: skip

    def state(self, cell: nn.Cell) -> dict[str, Any]:
        """What a checkpoint says of it."""
        return {
            "seed": self.settings.seed,
            "config": self.settings.config,
            **self.described,
            "versions": checkpoint.versions(),
            "precision": precision.flags(),
            "fingerprint": self.fingerprint.state(cell),
        }


def _description(cell: nn.Cell, settings: Settings, dataset: object) -> dict[str, Any]:
    from ..storage.described import configuration

    named = str(dataset) if isinstance(dataset, (str, Path)) else None
    try:
        return {"config": configuration(cell, settings.by_name(), named), "config_of": "cell"}
    except UserError as error:
        return {"no_config": str(error)}
