"""Dropout whose mask is a function of its arguments.

Why: MindSpore's dropout reads a generator inside the compiled graph. ``ms.set_seed`` does not reset a graph
that is already compiled (2.10), so a resumed run could not repeat it. Here element i of layer l under key k
is kept or not by a hash of (k, l, i): no state, and two frameworks can draw the same mask.
"""

from __future__ import annotations

from types import ModuleType

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from . import by_operators, modular
from .placed import Placed

# Multipliers of the 32-bit mixer "lowbias32" (C. Wellons, hash-prospector), as signed numbers.
_MIX1 = 0x7FEB352D
_MIX2 = 0x846CA68B - 2**32
_LAYER_STRIDE = 0x9E3779B9 - 2**32  # 2^32 / golden ratio: spreads the layers' keys


class HashDropout(Placed):
    """Zeroes each element with probability ``p`` and divides the rest by 1 - p.

    ``key`` is an int32 scalar tensor drawn anew for every step; with ``key=None`` (inference) or p = 0 the
    input passes unchanged.
    """

    def __init__(self, p: float, layer: int):
        super().__init__()
        self.p = p
        self.offset = Tensor(np.int64(layer * _LAYER_STRIDE).astype(np.int32))
        self.threshold = Tensor(np.int32(round(p * 2**24)))
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        """See `ops.by_operators`. The mask of an element is the same in both layouts."""
        self.numbering = on.numbering

    def _mix(self, x: Tensor) -> Tensor:
        for shift, multiplier in ((16, _MIX1), (15, _MIX2), (16, 1)):
            high = ops.bitwise_and(
                ops.bitwise_right_shift(x, Tensor(shift, ms.int32)), Tensor((1 << (32 - shift)) - 1, ms.int32)
            )
            x = ops.bitwise_xor(x, high)
            if multiplier != 1:
                x = modular.multiply(x, multiplier)
        return x

    def construct(self, x: Tensor, key=None) -> Tensor:
        if self.p == 0.0 or key is None:
            return x
        index = self.numbering(x.shape)
        bits = self._mix(modular.add(self._mix(modular.add(index, self.offset)), key))
        kept = ops.bitwise_and(bits, Tensor(0xFFFFFF, ms.int32)) >= self.threshold
        return x * ops.cast(kept, x.dtype).reshape(x.shape) / (1 - self.p)
