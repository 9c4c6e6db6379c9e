"""Starts and asks the processes that compute."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ms_ddpm.errors import UserError
from portparity.errors import HarnessError

ROOT = Path(__file__).resolve().parent.parent.parent


class Worker:
    """One side in a process of its own, asked in turn; see `worker`.

    Args:
        name: "mindspore", "torch", "yardstick" or "layers".
        config: the recipe, as a dict.
        folder: where its log goes.
        options: more arguments of the side.
    """

    def __init__(self, name: str, config: Mapping, folder: Path, **options: Any):
        self.name = name
        self.log = folder / f"{name}.log"
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        threads = {"OMP_NUM_THREADS": str(config["threads"])} if config["threads"] else {}
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "PARITY_DEVICE_TARGET": config["device_target"],
        }
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ms_ddpm_bench.compare.worker", name], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, cwd=folder, env=environment | threads,
                start_new_session=True,  # Ctrl-C is for the leader, which ends its workers
            )  # fmt: skip
        try:
            self._tell({"config": dict(config), "options": options})
            self._hear()
        except BaseException:  # Ctrl-C too: nobody else knows of the process yet
            self.end()
            raise

    def ask(self, do: str, **arguments: Any) -> dict:
        """What the side's method ``do`` answers."""
        self._tell({"do": do, "with": arguments})
        return self._hear()

    def end(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # what was not read by a process that is gone
                stream.close()

    def _tell(self, request: dict) -> None:
        try:
            self.process.stdin.write((json.dumps(request) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def _hear(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise self._death()
        found = json.loads(line)
        if "user_error" in found:
            raise UserError(found["user_error"])
        return found["answer"]

    def _death(self) -> HarnessError:
        code = self.process.wait()
        lines = self.log.read_text(errors="replace").strip().splitlines()
        said = next((line.strip() for line in reversed(lines) if line.strip("- ")), "it said nothing")
        return HarnessError(f"the {self.name} process ended with exit code {code}: {said}")
