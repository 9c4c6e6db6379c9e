"""How many parameters an autoencoder has. Plain arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..sizes import conv


def parameter_count(channels: int, widths: Sequence[int]) -> int:
    """Of `models.autoencoder.AutoEncoder`, for images of ``channels``: convolutions there and back, and normalisations.

    With the running statistics of batch normalisation, and without a network of the loss, which a file brings.
    """
    steps = [channels, *widths]
    there, back = sum(conv(a, b, 3) for a, b in pairwise(steps)), sum(conv(b, a, 3) for a, b in pairwise(steps))
    return there + back + 4 * (sum(widths) + sum(widths[:-1]))
