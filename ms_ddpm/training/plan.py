"""How long a run is, and what is due in each of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .epochs import Epochs
from .lr_schedules import exponential, lr_schedule
from .settings import Settings


@dataclass(frozen=True)
class Plan:
    """What follows from the `Settings` of a run, the number of its images and the number of its workers.

    Attributes:
        batches_per_step, images_per_step: of all workers together.
        steps_per_epoch: as many as it takes to see every image once; see `Epochs`.
        by_epochs: whether the run is counted in epochs: as long as asked for, each ending with a checkpoint.
        total_steps: of the run.
        every: steps from checkpoint to checkpoint.
        rate: learning rate of a step.
    """

    batches_per_step: int
    images_per_step: int
    steps_per_epoch: int
    by_epochs: bool
    total_steps: int
    every: int
    rate: Callable[[int], float]

    @classmethod
    def of(cls, settings: Settings, images: int, workers: int) -> Plan:
        """Raises UserError for a schedule that there is not, or a warm-up longer than the run."""
        batches_per_step = settings.gradient_accumulate_every * workers
        images_per_step = settings.train_batch_size * batches_per_step
        steps_per_epoch = Epochs(images, images_per_step).steps
        by_epochs = settings.epochs is not None
        total_steps = settings.epochs * steps_per_epoch if by_epochs else settings.train_num_steps
        schedule = settings.lr_schedule
        if schedule == "exponential":
            schedule = exponential(settings.lr_decay, settings.lr_floor, steps_per_epoch)
        return cls(
            batches_per_step=batches_per_step,
            images_per_step=images_per_step,
            steps_per_epoch=steps_per_epoch,
            by_epochs=by_epochs,
            total_steps=total_steps,
            every=steps_per_epoch if by_epochs else settings.save_and_sample_every,
            rate=lr_schedule(
                schedule, base_lr=settings.train_lr, total_steps=total_steps, warmup_steps=settings.warmup_steps
            ),
        )

    def is_checkpoint_due(self, step: int) -> bool:
        """Whether ``step`` is to end with a checkpoint and pictures: the last one is too."""
        return step % self.every == 0 or step == self.total_steps

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends with ``step``, in a run that is counted in them."""
        return self.by_epochs and step % self.steps_per_epoch == 0
