"""The product's score models and networks."""

from .models import KINDS as MODELS
from .nets import LAYERS, score_network

__all__ = ["KINDS", "LAYERS"]

KINDS = {**MODELS, "score_network": score_network}
