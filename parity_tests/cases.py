"""Every case of the harness, tier by tier: those of all systems."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from portparity.case import TITLES, Case
from portparity.errors import UnknownCase
from portparity.selection import matches, select

from .systems import parts

__all__ = ["LONG", "LONG_SET", "SMALL", "SMALL_SET", "TIERS", "TITLES", "all_cases", "matches", "select"]
__path__: list[str] = []  # modules were below this one: `_moved` finds their old names, for one release


def joined(part: str, name: str) -> Callable[[int], Iterator[Case]]:
    """The cases that function ``name`` of every system's ``part`` makes."""
    makers = [getattr(module, name) for module in parts(part) if hasattr(module, name)]

    def tier(seed: int = 0) -> Iterator[Case]:
        for make in makers:
            yield from make(seed)

    return tier


def named(table: str) -> tuple[str, ...]:
    """The keys that ``table`` of every system names."""
    return tuple(key for module in parts("cases") for key in getattr(module, table, ()))


TIERS: dict[str, Callable[[int], Iterator[Case]]] = {
    **{number: joined("cases", f"tier{number}") for number in "01234567"}, "peers": joined("peers", "tier_peers"),
}  # fmt: skip
SMALL, LONG = (Path(__file__).resolve().with_name(name) for name in ("bundles", "bundles_long"))
SMALL_SET = named("SMALL_SET")  # what parity_tests/bundles holds: some of every tier, a few MiB together
LONG_SET = named("LONG_SET")  # bundles_long: PyTorch's side takes a minute, and the tests need not wait for it


def absent_peers(seed: int = 0) -> dict[str, list[Case]]:
    """The cases of libraries that are not installed, by why they do not run."""
    from .peers import installed

    found: dict[str, list[Case]] = {}
    for module in parts("peers"):
        for packages, make in module.LIBRARIES.items():
            if missing := [package for package in packages if not installed(package)]:
                reason = f"{' and '.join(missing)} not installed (pip install {' '.join(missing)})"
                found.setdefault(reason, []).extend(make(seed))
    return found


def all_cases(tiers: Sequence[str] = (), seed: int = 0) -> list[Case]:
    """Every case of ``tiers`` (default: all), in order; ``seed`` gives other inputs."""
    unknown = [tier for tier in tiers if tier not in TIERS]
    if unknown:
        raise UnknownCase(f"tier {unknown[0]!r} does not exist; there are: {', '.join(TIERS)}")
    return [case for tier, make in TIERS.items() if not tiers or tier in tiers for case in make(seed)]
