"""A training run of any model: its beginning, its loop, and what it saves.

It knows no diffusion. It trains a Cell with two methods: ``draw(rng, batch) -> tuple``, on the host, makes what is
random in a step, and ``construct(*batch, *draws)`` gives the scalar loss. From construct to the updated weights a step
is one compiled graph. Randomness is named by (seed, step), so a resumed run continues bit for bit from its step number
alone.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mindspore import nn

from .. import data
from ..bars import silenced
from ..errors import NonFiniteError, UserError
from ..pictures.images import save_grid
from ..storage import checkpoint, weights
from ..storage.checkpoint import log
from ..trainable import said_by
from . import resuming
from .counters import Counters
from .epochs import Epochs
from .graph_errors import graph_errors
from .identity import Identity
from .learner import Learner
from .plan import Plan
from .run_folder import RunFolder
from .run_report import RunReport
from .runs import StopRequests, summary_writer
from .settings import Settings
from .train_step import StepResult, step_inputs


@dataclass
class TrainResult:
    """How a call of `Trainer.train` ended."""

    step: int
    stopped_by: int | None = None  # number of the signal that asked for it
    skipped_steps: int = 0


class TrainingRun:
    """Trains ``cell`` on ``dataset`` as ``settings`` ask for it.

    This is `Trainer`, which takes its settings one by one and says what each of them is.

    Raises:
        UserError: for values that do not fit, a dataset or folder that cannot be used, a checkpoint of another run.
    """

    def __init__(self, cell: nn.Cell, dataset, settings: Settings):
        self.cell = cell
        self.settings = settings
        self.group = settings.group
        self._open_data(dataset)
        self._plan_steps()
        self.identity = Identity.of(settings, cell, self.all_images, self.plan, dataset)
        self.arguments = self.identity.arguments
        self._build_learner()
        self._start_counting()
        self._check_request()
        self._begin_with_weights()
        with self.run_folder.take():
            self._resume()

    # --- the beginning, step by step -------------------------------------------------------------------------------

    def _open_data(self, dataset) -> None:
        """The images to train on, and those held out."""
        held_out = self.settings.validation_images
        self.train_set, self.validation_set = data.prepare(dataset, self.cell, held_out, self.settings.seed)
        self.all_images = self.train_set if self.validation_set is None else self.train_set.origin

    def _plan_steps(self) -> None:
        """What is due when; and what of the settings may be read, or a function replaced, while the run goes."""
        settings = self.settings
        self.plan = Plan.of(settings, len(self.train_set), self.group.world)
        self.total_steps = self.plan.total_steps
        self.rate = self.plan.rate
        self.seed = settings.seed
        self.batch_size = settings.train_batch_size
        self.num_samples = settings.num_samples
        self.config = settings.config
        self.sample_fn = settings.sample_fn
        self.on_step = settings.on_step
        self.progress = settings.progress and self.group.writer

    def _build_learner(self) -> None:
        """The cell with all that moves its weights, whose parts have their names here too."""
        self.learner = Learner(self.cell, self.settings, self.group)
        self.names = self.learner.names
        self.optimizer = self.learner.optimizer
        self.scaler = self.learner.scaler
        self.ema = self.learner.ema
        self.train_step = self.learner.train_step

    def _start_counting(self) -> None:
        """Where a run stands that has not begun."""
        self.step = 0
        self.skipped = 0
        self.batches_seen = 0  # by all workers
        self.epochs = Epochs(len(self.train_set), self.plan.images_per_step)
        self.bad_in_a_row = 0
        self._before_bad: Counters | None = None
        self.best_loss = math.inf
        self.best_step: int | None = None
        self.accepted_changes: list[dict] = []
        self.started_from: dict | None = None

    def _check_request(self) -> None:
        """What else can be wrong with the request is found before the directory is made."""
        self.train_set.get(0)
        if self.settings.tensorboard:
            summary_writer()
        self.run_folder = RunFolder(self.settings.results_folder, self.group.writer)
        self.folder = self.run_folder.path
        self.checkpoints = self.run_folder.checkpoints
        if self.settings.resume != "whole":  # which reads every file; it does not fail but for want of any
            resuming.find(self.folder, self.settings.resume)

    def _begin_with_weights(self) -> None:
        """Takes the weights of another run where that is asked for, unless there is one to go on with."""
        path, resume = self.settings.init_from, self.settings.resume
        if path is None:
            return
        if resume not in resuming.WAYS and not resuming.began_with_weights(resume):
            raise UserError(f"resume {resume} continues a run, and init_from {path} begins one; give one of the two")
        if resume not in resuming.WAYS or checkpoint.steps(self.checkpoints):
            return
        found = weights.read_weights(path, self.settings.init_weights)
        self.learner.begin_with(found)
        self.started_from = weights.origin(found)
        log.info("a new run, with the %s weights of %s", "averaged" if found.kind == "ema" else "raw", found.path)

    def _resume(self) -> None:
        """Continues what the output directory holds, if that is asked for and there is something."""
        self.run_folder.tidy()
        self.group.barrier()
        # Looked for anew: a kill may have come while a checkpoint was replaced, and now it is back.
        path = resuming.find(self.folder, self.settings.resume)
        if path is not None:
            self.load(path)
            if self.group.writer:  # damaged ones: "whole" alone gets here with any
                checkpoint.set_aside(self.checkpoints, after=self.step)
        told = [self.config, self.arguments, self.identity.fingerprint.data, self.total_steps, self.plan.every]
        self.group.check_start(self.cell, self.step, told)

    # --- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Lets the output directory go, so that another run may have it. Raises UserError while training."""
        self.run_folder.release()

    def __enter__(self) -> TrainingRun:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- resuming and saving -------------------------------------------------------------------------------------

    def load(self, path: str | Path) -> None:
        """Continues from a checkpoint directory. Raises UserError where it is damaged or of another run."""
        loaded = checkpoint.load(Path(path))
        training = resuming.training_state(loaded)
        accepted = self.identity.check(loaded, training)
        self.learner.load(loaded, training)
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
        seen = training["batches_seen"]
        accumulated = training["arguments"].get("gradient_accumulate_every") or self.settings.gradient_accumulate_every
        self.batches_seen = self.step * accumulated if seen is None else seen

    def save(self) -> Path:
        """Writes a checkpoint of the current weights, averaged weights and optimizer.

        In a row of skipped steps it is that of the step before them: they changed no weight, and will be done again.
        """
        counters = self._counters()
        if not self.group.writer:
            return self.checkpoints / checkpoint.step_name(counters.step)
        self.run_folder.check()
        state = {
            **self.identity.state(self.cell),
            "accepted_changes": self.accepted_changes,
            "started_from": self.started_from,
            "training": {
                "arguments": self.arguments,
                "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
                "best_step": self.best_step,
                "workers": self.group.world,
                **counters.training(),
            },
        }
        keep_max = self.settings.keep_checkpoint_max
        return checkpoint.save(self.checkpoints, counters.step, self.learner.arrays(), state, keep_max=keep_max)

    def _counters(self) -> Counters:
        """Those of now or, in a row of steps that are not finite, those from before its first."""
        return self._before_bad or Counters(
            step=self.step,
            skipped=self.skipped,
            batches_seen=self.batches_seen,
            ema_calls=self.ema.calls,
            scaler=self.scaler.state(),
            epoch_losses=self.epochs.state(),
        )

    # --- what happens every so many steps --------------------------------------------------------------------------

    def validation_loss(self) -> float | None:
        """`mean_loss` of the held-out images."""
        if self.validation_set is None:
            return None
        return self.learner.mean_loss(self.validation_set, self.batch_size, self.seed)

    @property
    def picture(self) -> Path:
        """Where the sample grid of this step goes."""
        return self.run_folder.samples / f"{checkpoint.step_name(self.step)}.png"

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
            self.best_loss = judged
            self.best_step = self.step
        if "epoch" in record:
            shown = f"{record['epoch_loss']:.6f}" + ("" if validation is None else f", validation {validation:.6f}")
            self.report.bar.say(f"epoch {record['epoch']}: mean loss {shown}{' (best so far)' if best else ''}")
        self.report.write(record)
        self.save()
        if best:
            checkpoint.mark_best(self.checkpoints, self.step)
        self.sample_grid()

    # --- the loop --------------------------------------------------------------------------------------------------

    def _record_outcome(self, result: StepResult, before: Counters) -> None:
        """Counts skipped steps and stops after too many in a row, with a checkpoint from before the first.

        Overflows by which the loss scale comes down to its size are no sign of a diverging run, and are as many as
        there are halvings of it down to 1: they are skipped, and not counted to the row.
        """
        if result.applied:
            self.bad_in_a_row = 0
            self._before_bad = None
            if self.group.writer:
                self.ema.update()
            return
        self.skipped += 1
        if self.scaler.enabled and result.scale > 1 and math.isfinite(result.loss):
            log.info(
                "step %d skipped: its gradients overflow at a loss scale of %g, now lowered", self.step, result.scale
            )
            return
        self.bad_in_a_row += 1
        self._before_bad = before
        log.warning("step %d skipped: loss or gradient is not finite (loss %s)", self.step, result.loss)
        if self.bad_in_a_row >= self.settings.max_nonfinite:
            path = self.save()
            raise NonFiniteError(
                f"loss or gradient not finite in {self.bad_in_a_row} steps in a row, from step {before.step + 1} on; "
                f"the weights from before are in {path}; continue with a lower --train_lr, or --amp_level O0"
            )

    def train(self) -> TrainResult:
        """Trains to ``train_num_steps``, or until SIGTERM, SIGHUP or Ctrl-C, which save a checkpoint first.

        In another thread than the main one those signals stay the program's.

        Raises:
            UserError: after `close`, where a later Trainer has the folder, or for a checkpoint that cannot be written.
            NonFiniteError: see ``max_nonfinite``.
            GraphError: one line, where MindSpore cannot compile the step; what it says is in ``compiler/``.
        """
        with self.run_folder.at_work():
            return self._train()

    def _train(self) -> TrainResult:
        self.report = RunReport(
            self.folder if self.group.writer else None, step=self.step, total=self.total_steps,
            epochs=self.epochs if self.plan.by_epochs else None, show=self.progress,
            tensorboard=self.settings.tensorboard,
        )  # fmt: skip
        self.group.on_loss(self._save_unless_saved)
        inputs = self._inputs()
        self.cell.set_train(True)
        with graph_errors(self.folder / "compiler"), StopRequests() as stops:
            try:
                self._draw_what_a_kill_prevented()
                self._loop(inputs, stops)
                self.group.close()
            except NonFiniteError:  # all workers come to it in the same step
                self.group.close()
                raise
            finally:
                inputs.close()
                self.report.close()
        unfinished = self.step < self.total_steps
        return TrainResult(self.step, stops.received[0] if stops and unfinished else None, self.skipped)

    def _inputs(self) -> Iterator[list[tuple]]:
        """Those of all steps to come."""
        settings = self.settings
        return step_inputs(
            self.cell, self.train_set, self.batch_size, settings.gradient_accumulate_every, seed=self.seed,
            flip=settings.augment_horizontal_flip, start=self.batches_seen, steps=self.total_steps - self.step,
            workers=settings.workers, group=self.group,
        )  # fmt: skip

    def _draw_what_a_kill_prevented(self) -> None:
        """The pictures of the checkpoint that the run goes on from: they come after it."""
        if self.group.writer and self.step and self.step % self.plan.every == 0 and not self.picture.exists():
            self.sample_grid()

    def _loop(self, inputs: Iterator[list[tuple]], stops: StopRequests) -> None:
        self.report.begin_window()
        all_stop = False  # of several workers all stop after the same step
        while self.step < self.total_steps and not (stops if self.group.world == 1 else all_stop):
            lr = self.rate(self.step)
            began = time.perf_counter()
            # For a step that turns out bad; read now, because the loss scale changes within it, on the device.
            before = self._counters()
            result = self.train_step(lr, next(inputs), stop=bool(stops))
            all_stop = result.stop
            self._count(result)
            self._record_outcome(result, before)
            self.report.say_how_long(time.perf_counter() - began, self.total_steps - self.step)
            stops.listen()
            record = {"step": self.step, "loss": result.loss, "lr": lr, "grad_norm": result.norm}
            if self.on_step is not None:
                self.on_step(record)
            self.report.show(lr)
            self._end_step(record, result.scale)
            self.report.bar.advance()
        if all_stop and not stops:  # another worker was asked to
            stops.received.append(signal.SIGTERM)
        if stops or self.bad_in_a_row:  # the row's steps change nothing; what came before them is saved
            self._save_unless_saved()

    def _count(self, result: StepResult) -> None:
        self.step += 1
        self.batches_seen += self.plan.batches_per_step
        self.report.count(result, self.plan.images_per_step)
        if result.applied and self.plan.by_epochs:
            self.epochs.add(result.loss)

    def _end_step(self, record: dict, scale: float) -> None:
        """A line of the log and a checkpoint, where they are due; ``record`` is what is known of the step."""
        due = self.plan.is_checkpoint_due(self.step)
        logged = due or self.step % self.settings.log_every == 0
        if logged:
            record |= self.report.summary()
            record |= {"loss_scale": scale} if self.scaler.enabled else {}
            record |= {"skipped_steps": self.skipped} if self.skipped else {}
        if self.plan.ends_epoch(self.step):
            record |= {"epoch": self.epochs.number(self.step), "epoch_loss": self.epochs.finish()}
        if due and self.bad_in_a_row == 0:
            self.checkpoint_and_sample(record)
        elif logged:
            self.report.write(record)
        if logged:
            self.report.begin_window()

    def _save_unless_saved(self) -> None:
        if checkpoint.steps(self.checkpoints)[-1:] != [self.step]:
            self.save()
