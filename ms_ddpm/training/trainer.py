"""The Trainer: one loop for every model, asked for in keyword arguments. The loop itself is in `training_run`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mindspore import nn

from ..devices.distributed import ALONE, Group
from .settings import Settings
from .training_run import TrainingRun, TrainResult

__all__ = ["TrainResult", "Trainer"]


class Trainer(TrainingRun):
    """Trains ``cell`` on ``dataset``, with checkpoints, log, averaged weights and sample pictures.

    It holds its output directory until `close`, the end of a ``with`` block, or a later Trainer in the same process.

    Args:
        cell: has ``draw(rng, batch)`` and ``construct(*batch, *draws) -> loss``; with a ``sample`` method (or
            ``sample_fn``) pictures are drawn too.
        dataset: a `data.ImageSource`, or what `data.open_images` takes, at the cell's ``image_size`` and ``channels``;
            or an array of images, a list of them, or a data set as PyTorch knows it; see `given.as_source`.
        train_batch_size, gradient_accumulate_every: images per batch, batches per step.
        augment_horizontal_flip: mirrors images with probability 1/2.
        train_lr, adam_betas, optimizer, weight_decay, max_grad_norm: the update; the norm is clipped.
        lr_schedule, warmup_steps, lr_decay, lr_floor: see `lr_schedules`; a function step -> factor works too.
        train_num_steps: optimizer steps in all. epochs: passes over the training images instead; then
            ``save_and_sample_every`` is an epoch, the log holds each epoch's mean loss and, without validation images,
            the lowest names the best checkpoint.
        ema_update_every, ema_decay: see `EMA`.
        save_and_sample_every, num_samples: checkpoint, validation loss and EMA sample grid every so many steps.
        results_folder: where everything is written.
        amp_level, amp_dtype: "O0", "O1" or "O2", in "float16" or "bfloat16"; see `ms_ddpm.training.amp`.
        validation_images: how many are held out; the checkpoint of the lowest EMA validation loss is named ``best``.
        seed: one seed gives one run.
        resume: "auto" continues what ``results_folder`` holds, "whole" does too and goes back to the newest whole
            checkpoint where later ones are damaged, "never" refuses to, a path continues that checkpoint.
        accept_changes: names of what may have changed since the checkpoint, as the refusal says them; "data" is the
            data set. Checkpoints keep what was accepted, and at which step.
        init_from, init_weights: where there is nothing to continue, the run begins with the "ema" or "model" weights of
            this output directory or checkpoint, at step 0: fine-tuning. See `weights.read_weights`.
        keep_checkpoint_max: newest checkpoints kept, 0 for all.
        log_every: steps between lines of log.jsonl; tensorboard: write TensorBoard files too.
        max_nonfinite: stop after so many steps in a row whose loss or gradient is not finite; each is skipped. Steps
            by which the loss scale finds its size, overflows above a scale of 1 whose loss is finite, do not count.
        sample_fn: ``sample_fn(cell, num) -> (num, C, H, W)`` images in [0, 1]; may say the grid's ``columns``.
        config: configuration to keep in checkpoints (`config.Config` as a dict).
        workers: threads that load images. progress: show progress bars, those of the sample pictures too.
        on_step: called as ``on_step(record)`` after every step, with a dict of step, loss, lr and grad_norm.
        group: the workers that share a step's images; see `ms_ddpm.devices.distributed`. Worker 0 alone writes.

    Raises:
        UserError: for values that do not fit, a dataset or folder that cannot be used, a checkpoint of another run.
    """

    def __init__(
        self,
        cell: nn.Cell,
        dataset,
        *,
        train_batch_size: int = 16,
        gradient_accumulate_every: int = 1,
        augment_horizontal_flip: bool = True,
        train_lr: float = 1e-4,
        train_num_steps: int = 100000,
        ema_update_every: int = 10,
        ema_decay: float = 0.995,
        adam_betas: tuple[float, float] = (0.9, 0.99),
        save_and_sample_every: int = 1000,
        num_samples: int = 25,
        results_folder: str | Path = "./results",
        max_grad_norm: float = 1.0,
        amp_level: str = "O0",
        amp_dtype: str = "float16",
        optimizer: str = "adam",
        weight_decay: float | None = None,
        lr_schedule: str | Callable[[int], float] = "constant",
        warmup_steps: int = 0,
        validation_images: int = 0,
        seed: int = 0,
        resume: str = "auto",
        keep_checkpoint_max: int = 3,
        log_every: int = 10,
        tensorboard: bool = False,
        max_nonfinite: int = 20,
        sample_fn: Callable | None = None,
        config: dict | None = None,
        workers: int = 1,
        progress: bool = True,
        on_step: Callable[[dict], None] | None = None,
        group: Group = ALONE,
        epochs: int | None = None,
        lr_decay: float = 0.98,
        lr_floor: float = 0.2,
        accept_changes: Sequence[str] | None = None,
        init_from: str | Path | None = None,
        init_weights: str = "ema",
    ):
        settings = Settings(
            train_batch_size=train_batch_size, gradient_accumulate_every=gradient_accumulate_every,
            augment_horizontal_flip=augment_horizontal_flip, train_lr=train_lr, train_num_steps=train_num_steps,
            ema_update_every=ema_update_every, ema_decay=ema_decay, adam_betas=adam_betas,
            save_and_sample_every=save_and_sample_every, num_samples=num_samples, results_folder=results_folder,
            max_grad_norm=max_grad_norm, amp_level=amp_level, amp_dtype=amp_dtype, optimizer=optimizer,
            weight_decay=weight_decay, lr_schedule=lr_schedule, warmup_steps=warmup_steps,
            validation_images=validation_images, seed=seed, resume=resume, keep_checkpoint_max=keep_checkpoint_max,
            log_every=log_every, tensorboard=tensorboard, max_nonfinite=max_nonfinite, sample_fn=sample_fn,
            config=config, workers=workers, progress=progress, on_step=on_step, group=group, epochs=epochs,
            lr_decay=lr_decay, lr_floor=lr_floor, accept_changes=accept_changes, init_from=init_from,
            init_weights=init_weights,
        )  # fmt: skip
        super().__init__(cell, dataset, settings)
