"""MindSpore: the product, `ms_ddpm`, as the harness drives it."""

from . import shared_mindspore  # noqa: F401, I001  MindSpore starts before anything below is imported
from ..systems import joined
from ..systems.core.on_mindspore.nets import why_not

__all__ = ["KINDS", "why_not"]

KINDS = joined("on_mindspore")
