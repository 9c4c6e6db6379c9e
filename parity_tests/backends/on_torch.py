"""PyTorch: the reference, `torch_ref`, as the harness drives it."""

from ..systems import joined
from ..systems.core.on_torch.nets import weight_shapes

__all__ = ["KINDS", "weight_shapes"]

KINDS = joined("on_torch")
