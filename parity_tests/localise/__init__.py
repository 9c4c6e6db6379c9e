"""Finds the layer where a candidate first stops computing what the reference computes.

`layers` judges layers, own error and inherited, whatever they come from, and names the culprit. `network` gets the
layers of a Unet from hooks, in PyTorch (`on_torch`) and MindSpore (`on_mindspore`), which `sides` aligns by name.
`text` says the result in words.
"""

from .layers import Layer, Sides, Tap, between, culprit, first_culprit, localise_layers
from .network import localise
from .text import bisect, told

__all__ = [
    "Layer", "Sides", "Tap", "between", "bisect", "culprit", "first_culprit", "localise", "localise_layers", "told",
]  # fmt: skip
