"""Score models around the stand-in, and the score networks, forward alone."""

from .models import KINDS as MODELS
from .nets import LAYERS, score_network

__all__ = ["KINDS", "LAYERS", "OF_NETWORKS"]

KINDS = {**MODELS, "score_network": score_network}
OF_NETWORKS = ("score_network",)
