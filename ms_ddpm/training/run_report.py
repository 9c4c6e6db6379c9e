"""What a run says while it trains: progress bars, the lines of the log, how long it will take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from ..devices.runtime import peak_rss_mb
from .epochs import Epochs, Progress
from .remaining import Remaining
from .runs import RunLog
from .train_step import StepResult


@dataclass
class LogWindow:
    """The steps since the last line of the log, which the next one sums up.

    Attributes:
        losses: of the steps that were applied.
        images: seen by all workers, in skipped steps too.
        since: when it began, in seconds of `time.perf_counter`.
    """

    losses: list[float] = field(default_factory=list)
    images: int = 0
    since: float = field(default_factory=time.perf_counter)

    def images_per_s(self) -> float:
        """The speed up to now."""
        return self.images / (time.perf_counter() - self.since)


class RunReport:
    """The bars and the log of one call of `Trainer.train`.

    Args:
        folder: where ``log.jsonl`` goes; None writes none.
        step, total: of the run, done so far and in all.
        epochs: how the steps are counted in epochs; None: they are not.
        show: whether there are bars.
        tensorboard: whether to write TensorBoard files too.

    Raises:
        UserError: where the log cannot be written.
    """

    def __init__(
        self, folder: Path | None, *, step: int, total: int, epochs: Epochs | None, show: bool, tensorboard: bool
    ):
        self.log = None if folder is None else RunLog(folder, resumed_from=step, tensorboard=tensorboard)
        self.bar = Progress(step, total, epochs, show)
        self.remaining = Remaining()
        self.window = LogWindow()
        self.last_loss = 0.0
        self.speed: dict[str, str] = {}  # of the window before, as the bar shows it

    def count(self, result: StepResult, images: int) -> None:
        """Counts a step of so many ``images``."""
        self.window.images += images
        self.last_loss = result.loss
        if result.applied:
            self.window.losses.append(result.loss)

    @property
    def mean_loss(self) -> float:
        """Of the window's steps; the last step's where every one was skipped."""
        losses = self.window.losses
        return sum(losses) / len(losses) if losses else self.last_loss

    def say_how_long(self, seconds: float, to_go: int) -> None:
        """Once it is known: a step took ``seconds``, and ``to_go`` are left."""
        if line := self.remaining.after_step(seconds, to_go):
            self.bar.remark(line)

    def show(self, lr: float) -> None:
        """The numbers behind the bar."""
        self.bar.tell(loss=f"{self.mean_loss:.4f}", lr=f"{lr:.1e}", **self.speed)

    def summary(self) -> dict[str, float]:
        """What a line of the log says of its steps: their mean loss in place of the last one's, speed, memory."""
        images_per_s = self.window.images_per_s()
        self.speed = {"img_s": f"{images_per_s:.0f}"}
        return {
            "loss": self.mean_loss,
            "images_per_s": float(f"{images_per_s:.4g}"),
            "peak_rss_mb": round(peak_rss_mb(), 1),
        }

    def write(self, record: dict) -> None:
        """One line of the log."""
        if self.log is not None:
            self.log.write(record)

    def begin_window(self) -> None:
        """The steps of the next line begin: the time that checkpoints and pictures took is none of theirs."""
        self.window = LogWindow()

    def close(self) -> None:
        """Takes the bars down and closes the log."""
        self.bar.close()
        if self.log is not None:
            self.log.close()
