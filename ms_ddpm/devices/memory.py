"""How much memory there is, so that what cannot fit is refused in one line instead of being killed on the way."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from ..errors import UserError

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def _free() -> float:
    """What the system could still give, swap included."""
    try:
        found = dict(re.findall(r"^(\w+): +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE))
        return 1024.0 * (int(found["MemAvailable"]) + int(found.get("SwapFree", 0)))
    except (OSError, KeyError):
        pass
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def _limits() -> list[float]:
    """What this process is allowed: its container's limit and its own."""
    limits = []
    for path in _CGROUP_LIMITS:
        try:
            limits.append(float(Path(path).read_text()))
        except (OSError, ValueError):  # "max": none
            continue
    try:
        import resource

        own = resource.getrlimit(resource.RLIMIT_AS)[0]
        limits += [] if own == resource.RLIM_INFINITY else [float(own)]
    except ImportError:  # not a Unix system
        pass
    return limits


def available() -> float:
    """Bytes that this process could have at most; infinite where that cannot be found out."""
    return min([_free(), *_limits()])


def readable(size: float) -> str:
    """``size`` bytes in words: 3 MiB, 12 GiB."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"


def require(size: int, what: str, advice: str) -> None:
    """Raises UserError where ``what`` needs ``size`` bytes, a lower bound, and there are not so many."""
    have = available()
    if size > have:
        needed = readable(size) if size < 1 << 80 else f"2^{int(size).bit_length() - 1} bytes"
        raise UserError(f"{what} needs at least {needed} of memory, {readable(have)} are available; {advice}")
