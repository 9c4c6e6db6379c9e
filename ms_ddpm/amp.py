"""Mixed precision: which layers compute in float16, and the loss scale that keeps small gradients alive.

O0  everything in float32.
O1  convolutions and dense layers compute in float16 and hand float32 on; all else is float32.
O2  activations stay in float16 between layers; statistics, softmax, the time embedding and the loss are float32.

Weights, their gradients and the optimizer are float32 at every level (Micikevicius et al.,
https://arxiv.org/abs/1710.03740).
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from .errors import UserError
from .nets.layers import Conv2d, Linear
from .nets.unet import Unet
from .ops.assign import set_value

LEVELS = ("O0", "O1", "O2")


def apply_amp(cell: nn.Cell, level: str) -> None:
    """Sets the precision of every layer inside ``cell`` (in place). Raises UserError for an unknown level."""
    if level not in LEVELS:
        raise UserError(f"amp_level is {level!r}, expected one of: {', '.join(LEVELS)}")
    half = None if level == "O0" else ms.float16
    if half is not None:  # the kernels know float32 only
        for _, network in cell.cells_and_names():
            if isinstance(network, Unet):
                network.use_kernels(False)
    for name, layer in cell.cells_and_names():
        if isinstance(layer, (Conv2d, Linear)):
            layer.compute_dtype = half
            keeps_half = level == "O2" and not name.endswith(("final_conv", "linear1", "linear2"))
            layer.output_dtype = None if half is None or keeps_half else ms.float32


class DynamicLossScale(nn.Cell):
    """A factor on the loss: halved when a gradient overflows, doubled after ``interval`` steps without one."""

    def __init__(self, initial: float = 2.0**15, interval: int = 2000, enabled: bool = True):
        super().__init__(auto_prefix=False)
        self.enabled, self.interval = enabled, interval
        self.scale = Parameter(Tensor(initial if enabled else 1.0, ms.float32), name="loss_scale", requires_grad=False)
        self.good_steps = Parameter(Tensor(0.0, ms.float32), name="loss_scale_good_steps", requires_grad=False)

    def update(self, finite: Tensor) -> Tensor:
        """The scale for the next step, given whether this one's gradients were finite; inside a compiled graph."""
        if not self.enabled:
            return self.scale
        good = self.good_steps + 1
        grows = good >= self.interval
        grown = ops.select(grows, ops.minimum(self.scale * 2, 2.0**24), self.scale)
        ops.assign(self.good_steps, ops.select(ops.logical_and(finite, ops.logical_not(grows)), good, good * 0))
        return ops.assign(self.scale, ops.select(finite, grown, ops.maximum(self.scale * 0.5, 1.0)))

    def state(self) -> dict[str, float]:
        """What a checkpoint holds."""
        if not self.enabled:  # nothing to read from the device, which the training loop would wait for in every step
            return {"scale": 1.0, "good_steps": 0.0}
        return {"scale": float(self.scale.asnumpy()), "good_steps": float(self.good_steps.asnumpy())}

    def load_state(self, state: dict[str, float]) -> None:
        """Restores what `state` gave."""
        set_value(self.scale, state["scale"])
        set_value(self.good_steps, state["good_steps"])
