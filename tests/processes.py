"""Scripts as a user starts them, in processes forked from one that has the frameworks loaded; or as modules.

A fork saves the seconds in which Python imports them. What depends on how a process starts or ends (a signal, a
variable that is read on import, what is loaded for --help) needs `subprocess`.
"""

from __future__ import annotations

import functools
import importlib.util
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import ModuleType

from tests.conftest import ROOT

LOADED = (
    "mindspore",
    "PIL.Image",
    "yaml",
    "scipy.optimize",
    "sklearn.datasets",
    "ms_ddpm.training.trainer",
    "ms_ddpm.systems.recipes",
)


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    return context


def _run(command: list[str], folder: str, environment: Mapping[str, str], said: list[str]) -> None:
    """In the new process: ``command`` as if Python had been started with it."""
    for number, path in enumerate(said, start=1):  # 1 and 2: the standard output and the standard error
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


def begun(name: str, *args, said: tuple[str, str] = (os.devnull, os.devnull)) -> ForkServerProcess:
    """Starts scripts/NAME.py with ``args``; what it says goes to the files ``said``."""
    command = [str(ROOT / "scripts" / f"{name}.py"), *map(str, args)]
    process = _context().Process(target=_run, args=(command, os.getcwd(), dict(os.environ), list(said)))
    process.start()
    return process


def script(name: str, *args, timeout: float = 300) -> subprocess.CompletedProcess:
    """Runs scripts/NAME.py with ``args``; what `subprocess.run` gives, as text."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "out"), Path(folder, "err")
        process = begun(name, *args, said=tuple(map(str, said)))
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired([name, *args], timeout)
        out, err = (path.read_text() for path in said)
    return subprocess.CompletedProcess([name, *args], process.exitcode, out, err)


def imported(place: str) -> ModuleType:
    """The file ``place`` of the repository (scripts/train.py) as a module, a new one at every call."""
    spec = importlib.util.spec_from_file_location(f"imported_{Path(place).stem}", ROOT / place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
