"""Finds the layer where a candidate first stops computing what the reference computes.

`layers` judges layers, own error and inherited, whatever they come from, and names the culprit. `text` says the result
in words.
"""

from .layers import Layer, Sides, Tap, between, culprit, first_culprit, localise_layers
from .text import first_difference, told

__all__ = [
    "Layer", "Sides", "Tap", "between", "culprit", "first_culprit", "first_difference", "localise_layers", "told",
]  # fmt: skip
