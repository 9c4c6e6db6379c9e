"""Two judgements of one port, from two machines, devices or versions: what one has and the other has not.

Both stand beside the same float64 truth, that of the original or of its recording. Numbers of two devices that are each
within the bound need not be equal, and are not asked to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import report
from ..errors import NothingRan

ABSENT = "-"
SHOWN = 8  # names of a part's arrays


@dataclass(frozen=True)
class Part:
    """One part of `check`, forward or gradients or layers, as both found it.

    Args:
        name: of the part.
        verdicts: of the first and of the second; "-" where it was not looked at.
        ratios: the largest error over its bound, of each.
        only: names of arrays that fail in one of them alone, of each.
    """

    name: str
    verdicts: tuple[str, str]
    ratios: tuple[float, float]
    only: tuple[list[str], list[str]]

    @property
    def is_one(self) -> bool:
        """Whether both say the same of it."""
        return len(set(self.verdicts)) == 1 and not any(self.only)


@dataclass(frozen=True)
class Compared:
    """What `compare` found. Printed, it is a table, with what fails in one alone below its part."""

    folders: tuple[str, str]
    titles: tuple[str, str]
    environment: Mapping[str, tuple[Any, Any]]
    parts: tuple[Part, ...]

    @property
    def is_one(self) -> bool:
        """Whether both judgements say the same of every part."""
        return all(part.is_one for part in self.parts)

    def __str__(self) -> str:
        apart = [part.name for part in self.parts if not part.is_one]
        lines = [f"A: {self.folders[0]}, {self.titles[0]}", f"B: {self.folders[1]}, {self.titles[1]}"]
        lines += [f"  {name}: {a} and {b}" for name, (a, b) in self.environment.items()]
        width = max(len(part.name) for part in self.parts)
        for part in self.parts:
            both = [
                f"{letter} {verdict:7} {'' if verdict == ABSENT else f'{ratio:.2g}':>8}"
                for letter, verdict, ratio in zip("AB", part.verdicts, part.ratios, strict=True)
            ]
            lines.append(f"  {part.name:{width}}  {'   '.join(both)}{'' if part.is_one else '   <- apart'}")
            for letter, names in zip("AB", part.only, strict=True):
                if names:
                    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                    lines.append(f"    in {letter} alone: {', '.join(names[:SHOWN])}{more}")
        lines.append(f"they part in {', '.join(apart)}" if apart else "both say the same of every part")
        return "\n".join(lines)


def _failing(case: Mapping) -> set[str]:
    arrays = [tensor["name"] for tensor in case["tensors"] if tensor["verdict"] != "agree"]
    return {*arrays, *(layer["path"] for layer in case["layers"] if layer.get("verdict", "agree") != "agree")}


def compare(a: str | Path, b: str | Path) -> Compared:
    """What two folders that ``check --output_dir`` wrote, on two devices say, have in common and what not.

    Raises:
        HarnessError: a folder without results; results of which no part has the same name.
    """
    both = [report.load(Path(folder) / "results.json") for folder in (a, b)]
    cases = [{case["id"]: case for case in found["cases"]} for found in both]
    if not cases[0].keys() & cases[1].keys():
        raise NothingRan(f"{a} and {b} have no part in common: nothing was compared")
    parts = []
    for name in dict.fromkeys([*cases[0], *cases[1]]):
        found = [of.get(name) for of in cases]
        fails = [_failing(case) if case else set() for case in found]
        seen = all(found)
        parts.append(
            Part(
                name,
                tuple(case["verdict"] if case else ABSENT for case in found),
                tuple(float(case["ratio"]) if case else 0.0 for case in found),
                (sorted(fails[0] - fails[1]), sorted(fails[1] - fails[0])) if seen else ([], []),
            )
        )
    environments = [found["environment"] for found in both]
    keys = dict.fromkeys([*environments[0], *environments[1]])
    pairs = {key: tuple(of.get(key, ABSENT) for of in environments) for key in keys}
    differing = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    return Compared((str(a), str(b)), tuple(found.get("title", "") for found in both), differing, tuple(parts))
