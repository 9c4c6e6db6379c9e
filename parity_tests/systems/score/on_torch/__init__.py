"""The reference's score models and networks."""

from parity_tests.systems.core.on_torch.nets import network, network_scales
from portparity.rounded_products import with_rounded_products

from .models import KINDS as MODELS
from .nets import LAYERS, NETWORKS

__all__ = ["KINDS", "LAYERS", "NETWORKS"]

KINDS = {**MODELS, "score_network": with_rounded_products(network), "score_network_scales": network_scales}
