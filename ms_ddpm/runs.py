"""What a run writes beside its checkpoints: the log, and a lock so that two runs never share a directory."""

from __future__ import annotations

import json
import math
from pathlib import Path

from .errors import UserError, reason_of
from .files import write_atomically
from .untrusted import check_regular


def lock_directory(folder: Path):
    """Creates ``folder`` and holds it for this process. Raises UserError where it cannot be written or is in use."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115 (held until the process ends)
    except (OSError, ValueError, RecursionError) as error:  # pathlib makes a chain of a thousand parents recursively
        raise UserError(
            f"cannot write to output directory {folder}: {reason_of(error)}; choose another --output_dir"
        ) from None
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # not a Unix system
        pass
    except OSError:
        lock.close()
        raise UserError(f"output directory {folder} is in use by another run; choose another --output_dir") from None
    return lock


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

    A resumed run drops the lines of steps it will do again, so that every step stands there once.
    """

    def __init__(self, folder: Path, *, resumed_from: int, tensorboard: bool = False):
        self.path = folder / "log.jsonl"
        try:
            self._keep_up_to(resumed_from)
            self.file = open(self.path, "a", buffering=1)  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from None
        self.board = None
        if tensorboard:
            self.board = summary_writer()(str(folder / "tensorboard"), purge_step=resumed_from + 1)

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
        self.file.write(json.dumps({key: _json_number(value) for key, value in record.items()}) + "\n")
        if self.board is not None:
            for key, value in record.items():
                if isinstance(value, (int, float)) and key != "step":
                    self.board.add_scalar(key, value, record["step"])

    def close(self) -> None:
        """Closes the files."""
        self.file.close()
        if self.board is not None:
            self.board.close()
