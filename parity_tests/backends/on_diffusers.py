"""huggingface/diffusers, driven by the specs that drive the other backends."""

from ..systems import joined

KINDS = joined("on_diffusers")
