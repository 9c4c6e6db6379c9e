"""Splitting one vector into as many pieces as a network has parameters."""

from __future__ import annotations

from collections.abc import Sequence

from mindspore import Tensor
from mindspore.ops.auto_generate import SplitWithSize

# ops.split checks its sizes by a loop of its own inside the graph, twice as deep
_split = SplitWithSize()
AT_ONCE = 64  # sizes of one operator: about 260 levels of the 1,000 that the compiler has


class Pieces:
    """``Pieces(sizes)(flat)``: a tuple of one vector per size, of ``flat`` (sum(sizes),), inside or outside a graph.

    Why: while it compiles, MindSpore walks a list of sizes in Python, about four call levels a size, and ends at 1,000
    levels with "Exceed function call depth limit" (2.10; 245 sizes pass, 276 do not: a U-Net of four stages has
    those). In groups of 64 the depth does not grow with the number of sizes: the vector is split into groups, and each
    group into its pieces. `tests/ops/test_ops.py` shows whether one operator takes 300 sizes by now; then this can go.
    """

    def __init__(self, sizes: Sequence[int]):
        groups = [tuple(sizes[i : i + AT_ONCE]) for i in range(0, len(sizes), AT_ONCE)]
        self.groups = tuple(groups)
        self.lengths = tuple(sum(group) for group in groups)
        self.inner = Pieces(self.lengths) if len(groups) > AT_ONCE else None

    def __call__(self, flat: Tensor) -> tuple[Tensor, ...]:
        wholes = _split(flat, self.lengths, 0) if self.inner is None else self.inner(flat)
        pieces = ()
        for whole, sizes in zip(wholes, self.groups):  # noqa: B905 (the graph parser knows no strict)
            pieces = pieces + _split(whole, sizes, 0)
        return pieces
