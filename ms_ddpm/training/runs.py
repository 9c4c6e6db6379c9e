"""What a run writes beside its checkpoints: the log, and a lock so that two runs never share a directory."""

from __future__ import annotations

import json
import logging
import math
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from ..errors import UserError, reason_of
from ..storage.files import write_atomically
from ..storage.untrusted import check_regular

log = logging.getLogger("ms_ddpm")


def stop_signals() -> list[int]:
    """The signals that end a run with a checkpoint: SIGTERM, Ctrl-C, and SIGHUP (a closed terminal) without nohup."""
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    ignored = hangup is None or signal.getsignal(hangup) == signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT] + ([] if ignored else [hangup])


class StopRequests:
    """Inside the ``with`` block, the `stop_signals` that came, in ``received``; a second Ctrl-C interrupts.

    Schedulers send SIGTERM twice, and it must not cost the checkpoint; a second Ctrl-C is a person's.
    """

    def __init__(self):
        self.received: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.received)

    def _on_signal(self, number, frame) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received.append(number)

    def listen(self) -> dict:
        """Takes the signals over (anew: MindSpore 2.10 takes Ctrl-C's when a graph runs); gives who had them.

        Outside the main thread, where Python lets nobody do that, it leaves them alone: they are the program's.
        """
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._on_signal) for number in stop_signals()}

    def __enter__(self) -> StopRequests:
        self._before = self.listen()
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class DirectoryLock:
    """Holds an output directory against other runs until it is released, forgotten, or the process ends.

    In one process a later lock takes the directory over, unless the earlier one's holder is at work: a notebook cell
    that is run again makes a second Trainer while the first one is still there.
    """

    _held: ClassVar[weakref.WeakValueDictionary[Path, DirectoryLock]] = weakref.WeakValueDictionary()

    def __init__(self, folder: Path):
        self.folder = folder
        self.working = False
        self._lost = ""
        self._earlier: DirectoryLock | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._key = folder.resolve()
            earlier = self._held.get(self._key)
            if earlier is not None and not earlier._lost:
                self._take_over(earlier)
                return
            self._file = open(folder / ".lock", "w")  # noqa: SIM115 (held until released)
        except (OSError, RecursionError) as error:  # pathlib makes a chain of a thousand parents recursively
            raise _cannot_write(folder, error) from None
        except UserError:
            raise
        except ValueError as error:
            raise _cannot_write(folder, error) from None
        try:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # not a Unix system
            pass
        except OSError:
            self._file.close()
            raise UserError(
                f"output directory {folder} is in use by another run; choose another --output_dir"
            ) from None
        self._held[self._key] = self

    def _take_over(self, earlier: DirectoryLock) -> None:
        if earlier.working:
            raise UserError(
                f"output directory {self.folder} is in use by another Trainer of this process, which is training; "
                "wait for its end, or choose another results_folder"
            )
        self._earlier = earlier
        self._file = earlier._file
        earlier._file = None
        earlier._lost = "a later Trainer took over its folder: train that one"
        self._held[self._key] = self

    @contextmanager
    def on_trial(self) -> Iterator[None]:
        """Around what decides whether there will be a holder: if it fails, an earlier one has the directory again."""
        try:
            yield
        except BaseException:
            if self._earlier is None:
                self.release()
            else:
                self._earlier._file = self._file
                self._file = None
                self._lost = "it was never made"
                self._earlier._lost = ""
                self._held[self._key] = self._earlier
            raise
        finally:
            self._earlier = None

    def release(self, why: str = "it was closed: make a new one, which goes on from the last checkpoint") -> None:
        """Lets the directory go; `check` says ``why``. Raises UserError while the holder is at work."""
        if self.working:
            raise UserError(f"the Trainer of {self.folder} is training; close it after its end")
        self._lost = self._lost or why
        if self._file is not None:  # it went to a later holder
            self._file.close()

    def check(self) -> None:
        """Raises UserError where the directory is no longer held."""
        if self._lost:
            raise UserError(f"this Trainer no longer holds {self.folder}: {self._lost}")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Around what must not be disturbed. Raises UserError where the directory is not held, or is worked in."""
        self.check()
        if self.working:
            raise UserError(f"the Trainer of {self.folder} is training already, in another thread")
        self.working = True
        try:
            yield
        finally:
            self.working = False


def _cannot_write(folder: Path, error: BaseException) -> UserError:
    return UserError(f"cannot write to output directory {folder}: {reason_of(error)}; choose another --output_dir")


def lock_directory(folder: Path) -> DirectoryLock:
    """Creates ``folder`` and holds it for this process. Raises UserError where it cannot be written or is in use."""
    return DirectoryLock(folder)


def summary_writer() -> type:
    """tensorboardX's SummaryWriter. Raises UserError where the package is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UserError("--tensorboard needs tensorboardX; run: pip install 'ms_ddpm[tensorboard]'") from None
    return SummaryWriter


