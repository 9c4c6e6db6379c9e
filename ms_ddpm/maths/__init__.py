"""Formulas in float64 numpy, cast once: schedules, SDEs, the likelihood of pixels, named random streams."""
