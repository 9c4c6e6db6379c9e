"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")


def _field(text: str, name: str) -> str:
    for line in text.splitlines():
        if line.split(":")[0].strip() == name:
            return line.partition(":")[2].strip()
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, str | int | float]:
    """Processor, its instruction sets, cores, memory, system, versions, and how busy it is."""
    processor = _read("/proc/cpuinfo")
    flags = set((_field(processor, "flags") or _field(processor, "Features")).split())
    memory = _field(_read("/proc/meminfo"), "MemTotal").split()
    found: dict[str, str | int | float] = {
        "processor": _field(processor, "model name") or platform.processor() or platform.machine(),
        "instruction sets": " ".join(name for name in _INSTRUCTIONS if name in flags) or platform.machine(),
        "cores": cores(),
        "memory (GiB)": round(int(memory[0]) / 2**20) if memory else 0,
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0,
        "python": platform.python_version(),
    }
    for package in ("mindspore", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
