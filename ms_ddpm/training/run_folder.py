"""The output directory of a run: what lies where in it, and who holds it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ..storage import checkpoint
from ..storage.files import check_writable
from .runs import DirectoryLock, lock_directory


class RunFolder:
    """The output directory of a run as one of its workers has it: the ``writer`` holds it, the others only read.

    Attributes:
        path, checkpoints, samples: the directory, and two in it.
    """

    def __init__(self, path: str | Path, writer: bool):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.writer = writer
        self._lock: DirectoryLock | None = None

    def take(self) -> AbstractContextManager:
        """Makes the directory and holds it, unless the ``with`` block fails; see `DirectoryLock.on_trial`.

        Raises UserError where it cannot be written, or another run has it.
        """
        if not self.writer:
            return nullcontext()
        self._lock = lock_directory(self.path)
        return self._lock.on_trial()

    def tidy(self) -> None:
        """Ends what a kill left half done. Raises UserError where no file can be made."""
        if self.writer:
            checkpoint.clean(self.path, self.checkpoints, self.samples)
            check_writable(self.checkpoints, self.samples)

    def at_work(self) -> AbstractContextManager:
        """Around training; see `DirectoryLock.at_work`. Raises UserError where the directory is no longer held."""
        return nullcontext() if self._lock is None else self._lock.at_work()

    def check(self) -> None:
        """Raises UserError where the directory is no longer held."""
        if self._lock is not None:
            self._lock.check()

    def release(self) -> None:
        """Lets the directory go. Raises UserError while training."""
        if self._lock is not None:
            self._lock.release()
