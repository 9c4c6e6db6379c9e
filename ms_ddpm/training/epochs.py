"""Epochs of a run: how long one is, the mean loss of the current one, and the progress bars."""

from __future__ import annotations

import logging
import math
import sys

from tqdm.auto import tqdm

log = logging.getLogger("ms_ddpm")


class Epochs:
    """Counts a run of ``total_steps`` in epochs of ``steps`` steps and adds up the loss of the current one.

    An epoch is as many steps as it takes to see every image once, rounded up: batches are never cut short, so the last
    batch of an epoch may hold the first images of the next.
    """

    def __init__(self, images: int, images_per_step: int):
        self.steps = max(1, math.ceil(images / images_per_step))
        self.sum = 0.0
        self.count = 0

    def number(self, step: int) -> int:
        """The epoch, counted from 1, that ended with ``step`` or that it is in."""
        return max(1, math.ceil(step / self.steps))

    def add(self, loss: float) -> None:
        """Counts the loss of one step."""
        self.sum += loss
        self.count += 1

    def finish(self) -> float:
        """The mean loss since the last call; nan where every step was skipped."""
        mean = self.sum / self.count if self.count else math.nan
        self.sum = 0.0
        self.count = 0
        return mean

    def state(self) -> list:
        """What a checkpoint keeps: a run stopped within an epoch goes on with its sum."""
        return [self.sum, self.count]

    def load_state(self, state: list) -> None:
        """Restores what `state` gave."""
        self.sum = float(state[0])
        self.count = int(state[1])


class Progress:
    """One progress bar of steps or, with ``epochs``, a bar of epochs and within it one of the steps of each.

    Args:
        step, total: done so far, in all.
        epochs: how the steps are counted in epochs; None: they are not.
        show: False shows nothing.
    """

    def __init__(self, step: int, total: int, epochs: Epochs | None, show: bool):
        self.step = step
        self.total = total
        self.epochs = epochs
        self.show = show
        self.inner = None
        self.opened = False
        if epochs is None:
            self.bar = tqdm(
                total=total, initial=step, desc="training", unit="step", disable=not show, dynamic_ncols=True
            )
            return
        self.bar = tqdm(
            total=-(-total // epochs.steps), initial=step // epochs.steps, desc="training", unit="epoch",
            disable=not show, dynamic_ncols=True,
        )  # fmt: skip

    def _open_inner(self) -> None:
        epoch = self.epochs.number(self.step + 1)
        first = (epoch - 1) * self.epochs.steps
        self.opened = True
        self.inner = tqdm(
            total=min(self.epochs.steps, self.total - first), initial=self.step - first, unit="step", leave=False,
            desc=f"epoch {epoch}/{self.bar.total}", disable=not self.show, dynamic_ncols=True,
        )  # fmt: skip

    def tell(self, **values: str) -> None:
        """Shows ``values`` behind the bar of steps, the next time that it is drawn."""
        if self.epochs is not None and self.inner is None:
            self._open_inner()
        (self.inner or self.bar).set_postfix(**values, refresh=False)

    def advance(self) -> None:
        """One more step is done."""
        if self.epochs is None:
            self.step += 1
            self.bar.update(1)
            return
        if self.inner is None:
            self._open_inner()
        self.step += 1
        self.inner.update(1)
        if self.opened:  # a moment ago, and tqdm would not draw it again so soon
            self.inner.refresh()
            self.opened = False
        if self.step % self.epochs.steps == 0 or self.step == self.total:
            self.inner.close()
            self.inner = None
            self.bar.update(1)

    def say(self, text: str) -> None:
        """Prints a line above the bars."""
        if self.show:
            tqdm.write(text)

    def remark(self, text: str) -> None:
        """`say`, or a line in the log where there are no bars."""
        if self.show:
            tqdm.write(text, file=sys.stderr)
        else:
            log.info(text)

    def close(self) -> None:
        """Takes the bars down."""
        if self.inner is not None:
            self.inner.close()
        self.bar.close()
