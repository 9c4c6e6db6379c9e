"""Numbers and names of systems that library code outside their folders needs."""

from __future__ import annotations

from .keys import MAX_STEPS

__all__ = ["MAX_STEPS", "SCORE_SAMPLERS", "SMALLEST_EPS"]

SCORE_SAMPLERS = ("euler", "pc", "ode", "heun")  # functions of `ms_ddpm.samplers.score`
SMALLEST_EPS = 1e-5  # time down to which a score network is trained: at 0 the score is infinite
