"""The parent's end of a contestant's process."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .contestants import Entry, environment

ROOT = Path(__file__).resolve().parent.parent.parent
LISTEN = 1.0  # seconds: a Ctrl-C that comes just before a wait begins is seen when it ends


class ContestantFailed(Exception):
    """A contestant's process raised, died or took too long; the message says which, in one line."""


class Child:
    """A contestant's process: started when made, asked one thing at a time, gone after `close`.

    Args:
        entry: who.
        threads: cores and threads it gets.
        scratch: an empty directory of its own.
        command: what to run instead of the worker (tests).
    """

    def __init__(self, entry: Entry, threads: int, scratch: Path, command: list[str] | None = None):
        self.entry = entry
        self.began = time.perf_counter()
        scratch.mkdir(parents=True, exist_ok=True)
        variables = environment(entry, threads, str(scratch))
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), variables.get("PYTHONPATH"))))
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115, closed by `close`
        self.process = subprocess.Popen(
            command or [sys.executable, "-m", "ms_ddpm_bench.speed.worker", entry.name, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=variables, cwd=scratch,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )  # fmt: skip
        self.buffer = b""

    def ask(self, do: str, patience: float | None = None, **arguments: Any) -> dict:
        """The answer to one command. Raises ContestantFailed, also after ``patience`` seconds without one."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise ContestantFailed(self._last_words()) from None
        answer = json.loads(self._line(do, patience))
        if "error" in answer:
            raise ContestantFailed(answer["error"])
        return answer

    def _line(self, do: str, patience: float | None) -> bytes:
        deadline = None if patience is None else time.monotonic() + patience
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                left = LISTEN if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise ContestantFailed(f"no answer to {do!r} within {patience:g} s")
                if not selector.select(min(left, LISTEN)):
                    continue
                block = os.read(self.process.stdout.fileno(), 65536)
                if not block:
                    raise ContestantFailed(self._last_words())
                self.buffer += block
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line

    def _last_words(self) -> str:
        code = self.process.wait()
        lines = [line.strip() for line in self.stderr().splitlines() if line.strip()]
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"its process ended ({how}){': ' + lines[-1][:200] if lines else ''}"

    def stderr(self) -> str:
        """What the process has written there."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def close(self) -> None:
        """Ends the process and all it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            with contextlib.suppress(OSError):
                pipe.close()
