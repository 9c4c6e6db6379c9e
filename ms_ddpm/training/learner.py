"""A Cell that learns: its weights, and all that moves them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mindspore import nn

from ..data import ImageSource
from ..devices.distributed import Group
from ..devices.runtime import compiled
from ..storage import checkpoint, weights
from ..storage.weights import set_parameters
from ..trainable import said_by
from . import resuming
from .amp import DynamicLossScale, apply_amp, needs_loss_scale
from .ema import EMA
from .optim import optimizer_class
from .settings import Settings
from .train_step import TrainStep, as_function, mean_loss


class Learner:
    """``cell`` with its optimizer, loss scale, averaged weights and compiled step, as `Settings` ask for them.

    Attributes:
        names: of the weights that are trained.
        optimizer, scaler, ema, train_step: see `optim`, `amp`, `ema` and `train_step`.

    Raises:
        UserError: for settings that these do not take.
    """

    def __init__(self, cell: nn.Cell, settings: Settings, group: Group):
        apply_amp(cell, settings.amp_level, settings.amp_dtype)
        named = [(name, p) for name, p in cell.parameters_and_names() if p.requires_grad]
        self.cell = cell
        self.names = [name for name, _ in named]
        self.optimizer = optimizer_class(settings.optimizer)(
            [p for _, p in named],
            settings.train_lr,
            betas=tuple(settings.adam_betas),
            weight_decay=settings.weight_decay,
        )
        self.scaler = DynamicLossScale(enabled=needs_loss_scale(settings.amp_level, settings.amp_dtype))
        self.ema = EMA(cell, beta=settings.ema_decay, update_every=settings.ema_update_every)
        self.train_step = TrainStep(
            cell,
            self.optimizer,
            self.scaler,
            max_grad_norm=settings.max_grad_norm,
            accumulate=settings.gradient_accumulate_every,
            group=group,
        )
        self._loss_only = compiled(as_function(cell))

    def mean_loss(self, source: ImageSource, batch_size: int, seed: int) -> float:
        """`train_step.mean_loss` over ``source`` with the weights the cell has now."""
        return mean_loss(self._loss_only, self.cell, source, batch_size, seed)

    def begin_with(self, found: weights.Weights) -> None:
        """Takes the weights ``found``, as if the run had begun with them. Raises UserError where they do not fit."""
        weights.begin_with(self.cell, found)
        self.ema.load_state({name: found.arrays[name] for name in self.names}, 0)

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """What a checkpoint holds in arrays."""
        parameters = dict(self.cell.parameters_and_names())
        return {
            "model": {name: parameters[name].asnumpy() for name in said_by(self.cell, "saved_parameters")()},
            "ema": self.ema.state(),
            "optimizer": self.optimizer.state(self.names),
        }

    def load(self, loaded: checkpoint.Checkpoint, training: Mapping) -> None:
        """Restores `arrays`, and what `resuming.training_state` gave. Raises UserError where they do not fit."""
        resuming.check_arrays(loaded, self.cell, self.names)
        saved = said_by(self.cell, "saved_parameters")()
        set_parameters(self.cell, loaded.arrays["model"], f"checkpoint {loaded.path}", saved)
        self.ema.load_state(loaded.arrays["ema"], training["ema_calls"])
        self.optimizer.load_state(self.names, loaded.arrays["optimizer"])
        self.scaler.load_state(training["scaler"])
