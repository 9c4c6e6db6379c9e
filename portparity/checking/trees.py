"""The layers of both models side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Row(NamedTuple):
    """A layer of the original and its counterpart in the port, by path; None where there is none."""

    original: str | None
    port: str | None


@dataclass(frozen=True)
class Trees:
    """The class names of both models' layers by path, in order, the whole under ""; ``pairs``: port -> original."""

    original: Mapping[str, str] = field(default_factory=dict)
    port: Mapping[str, str] = field(default_factory=dict)
    pairs: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> list[Row]:
        """Every layer of both once, in the original's order; what only the port has, after what precedes it there."""
        pairs = dict(self.pairs) | ({"": ""} if "" in self.port and "" in self.original else {})
        ours = {theirs: mine for mine, theirs in pairs.items()}
        following: dict[str | None, list[str]] = {}
        before = None
        for mine in self.port:
            if mine not in pairs:
                following.setdefault(before, []).append(mine)
            else:
                before = mine
        rows = [Row(None, mine) for mine in following.get(None, [])]
        for theirs in self.original:
            mine = ours.get(theirs)
            rows.append(Row(theirs, mine))
            if mine is not None:
                rows += [Row(None, other) for other in following.get(mine, [])]
        return rows
