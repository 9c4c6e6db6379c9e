"""How far a run is, in the numbers that a checkpoint goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Counters:
    """What every step of a run moves beside weights, averages and moments, as it stood after one of them.

    Attributes:
        step: updates tried, skipped ones too.
        skipped: of these, those that changed nothing.
        batches_seen: by all workers together; the next batch is of this number.
        ema_calls: of `EMA.update`.
        scaler: `DynamicLossScale.state`.
        epoch_losses: `Epochs.state`.
    """

    step: int
    skipped: int
    batches_seen: int
    ema_calls: int
    scaler: dict[str, Any]
    epoch_losses: list

    def training(self) -> dict[str, Any]:
        """Their part of ``training`` in state.json, under its names; the step stands beside it."""
        return {
            "ema_calls": self.ema_calls,
            "scaler": self.scaler,
            "skipped_steps": self.skipped,
            "batches_seen": self.batches_seen,
            "epoch_losses": self.epoch_losses,
        }
