"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path

from portparity.bundles import versions

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


def describe() -> dict[str, str | int]:
    """Processor, its instruction sets, cores, memory, system, versions."""
    processor = _read("/proc/cpuinfo")
    flags = set((_field(processor, "flags") or _field(processor, "Features")).split())
    memory = _field(_read("/proc/meminfo"), "MemTotal").split()
    found: dict[str, str | int] = {
        "processor": _field(processor, "model name") or platform.processor() or platform.machine(),
        "instruction sets": " ".join(name for name in _INSTRUCTIONS if name in flags) or platform.machine(),
        "cores": cores(),
        "memory (GiB)": round(int(memory[0]) / 2**20) if memory else 0,
        "system": f"{platform.system()} {platform.release()}",
    }
    known = versions()
    return found | {name: known[name] for name in ("python", "mindspore", "torch", "numpy")}


class Others:
    """How much of the processors other processes take from now on: what is busy, less what is ours."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.busy = self._busy()
        self.own = self._own()

    @staticmethod
    def _busy() -> float:
        """Seconds for which the machine's processors have worked, since it started; 0 where that is not told."""
        numbers = [int(text) for text in _read("/proc/stat").partition("\n")[0].split()[1:]]
        if len(numbers) < 8:
            return 0.0
        user, nice, system, _idle, _waiting, *interrupts_and_stolen = numbers
        return (user + nice + system + sum(interrupts_and_stolen[:3])) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _own() -> float:
        """Seconds of this process and of the children that have ended."""
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    def share(self) -> float:
        """Their part of all processors' time, 0 to 1; to be asked when our children have ended."""
        available = (time.monotonic() - self.began) * (os.cpu_count() or 1)
        taken = self._busy() - self.busy - (self._own() - self.own)
        return round(min(max(taken / max(available, 1e-9), 0.0), 1.0), 3)
