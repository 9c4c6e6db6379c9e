"""Guidance in float64: Ho & Salimans, https://arxiv.org/abs/2207.12598, and Lin et al., arXiv 2305.08891."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from parity_tests.oracle.process import as_float64

Array = np.ndarray


def guided(plain: ArrayLike, prompted: ArrayLike, scale: float, share: float) -> tuple[Array, Array]:
    """(1 + w) eps(prompt) - w eps(negative), eq. 6 there, w = scale - 1; and the magnitude of the larger term.

    With a ``share`` times 1 + share (sigma_prompt / sigma_guided - 1), image by image: eq. 15 and 16 of Lin et al.
    """
    w, plain, prompted = scale - 1, as_float64(plain), as_float64(prompted)
    found = (1 + w) * prompted - w * plain
    deviation = [np.sqrt(np.var(x.reshape(len(x), -1), axis=1)).reshape(-1, 1, 1, 1) for x in (prompted, found)]
    factor = 1 + share * (deviation[0] / deviation[1] - 1)
    return factor * found, factor * np.maximum(abs((1 + w) * prompted), abs(w * plain))
