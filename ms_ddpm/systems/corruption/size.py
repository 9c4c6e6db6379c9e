"""How many parameters the network of a corruption model has. Plain arithmetic."""

from __future__ import annotations

from itertools import pairwise

from ..sizes import conv

WIDTHS, KERNEL = (32, 64), 5  # of models/basic.py


def parameter_count(channels: int) -> int:
    """Of `models.basic.BasicNet` for images of ``channels``, with the widths that it has of itself."""
    wide, deep = WIDTHS
    return sum(conv(a, b, KERNEL) for a, b in pairwise([channels, wide, deep, deep, deep, wide, channels]))
