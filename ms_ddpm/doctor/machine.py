"""What the probes look at, all of it replaceable, so that a directory can play a machine."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..devices import nvidia

OK, MISSING, NOTE = "ok", "missing", "note"


@dataclass(frozen=True)
class Finding:
    """One line of the report: ``state`` is ok, missing (the device cannot run without it) or note.

    ``repair`` is the command that mends it; empty where there is nothing to mend, or a later line mends both.
    """

    state: str
    what: str
    repair: str = ""


def run(command: list[str], timeout: float = 60) -> str:
    """Standard output of a command, errors discarded. Raises OSError or subprocess.SubprocessError."""
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True).stdout


def loads(name: str) -> bool:
    """Whether the system's loader finds the shared library ``name``."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def driver() -> nvidia.Driver:
    """The NVIDIA driver, asked by a process of its own: one that is broken can crash or hang whoever asks."""
    if not nvidia.installed():
        return nvidia.driver()
    package = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.insert(0, {package!r}); from ms_ddpm import nvidia; nvidia.main()"
    try:
        return nvidia.from_json(run([sys.executable, "-c", code]))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return nvidia.Driver(problem=f"the NVIDIA driver does not answer ({error}); look at `nvidia-smi` and `dmesg`")


@dataclass(frozen=True)
class Machine:
    """A machine as the probes see it; without arguments, this one.

    Args:
        root: where /proc, /dev, /usr are.
        env: environment variables.
        paths: where Python looks for packages.
        python: the interpreter's version.
        system, processor: as ``sys.platform`` and ``platform.machine()`` say it.
        run: runs a command and returns what it prints.
        loads: whether the loader finds a shared library.
        driver: asks the NVIDIA driver.
    """

    root: Path = Path("/")
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    paths: tuple[str, ...] = field(default_factory=lambda: tuple(path or os.getcwd() for path in sys.path))
    python: tuple[int, ...] = tuple(sys.version_info[:3])
    system: str = sys.platform
    processor: str = platform.machine()
    run: Callable[[list[str]], str] = run
    loads: Callable[[str], bool] = loads
    driver: Callable[[], nvidia.Driver] = driver

    def file(self, path: str | Path) -> Path:
        """Where the absolute ``path`` of the machine is."""
        return self.root / str(path).lstrip("/")

    def read(self, path: str | Path) -> str:
        """A file's text, empty where it cannot be read."""
        try:
            return self.file(path).read_text(errors="replace")
        except OSError:
            return ""

    def distribution(self, package: str) -> importlib.metadata.Distribution | None:
        """An installed package, None where it is not installed."""
        return next(iter(importlib.metadata.distributions(name=package, path=list(self.paths))), None)

    def version(self, package: str) -> str | None:
        """An installed package's version, None where it is not installed."""
        found = self.distribution(package)
        return found.version if found else None

    def package(self, name: str) -> Path | None:
        """The directory from which ``import name`` would come."""
        folders = (Path(path) / name for path in self.paths)
        return next((folder for folder in folders if (folder / "__init__.py").is_file()), None)


def numbers(version: str) -> tuple[int, ...]:
    """ "2.10.0rc1" -> (2, 10, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("rc")[0].split("+")[0])[:3])


def within(version: str, requirement: str) -> bool:
    """Whether a version fulfils a requirement of the form "name>=1.2,<3"."""
    actual = numbers(version)
    for sign, bound in re.findall(r"(>=|<)([\d.]+)", requirement):
        limit = numbers(bound)
        if (actual < limit) if sign == ">=" else (actual >= limit):
            return False
    return True


Probe = Callable[[Machine], Iterable[Finding]]


def examine(machine: Machine, probes: Iterable[Probe]) -> Iterator[Finding]:
    """What the probes find. One that fails becomes a line that says so."""
    for probe in probes:
        try:
            yield from probe(machine)
        except Exception as error:  # a doctor must not fall ill of the patient
            yield Finding(NOTE, f"{probe.__name__.replace('_', ' ')}: could not be looked at ({error!r})")
