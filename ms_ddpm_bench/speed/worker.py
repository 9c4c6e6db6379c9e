"""A contestant's process: commands come in as lines of JSON on stdin, one answer a line goes out on stdout.

python -m ms_ddpm_bench.speed.worker NAME THREADS

    {"do": "start"}                        imports the framework            -> threads
    {"do": "weights", workload, path}      writes initial weights (ours)
    {"do": "build", workload, weights}     makes the network                -> seconds
    {"do": "first", what, path}            the first call, timed, outputs saved as .npz -> seconds
    {"do": "time", what, n, warm_up}       n calls, each timed, after some that are not -> seconds
    {"do": "kernels"}                      (ours) why it has no C++ kernels  -> why_not, "" where it has
    {"do": "load"}                         puts the initial weights back
    {"do": "memory"}                       resident and peak, bytes; the peak since "start"
    {"do": "quit"}

An error is answered with {"error": one line}. Between commands the process waits in a read and uses no processor.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def resident() -> int:
    """Resident memory of this process now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def peak() -> int:
    """The largest resident memory since the last `reset_peak`, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def reset_peak() -> None:
    """Forgets what import needed for a moment, where the system lets us; else the peak includes it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


class Worker:
    """Answers commands for one contestant."""

    def __init__(self, module: Any, arguments: Mapping[str, Any], threads: int):
        self.module = module
        self.arguments = arguments
        self.threads = threads
        self.contestant: Any = None

    def start(self) -> dict:
        """Imports the framework; memory counts from here."""
        self.module.start(self.threads)
        reset_peak()
        return {"resident": resident(), "threads": self.threads}

    def weights(self, workload: Mapping, path: str) -> dict:
        """Writes initial weights."""
        from .sizes import Workload

        self.module.write_weights(Workload.from_json(workload), Path(path))
        return {}

    def build(self, workload: Mapping, weights: str) -> dict:
        """Makes the network with its weights."""
        import numpy as np

        from .sizes import Workload

        with np.load(weights) as file:
            arrays = {name: file[name] for name in file.files}
        names = json.loads(Path(weights).with_suffix(".json").read_text())
        asked = Workload.from_json(workload)
        kind = self.module.Guided if asked.size.guided else self.module.Contestant
        began = time.perf_counter()
        self.contestant = kind(asked, arrays, names, **self.arguments)
        self.contestant.load()
        return {"seconds": time.perf_counter() - began}

    def kernels(self) -> dict:
        """Why ms_ddpm does without its C++ kernels; after `build`, since asking loads them."""
        from ms_ddpm.ops import kernels

        return {"why_not": kernels.why_not()}

    def load(self) -> dict:
        """Puts the initial weights back."""
        self.contestant.load()
        return {}

    def first(self, what: str, path: str) -> dict:
        """Calls once, with all that is compiled for it, and saves the outputs."""
        import numpy as np

        began = time.perf_counter()
        outputs = getattr(self.contestant, what)()
        seconds = time.perf_counter() - began
        np.savez(path, **outputs)
        return {"seconds": seconds}

    def time(self, what: str, n: int, warm_up: int) -> dict:
        """Seconds of each of n calls."""
        call, seconds = getattr(self.contestant, what), []
        for _ in range(warm_up):
            call()
        for _ in range(n):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        return {"seconds": seconds}

    def memory(self) -> dict:
        """Resident and peak."""
        return {"resident": resident(), "peak": peak()}

    def answer(self, command: dict) -> dict:
        """What a command returns, or its error in one line."""
        do = command.pop("do")
        try:
            return getattr(self, do)(**command)
        except Exception as error:
            traceback.print_exc()
            lines = [line.strip() for line in str(error).splitlines() if line.strip(" -\t")]
            return {"error": f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]}


def private_pipes() -> tuple:
    """stdin and stdout for commands alone: what a framework prints goes to stderr, what it starts reads nothing."""
    commands, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return commands, answers


def main(argv: list[str]) -> None:
    """Serves until "quit" or until stdin ends."""
    from .contestants import CONTESTANTS

    name, threads = argv
    entry = CONTESTANTS[name]
    commands, answers = private_pipes()
    if hasattr(os, "sched_setaffinity"):  # the same cores for all, however a framework counts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    module = importlib.import_module(f".contestants.{entry.module}", __package__)
    worker = Worker(module, entry.arguments, int(threads))
    for line in commands:
        command = json.loads(line)
        if command["do"] == "quit":
            break
        print(json.dumps(worker.answer(command)), file=answers, flush=True)
    os._exit(0)  # nothing here is worth the frameworks' tidying up


if __name__ == "__main__":
    main(sys.argv[1:])