def _json_number(value):
    """JSON has no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class RunLog:
    """``log.jsonl``, one object a line, and TensorBoard files where asked for.

    A resumed run drops the lines of steps it will do again, so that every step stands there once. A disk that is full
    costs no run: the lines wait in memory and are written when there is room; the next checkpoint decides.
    """

    def __init__(self, folder: Path, *, resumed_from: int, tensorboard: bool = False):
        self.path = folder / "log.jsonl"
        self.waiting = b""
        self.failed = False
        try:
            self._keep_up_to(resumed_from)
            self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from None
        self.board = Board(folder / "tensorboard", resumed_from) if tensorboard else None

    def _keep_up_to(self, step: int) -> None:
        if not self.path.exists():
            return
        check_regular(self.path)
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # cut short by a kill
        write_atomically(self.path, "".join(f"{line}\n" for line in kept).encode())

    def write(self, record: dict) -> None:
        """Adds one line; numbers go to TensorBoard too."""
        self.waiting += (json.dumps({key: _json_number(value) for key, value in record.items()}) + "\n").encode()
        try:
            while self.waiting:
                self.waiting = self.waiting[self.file.write(self.waiting) :]  # a disk that fills up takes a part
            self.failed = False
        except OSError as error:
            if not self.failed:
                log.warning("cannot write %s: %s; its lines wait in memory", self.path, error.strerror or error)
            self.failed = True
        if self.board is not None:
            self.board.write(record)

    def close(self) -> None:
        """Closes the files."""
        if self.waiting:
            log.warning("%s lacks its last %d lines", self.path, self.waiting.count(b"\n"))
        try:
            self.file.close()
        except OSError as error:
            log.warning("cannot close %s: %s", self.path, error.strerror or error)
        if self.board is not None:
            self.board.close()


class Board:
    """TensorBoard files, written by tensorboardX, which a full disk turns off.

    Why: its thread dies of the first OSError, and then its queue blocks the run at the tenth event and the process at
    its end (tensorboardX 2.6.5). Hence a queue that never fills, and a look at the thread before every record. Still
    needed? `tests/whole/test_endurance.py` takes the thread's life.
    """

    def __init__(self, folder: Path, resumed_from: int):
        writer = summary_writer()
        # The step in the name: two runs within a second, or after a clock that went back, would share a file.
        suffix = f".from-{resumed_from:08d}"
        try:
            self.writer = writer(str(folder), purge_step=resumed_from + 1, max_queue=2**31 - 1, filename_suffix=suffix)
        except OSError as error:
            raise UserError(f"cannot write {folder}: {error.strerror or error}") from None

    def _alive(self) -> bool:
        if self.writer is None:
            return False
        events = self.writer.file_writer.event_writer
        if events._worker is not None and events._worker.is_alive():
            return True
        log.warning("TensorBoard files can no longer be written; training goes on without them")
        events._event_queue.cancel_join_thread()
        self.writer = None
        return False

    def write(self, record: dict) -> None:
        """Adds the record's numbers."""
        if self._alive():
            for key, value in record.items():
                if isinstance(value, (int, float)) and key != "step":
                    self.writer.add_scalar(key, value, record["step"])

    def close(self) -> None:
        """Closes the file."""
        if self._alive():
            try:
                self.writer.close()
            except OSError as error:
                log.warning("cannot close the TensorBoard file: %s", error.strerror or error)
