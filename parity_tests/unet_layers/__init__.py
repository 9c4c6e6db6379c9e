"""The layers of a whole Unet, judged one by one, and where a check first goes wrong.

`network` gets the layers from hooks, in PyTorch (`on_torch`) and MindSpore (`on_mindspore`), which `sides` aligns by
name; `portparity.localise` judges them. `bisect` says the result in words.
"""

from .bisect import bisect
from .network import localise

__all__ = ["bisect", "localise"]
