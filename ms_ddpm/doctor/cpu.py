"""Python, MindSpore and the processor."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ..devices import runtime
from .machine import MISSING, NOTE, OK, Finding, Machine, within

PYTHONS = ((3, 10), (3, 11), (3, 12))
REQUIREMENTS = (  # as in setup.py
    ("mindspore>=2.9,<2.12", "MindSpore computes"),
    ("numpy>=1.26,<2", "with numpy 2, MindSpore 2.10 raises in places"),
    ("tqdm", "progress bars"),
    ("Pillow>=9.5", "images"),
    ("matplotlib>=3.7", "figures and charts"),
    ("PyYAML", "configuration files"),
    ("safetensors>=0.4", "checkpoints"),
)
GIB = 2**30


def python(machine: Machine) -> Iterator[Finding]:
    """The interpreter and the system."""
    version = ".".join(map(str, machine.python))
    if machine.python[:2] in PYTHONS:
        yield Finding(OK, f"Python {version}, {sys.executable}")
    else:
        yield Finding(
            MISSING,
            f"Python {version}: MindSpore has wheels for 3.10, 3.11 and 3.12 that ms_ddpm was tested with",
            "python3.11 -m venv .venv && .venv/bin/pip install -c constraints.txt -e .",
        )
    if machine.system == "linux":
        yield Finding(OK, f"Linux on {machine.processor}, C library {_libc()}")
    else:
        yield Finding(NOTE, f"{machine.system} on {machine.processor}: ms_ddpm was tested on Linux only")


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "unknown"
    except (AttributeError, ValueError, OSError):
        return "unknown"


def packages(machine: Machine) -> Iterator[Finding]:
    """What setup.py requires."""
    for requirement, reason in REQUIREMENTS:
        name = re.split(r"[<>=]", requirement)[0]
        version = machine.version(name)
        if version is None:
            what = f"{name} is not installed ({reason})"
        elif not within(version, requirement):
            what = f"{name} {version}, expected {requirement[len(name) :]} ({reason})"
        else:
            yield Finding(OK, f"{name} {version}")
            continue
        yield Finding(MISSING, what, f"pip install '{requirement}'")
    if machine.version("mindspore") and machine.package("mindspore") is None:
        yield Finding(
            MISSING,
            "MindSpore's files are not where its package says",
            "pip install --force-reinstall --no-deps 'mindspore>=2.9,<2.12'",
        )


def memory(machine: Machine) -> Iterator[Finding]:
    """Memory that a process may use."""
    found = {m[1]: int(m[2]) * 1024 for m in re.finditer(r"^(\w+):\s+(\d+) kB", machine.read("/proc/meminfo"), re.M)}
    if not found:
        yield Finding(NOTE, "memory: /proc/meminfo cannot be read")
        return
    total, free = found.get("MemTotal", 0), found.get("MemAvailable", 0)
    limit = machine.read("/sys/fs/cgroup/memory.max").strip()
    limit = f", at most {int(limit) / GIB:.1f} GiB for this container" if limit.isdigit() else ""
    words = f"memory: {total / GIB:.1f} GiB, {free / GIB:.1f} GiB of it free{limit}"
    if free < 2 * GIB:
        yield Finding(NOTE, f"{words}; the digits recipe needs about 2 GiB")
    else:
        yield Finding(OK, words)


def processor(machine: Machine) -> Iterator[Finding]:
    """Cores, and what oneDNN is allowed."""
    yield Finding(OK, f"{len(os.sched_getaffinity(0))} cores that this process may use")
    if "avx512f" not in machine.read("/proc/cpuinfo"):
        yield Finding(OK, "no AVX-512, so MindSpore's oneDNN is left as it is")
    elif machine.env.get(runtime.ISA_VARIABLE, "").lower() == "keep":
        yield Finding(
            NOTE,
            f"{runtime.ISA_VARIABLE}=keep: MindSpore's stock convolutions run 60 times slower on AVX-512",
            f"unset {runtime.ISA_VARIABLE}",
        )
    elif "ONEDNN_MAX_CPU_ISA" in machine.env:
        value = machine.env["ONEDNN_MAX_CPU_ISA"]
        yield Finding(NOTE, f"ONEDNN_MAX_CPU_ISA={value} slows PyTorch too", "unset ONEDNN_MAX_CPU_ISA")
    else:
        yield Finding(OK, "AVX-512: runtime.setup holds MindSpore's oneDNN at AVX2, with it convolutions crawl")


def kernels(machine: Machine) -> Iterator[Finding]:
    """The C++ kernels, as a file; whether they load is seen when the CPU is started."""
    built = sorted((Path(__file__).resolve().parents[1] / "ops").glob("_kernels*.so"))
    if built:
        yield Finding(OK, f"C++ kernels: {built[0].name}")
    else:
        yield Finding(
            NOTE,
            "the C++ kernels are not built: training on a CPU takes two to three times as long",
            "pip install --no-deps -e .   (in a checkout, with a C++ compiler)",
        )


COMMON = (python, packages)
PROBES = (memory, processor, kernels)
