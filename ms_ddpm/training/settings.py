"""What a `Trainer` is asked for, as one value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import require_positive

if TYPE_CHECKING:
    from ..devices.distributed import Group


@dataclass(frozen=True)
class Settings:
    """The keyword arguments of a `Trainer`, which says what each of them is and what it is by default.

    In the Trainer's order, in which a refusal names those that have changed.

    Raises:
        UserError: for a count below 1. Everything else is judged by what takes it.
    """

    train_batch_size: int
    gradient_accumulate_every: int
    augment_horizontal_flip: bool
    train_lr: float
    train_num_steps: int
    ema_update_every: int
    ema_decay: float
    adam_betas: tuple[float, float]
    save_and_sample_every: int
    num_samples: int
    results_folder: str | Path
    max_grad_norm: float
    amp_level: str
    amp_dtype: str
    optimizer: str
    weight_decay: float | None
    lr_schedule: str | Callable[[int], float]
    warmup_steps: int
    validation_images: int
    seed: int
    resume: str
    keep_checkpoint_max: int
    log_every: int
    tensorboard: bool
    max_nonfinite: int
    sample_fn: Callable | None
    config: dict | None
    workers: int
    progress: bool
    on_step: Callable[[dict], None] | None
    group: Group
    epochs: int | None
    lr_decay: float
    lr_floor: float
    accept_changes: Sequence[str] | None
    init_from: str | Path | None
    init_weights: str

    def __post_init__(self):
        require_positive(
            train_batch_size=self.train_batch_size,
            gradient_accumulate_every=self.gradient_accumulate_every,
            train_num_steps=self.train_num_steps,
            save_and_sample_every=self.save_and_sample_every,
            log_every=self.log_every,
            num_samples=self.num_samples,
            max_nonfinite=self.max_nonfinite,
            workers=self.workers,
            epochs=1 if self.epochs is None else self.epochs,
        )

    def by_name(self) -> dict[str, Any]:
        """Each setting by its name, as it was given."""
        return dict(vars(self))

    @property
    def accepted(self) -> Sequence[str]:
        """The names in ``accept_changes``, which may be one alone or none."""
        return [self.accept_changes] if isinstance(self.accept_changes, str) else self.accept_changes or ()
