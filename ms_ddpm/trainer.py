"""The Trainer: one loop for every model.

It knows no diffusion. It trains a Cell with two methods: ``draw(rng, batch) -> tuple``, on the host, makes what is
random in a step, and ``construct(*batch, *draws)`` gives the scalar loss. From construct to the updated weights a step
is one compiled graph. Randomness is named by (seed, step), so a resumed run continues bit for bit from its step number
alone.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from mindspore import nn

from . import checkpoint, data, precision, resuming, weights
from .amp import DynamicLossScale, apply_amp, needs_loss_scale
from .bars import silenced
from .checkpoint import log
from .distributed import ALONE, Group
from .ema import EMA
from .epochs import Epochs, Progress
from .errors import NonFiniteError, UserError, require_positive
from .files import check_writable
from .graph_errors import graph_errors
from .images import save_grid
from .lr_schedules import exponential
from .lr_schedules import lr_schedule as make_lr_schedule
from .ops.assign import set_parameters
from .optim import optimizer_class
from .remaining import Remaining
from .runs import RunLog, StopRequests, lock_directory, summary_writer
from .runtime import compiled, peak_rss_mb
from .train_step import TrainStep, as_function, mean_loss, step_inputs
from .trainable import said_by


@dataclass
class TrainResult:
    """How a call of `Trainer.train` ended."""

    step: int
    stopped_by: int | None = None  # number of the signal that asked for it
    skipped_steps: int = 0


class Trainer:
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
        amp_level, amp_dtype: "O0", "O1" or "O2", in "float16" or "bfloat16"; see `ms_ddpm.amp`.
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
        group: the workers that share a step's images; see `ms_ddpm.distributed`. Worker 0 alone writes.

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
        given = {name: value for name, value in locals().items() if name != "self"}
        require_positive(
            train_batch_size=train_batch_size, gradient_accumulate_every=gradient_accumulate_every,
            train_num_steps=train_num_steps, save_and_sample_every=save_and_sample_every, log_every=log_every,
            num_samples=num_samples, max_nonfinite=max_nonfinite, workers=workers,
            epochs=1 if epochs is None else epochs,
        )  # fmt: skip
        self.train_set, self.validation_set = data.prepare(dataset, cell, validation_images, seed)
        self.cell = cell
        self.batch_size, self.accumulate = train_batch_size, gradient_accumulate_every
        self.flip, self.workers, self.progress = augment_horizontal_flip, workers, progress and group.writer
        self.group = group
        self.per_step = gradient_accumulate_every * group.world  # batches of all workers
        self.by_epochs, self.epochs = epochs is not None, Epochs(len(self.train_set), self.batch_size * self.per_step)
        if self.by_epochs:
            train_num_steps, save_and_sample_every = epochs * self.epochs.steps, self.epochs.steps
        self.total_steps, self.every, self.num_samples = train_num_steps, save_and_sample_every, num_samples
        self.seed, self.log_every, self.max_nonfinite = seed, log_every, max_nonfinite
        self.sample_fn, self.config, self.on_step = sample_fn, config, on_step
        self.keep_max = keep_checkpoint_max
        if lr_schedule == "exponential":
            lr_schedule = exponential(lr_decay, lr_floor, self.epochs.steps)
        lengths = {"total_steps": train_num_steps, "warmup_steps": warmup_steps}
        self.rate = make_lr_schedule(lr_schedule, base_lr=train_lr, **lengths)
        self.step, self.skipped, self.best_loss, self.best_step = 0, 0, math.inf, None
        self.batches_seen, self.bad_in_a_row, self._before_bad = 0, 0, None  # the first by all workers
        self.arguments = {
            **resuming.fixed_arguments(given),
            "images": len(self.train_set) + len(self.validation_set or ()),
            **({"steps_per_epoch": self.epochs.steps} if self.by_epochs else {}),
        }
        images = self.train_set if self.validation_set is None else self.train_set.origin
        self.fingerprint = resuming.Fingerprint.of(cell, images)
        self.accept_changes = [accept_changes] if isinstance(accept_changes, str) else accept_changes or ()
        self.accepted_changes, self.started_from = [], None
        self.described = self._describe(given) if config is None and group.writer else {}

        apply_amp(cell, amp_level, amp_dtype)
        named = [(name, p) for name, p in cell.parameters_and_names() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.optimizer = optimizer_class(optimizer)(
            [p for _, p in named], train_lr, betas=tuple(adam_betas), weight_decay=weight_decay
        )
        self.scaler = DynamicLossScale(enabled=needs_loss_scale(amp_level, amp_dtype))
        self.ema = EMA(cell, beta=ema_decay, update_every=ema_update_every)
        self.train_step = TrainStep(
            cell, self.optimizer, self.scaler, max_grad_norm=max_grad_norm, accumulate=gradient_accumulate_every,
            group=group,
        )  # fmt: skip
        self._loss_only = compiled(as_function(cell))

        # Everything that can be wrong with the request is found before the directory is made.
        self.train_set.get(0)
        self.tensorboard = tensorboard
        if tensorboard:
            summary_writer()
        self.folder = Path(results_folder)
        self.checkpoints = self.folder / "checkpoints"
        if resume != "whole":  # which reads every file; it does not fail but for want of any
            resuming.find(self.folder, resume)
        if init_from is not None:
            self._begin_with(init_from, init_weights, resume)
        self._lock = lock_directory(self.folder) if group.writer else None
        with nullcontext() if self._lock is None else self._lock.on_trial():
            self._go_on(resume)

    # --- the beginning and the end -------------------------------------------------------------------------------

    def _describe(self, given: dict) -> dict:
        """What `recipes` builds the Cell from again, for checkpoints; or why there is nothing."""
        from .described import configuration

        named = given["dataset"] if isinstance(given["dataset"], (str, Path)) else None
        try:
            return {"config": configuration(self.cell, given, named and str(named)), "config_of": "cell"}
        except UserError as error:
            return {"no_config": str(error)}

    def _begin_with(self, path: str | Path, kind: str, resume: str) -> None:
        """Takes the weights of another run, unless there is one to go on with."""
        if resume not in resuming.WAYS and not resuming.began_with_weights(resume):
            raise UserError(f"resume {resume} continues a run, and init_from {path} begins one; give one of the two")
        if resume not in resuming.WAYS or checkpoint.steps(self.checkpoints):
            return
        found = weights.read_weights(path, kind)
        weights.begin_with(self.cell, found)
        self.ema.load_state({name: found.arrays[name] for name in self.names}, 0)
        self.started_from = weights.origin(found)
        log.info("a new run, with the %s weights of %s", "averaged" if found.kind == "ema" else "raw", found.path)

    def _go_on(self, resume: str) -> None:
        """Continues what the output directory holds, if ``resume`` says so and there is something."""
        if self.group.writer:
            checkpoint.clean(self.folder, self.checkpoints, self.folder / "samples")
            check_writable(self.checkpoints, self.folder / "samples")
        self.group.gather([0])  # wait for that
        path = resuming.find(self.folder, resume)  # a kill may have come while a checkpoint was replaced; it is back
        if path is not None:
            self.load(path)
            if self.group.writer:  # damaged ones: "whole" alone gets here with any
                checkpoint.set_aside(self.checkpoints, after=self.step)
        settings = [self.config, self.arguments, self.fingerprint.data, self.total_steps, self.every]
        self.group.check_start(self.cell, self.step, settings)

    def close(self) -> None:
        """Lets the output directory go, so that another run may have it. Raises UserError while training."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- resuming and saving -------------------------------------------------------------------------------------

    def load(self, path: str | Path) -> None:
        """Continues from a checkpoint directory. Raises UserError where it is damaged or of another run."""
        loaded = checkpoint.load(Path(path))
        training = resuming.training_state(loaded)
        workers = self.group.world
        accepted = resuming.check_same_run(
            loaded, training, config=self.config, arguments=self.arguments, workers=workers,
            fingerprint=self.fingerprint, accept=self.accept_changes,
        )  # fmt: skip
        resuming.check_arrays(loaded, self.cell, self.names)
        saved = said_by(self.cell, "saved_parameters")()
        set_parameters(self.cell, loaded.arrays["model"], f"checkpoint {path}", saved)
        self.ema.load_state(loaded.arrays["ema"], training["ema_calls"])
        self.optimizer.load_state(self.names, loaded.arrays["optimizer"])
        self.scaler.load_state(training["scaler"])
        self.best_loss = math.inf if training["best_loss"] is None else training["best_loss"]
        self.best_step = training["best_step"]
        # A kill may have come before it was named.
        if self.group.writer and self.best_step in checkpoint.steps(self.checkpoints):
            checkpoint.mark_best(self.checkpoints, self.best_step)
        self.accepted_changes = resuming.note_accepted(loaded, accepted)
        if resuming.of_data(accepted) and self.validation_set is not None:
            log.warning(
                "the held-out images are chosen anew and were in part trained on: their loss is lower than it should "
                "be, and the best checkpoint is looked for from here on"
            )
            self.best_loss = math.inf
        self.started_from = loaded.state.get("started_from")
        self.skipped = training["skipped_steps"]
        self.epochs.load_state(training["epoch_losses"])
        self.step = loaded.step
        seen, accumulated = training["batches_seen"], training["arguments"].get("gradient_accumulate_every")
        self.batches_seen = self.step * (accumulated or self.accumulate) if seen is None else seen

    def save(self) -> Path:
        """Writes a checkpoint of the current weights, averaged weights and optimizer.

        In a row of skipped steps it is that of the step before them: they changed no weight, and will be done again.
        """
        step, skipped, batches_seen, scaler, epoch_losses = self._before_bad or self._counters()
        if not self.group.writer:
            return self.checkpoints / checkpoint.step_name(step)
        self._lock.check()
        state = {
            "seed": self.seed,
            "config": self.config,
            **self.described,
            "versions": checkpoint.versions(),
            "precision": precision.flags(),
            "fingerprint": self.fingerprint.state(self.cell),
            "accepted_changes": self.accepted_changes,
            "started_from": self.started_from,
            "training": {
                "arguments": self.arguments,
                "ema_calls": self.ema.calls,
                "scaler": scaler,
                "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
                "best_step": self.best_step,
                "skipped_steps": skipped,
                "batches_seen": batches_seen,
                "workers": self.group.world,
                "epoch_losses": epoch_losses,
            },
        }
        parameters = dict(self.cell.parameters_and_names())
        arrays = {
            "model": {name: parameters[name].asnumpy() for name in said_by(self.cell, "saved_parameters")()},
            "ema": self.ema.state(),
            "optimizer": self.optimizer.state(self.names),
        }
        return checkpoint.save(self.checkpoints, step, arrays, state, keep_max=self.keep_max)

    def _counters(self) -> tuple[int, int, int, dict, list]:
        return self.step, self.skipped, self.batches_seen, self.scaler.state(), self.epochs.state()

    # --- what happens every so many steps --------------------------------------------------------------------------

    def validation_loss(self) -> float | None:
        """`mean_loss` of the held-out images."""
        if self.validation_set is None:
            return None
        return mean_loss(self._loss_only, self.cell, self.validation_set, self.batch_size, self.seed)

    @property
    def picture(self) -> Path:
        """Where the sample grid of this step goes."""
        return self.folder / "samples" / f"{checkpoint.step_name(self.step)}.png"

    def sample_grid(self) -> None:
        """Draws ``num_samples`` pictures at a fixed seed with the averaged weights."""
        if self.sample_fn is None and said_by(self.cell, "sample") is None:
            return
        with self.ema.swapped(), silenced(not self.progress):
            draw = self.sample_fn or (lambda cell, num: cell.sample(num, seed=self.seed))
            images = draw(self.cell, self.num_samples)
        try:
            save_grid(images, self.picture, getattr(self.sample_fn, "columns", None))
        except UserError as error:  # samples that are not finite, say; the weights may recover
            log.warning("no picture at step %d: %s", self.step, error)

    def checkpoint_and_sample(self, record: dict) -> None:
        """Validation loss, log line, checkpoint, sample grid: in this order, so that a kill in between loses none."""
        self.group.check_weights(self.cell, self.step)
        if not self.group.writer:
            return
        with self.ema.swapped():
            validation = self.validation_loss()
        if validation is not None:
            record["validation_loss"] = validation
        judged = record.get("epoch_loss", math.nan) if validation is None else validation
        best = math.isfinite(judged) and judged < self.best_loss
        if best:
            self.best_loss, self.best_step = judged, self.step
        if "epoch" in record:
            shown = f"{record['epoch_loss']:.6f}" + ("" if validation is None else f", validation {validation:.6f}")
            self.bar.say(f"epoch {record['epoch']}: mean loss {shown}{' (best so far)' if best else ''}")
        self.run_log.write(record)
        self.save()
        if best:
            checkpoint.mark_best(self.checkpoints, self.step)
        self.sample_grid()

    # --- the loop --------------------------------------------------------------------------------------------------

    def _record_outcome(self, loss: float, applied: bool, scale: float, before: tuple) -> None:
        """Counts skipped steps and stops after too many in a row, with a checkpoint from before the first.

        Overflows by which the loss scale comes down to its size are no sign of a diverging run, and are as many as
        there are halvings of it down to 1: they are skipped, and not counted to the row.
        """
        if applied:
            self.bad_in_a_row, self._before_bad = 0, None
            if self.group.writer:
                self.ema.update()
            return
        self.skipped += 1
        if self.scaler.enabled and scale > 1 and math.isfinite(loss):
            log.info("step %d skipped: its gradients overflow at a loss scale of %g, now lowered", self.step, scale)
            return
        self.bad_in_a_row += 1
        if self._before_bad is None:
            self._before_bad = before
        log.warning("step %d skipped: loss or gradient is not finite (loss %s)", self.step, loss)
        if self.bad_in_a_row >= self.max_nonfinite:
            path, first = self.save(), self._before_bad[0] + 1
            raise NonFiniteError(
                f"loss or gradient not finite in {self.bad_in_a_row} steps in a row, from step {first} on; the weights "
                f"from before are in {path}; continue with a lower --train_lr, or --amp_level O0"
            )

    def train(self) -> TrainResult:
        """Trains to ``train_num_steps``, or until SIGTERM, SIGHUP or Ctrl-C, which save a checkpoint first.

        In another thread than the main one those signals stay the program's.

        Raises:
            UserError: after `close`, where a later Trainer has the folder, or for a checkpoint that cannot be written.
            NonFiniteError: see ``max_nonfinite``.
            GraphError: one line, where MindSpore cannot compile the step; what it says is in ``compiler/``.
        """
        with nullcontext() if self._lock is None else self._lock.at_work():
            return self._train()

    def _train(self) -> TrainResult:
        if self.group.writer:
            self.run_log = RunLog(self.folder, resumed_from=self.step, tensorboard=self.tensorboard)
        self.group.on_loss(self._save_unless_saved)
        inputs = step_inputs(
            self.cell, self.train_set, self.batch_size, self.accumulate, seed=self.seed, flip=self.flip,
            start=self.batches_seen, steps=self.total_steps - self.step, workers=self.workers, group=self.group,
        )  # fmt: skip
        self.bar = Progress(self.step, self.total_steps, self.epochs if self.by_epochs else None, self.progress)
        self.cell.set_train(True)
        with graph_errors(self.folder / "compiler"), StopRequests() as stops:
            try:
                if self.group.writer and self.step and self.step % self.every == 0 and not self.picture.exists():
                    self.sample_grid()  # a kill came before it
                self._loop(inputs, stops)
                self.group.close()
            except NonFiniteError:
                self.group.close()
                raise
            finally:
                inputs.close()
                self.bar.close()
                if self.group.writer:
                    self.run_log.close()
        unfinished = self.step < self.total_steps
        return TrainResult(self.step, stops.received[0] if stops and unfinished else None, self.skipped)

    def _loop(self, inputs: Iterator[list[tuple]], stops: StopRequests) -> None:
        images_per_step = self.batch_size * self.per_step
        losses, since, images, speed = [], time.perf_counter(), 0, {}
        stop = False  # of several workers all stop after the same step
        remaining = Remaining()
        while self.step < self.total_steps and not (stops if self.group.world == 1 else stop):
            lr, began = self.rate(self.step), time.perf_counter()
            # The loss scale adapts on the device; on the host it is needed only if this step turns out bad.
            before = self._counters() if self.bad_in_a_row == 0 else ()
            loss, norm, applied, scale, stop = self.train_step(lr, next(inputs), stop=bool(stops))
            self.step += 1
            self.batches_seen += self.per_step
            images += images_per_step
            if applied:
                losses.append(loss)
                if self.by_epochs:
                    self.epochs.add(loss)
            self._record_outcome(loss, applied, scale, before)
            if line := remaining.after_step(time.perf_counter() - began, self.total_steps - self.step):
                self.bar.remark(line)
            stops.listen()
            record = {"step": self.step, "loss": loss, "lr": lr, "grad_norm": norm}
            if self.on_step is not None:
                self.on_step(record)
            self.bar.tell(loss=f"{sum(losses) / len(losses) if losses else loss:.4f}", lr=f"{lr:.1e}", **speed)
            due = self.step % self.every == 0 or self.step == self.total_steps
            if self.step % self.log_every == 0 or due:
                rate = images / (time.perf_counter() - since)
                record |= {
                    "loss": sum(losses) / len(losses) if losses else loss,
                    "images_per_s": float(f"{rate:.4g}"),
                    "peak_rss_mb": round(peak_rss_mb(), 1),
                    **({"loss_scale": scale} if self.scaler.enabled else {}),
                    **({"skipped_steps": self.skipped} if self.skipped else {}),
                }
                speed = {"img_s": f"{rate:.0f}"}
            if self.by_epochs and self.step % self.epochs.steps == 0:
                record |= {"epoch": self.epochs.number(self.step), "epoch_loss": self.epochs.finish()}
            if due and self.bad_in_a_row == 0:
                self.checkpoint_and_sample(record)
            elif "images_per_s" in record and self.group.writer:
                self.run_log.write(record)
            if "images_per_s" in record:
                losses, since, images = [], time.perf_counter(), 0
            self.bar.advance()
        if stop and not stops:  # another worker was asked to
            stops.received.append(signal.SIGTERM)
        if stops or self.bad_in_a_row:  # the row's steps change nothing; what came before them is saved
            self._save_unless_saved()

    def _save_unless_saved(self) -> None:
        if checkpoint.steps(self.checkpoints)[-1:] != [self.step]:
            self.save()
