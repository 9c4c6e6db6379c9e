"""Mixed precision: which layers compute in 16 bits, and the loss scale that keeps small float16 gradients alive.

O0  everything in float32.
O1  convolutions and dense layers compute in half precision and hand float32 on; all else is float32.
O2  activations stay in half precision between layers; statistics, softmax, the time embedding and the loss are float32.

Half precision is "float16" (10 bits after the point, largest value 65504: needs the loss scale) or "bfloat16" (7 bits,
float32's range: needs none). Weights, their gradients and the optimizer are float32 at every level (Micikevicius et
al., https://arxiv.org/abs/1710.03740).
"""

from __future__ import annotations

import functools
import logging
import math

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..errors import UserError
from ..nn.layers import Affine, KernelNet
from ..ops.assign import set_value

log = logging.getLogger("ms_ddpm")

LEVELS = ("O0", "O1", "O2")
DTYPES = {"float16": ms.float16, "bfloat16": ms.bfloat16}


@functools.cache
def why_not(dtype: str) -> str:
    """Why this device cannot train in ``dtype``, a key of `DTYPES`; nothing where it can.

    Found by trying: a 3x3 convolution of one pixel with both gradients, and a matrix product. No table: what has
    kernels changes with device and version (2.10: bfloat16 on Ascend 910B; not on CPU; on GPU not according to
    MindSpore's documentation).
    """
    conv, product = ops.Conv2D(1, 3, pad_mode="pad", pad=1), ops.MatMul()
    x, weight = (ops.cast(Tensor(np.ones(shape, np.float32)), DTYPES[dtype]) for shape in ((1, 1, 1, 1), (1, 1, 3, 3)))

    def convolved(x, weight):
        return ops.cast(conv(x, weight), ms.float32).sum()

    try:
        gradients = ms.grad(convolved, (0, 1))(x, weight)
        made = (*gradients, product(x.reshape(1, 1), x.reshape(1, 1)))
        sums = [float(np.sum(ops.cast(value, ms.float32).asnumpy())) for value in made]  # an error may come this late
    except (TypeError, RuntimeError, ValueError, NotImplementedError):
        sums = None
    device = ms.get_context("device_target")
    if sums is None:
        return f"MindSpore {ms.__version__} has no {dtype} convolutions and matrix products on {device} here"
    return "" if sums == [1.0, 1.0, 1.0] else f"{dtype} computes nonsense on {device} here ({sums} for three ones)"


def apply_amp(cell: nn.Cell, level: str, dtype: str = "float16") -> None:
    """Sets the precision of every layer inside ``cell`` (in place).

    Args:
        cell: any Cell; its convolutions and dense layers (`nn.layers.Affine`) are what changes.
        level: "O0", "O1" or "O2".
        dtype: "float16" or "bfloat16"; nothing at O0.

    Raises:
        UserError: for an unknown level or dtype, or a dtype that the device does not compute in.
    """
    if level not in LEVELS:
        raise UserError(f"amp_level is {level!r}, expected one of: {', '.join(LEVELS)}")
    if dtype not in DTYPES:
        raise UserError(f"amp_dtype is {dtype!r}, expected one of: {', '.join(DTYPES)}")
    half = None if level == "O0" else DTYPES[dtype]
    if half is None and dtype != "float16":
        log.warning("amp_dtype %s changes nothing at amp_level O0: everything is float32; O1 and O2 use it", dtype)
    if half is not None:
        if reason := why_not(dtype):
            other = "float16" if dtype == "bfloat16" else "bfloat16"
            raise UserError(f"amp_dtype is {dtype!r}, but {reason}; use --amp_dtype {other} or --amp_level O0")
        for _, network in cell.cells_and_names():  # the C++ kernels know float32 only
            if isinstance(network, KernelNet):
                network.use_kernels(on=False)
    for _, layer in cell.cells_and_names():
        if isinstance(layer, Affine):
            keeps_half = half is None or (level == "O2" and not layer.float32_out)
            layer.compute_in(half, None if keeps_half else ms.float32)


def needs_loss_scale(level: str, dtype: str) -> bool:
    """Whether gradients can leave the range of ``dtype``: float16 only."""
    return level != "O0" and dtype == "float16"


class DynamicLossScale(nn.Cell):
    """A factor on the loss, smaller after an overflow, larger after a while without one: `torch.amp.GradScaler`'s.

    Names, defaults and every step of the scale are that class's (`parity_tests` holds the two side by side).

    Args:
        init_scale: the first factor.
        growth_factor, backoff_factor: what it is multiplied by after ``growth_interval`` steps in a row with finite
            gradients, and after a step without.
        growth_interval: that many steps.
        enabled: False: the factor is 1 and stays so.
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        super().__init__(auto_prefix=False)
        for name, value, fits in (
            ("init_scale", init_scale, 0 < init_scale < math.inf),
            ("growth_factor", growth_factor, 1 < growth_factor < math.inf),
            ("backoff_factor", backoff_factor, 0 < backoff_factor < 1),
            ("growth_interval", growth_interval, growth_interval >= 1),
        ):
            if not fits:
                raise UserError(
                    f"{name} of the loss scale is {value}, expected init_scale > 0, growth_factor > 1, "
                    "0 < backoff_factor < 1, growth_interval >= 1"
                )
        self.enabled = enabled
        self.growth_factor, self.backoff_factor = growth_factor, backoff_factor
        self.growth_interval = growth_interval
        self.scale = Parameter(
            Tensor(init_scale if enabled else 1.0, ms.float32), name="loss_scale", requires_grad=False
        )
        self.good_steps = Parameter(Tensor(0.0, ms.float32), name="loss_scale_good_steps", requires_grad=False)

    def update(self, finite: Tensor) -> Tensor:
        """The scale for the next step, given whether this one's gradients were finite; inside a compiled graph."""
        if not self.enabled:
            return self.scale
        good = self.good_steps + 1
        due = good >= self.growth_interval
        larger = self.scale * self.growth_factor
        grows = ops.logical_and(due, ops.isfinite(larger))
        ops.assign(
            self.good_steps, ops.select(ops.logical_and(finite, ops.logical_not(due)), good, ops.zeros_like(good))
        )
        return ops.assign(
            self.scale, ops.select(finite, ops.select(grows, larger, self.scale), self.scale * self.backoff_factor)
        )

    def state(self) -> dict[str, float | bool]:
        """What a checkpoint holds."""
        if not self.enabled:  # nothing to read from the device, which the training loop would wait for in every step
            return {"enabled": False, "scale": 1.0, "good_steps": 0.0}
        scale, good_steps = float(self.scale.asnumpy()), float(self.good_steps.asnumpy())
        return {"enabled": True, "scale": scale, "good_steps": good_steps}

    def load_state(self, state: dict[str, float | bool]) -> None:
        """Restores what `state` gave.

        A run may go on at another level. Without a loss scale there is nothing to restore; where there was none
        before, its 1.0 is not one that was found, and the scale starts as in a new run.
        """
        was_enabled = state.get("enabled", (state["scale"], state["good_steps"]) != (1.0, 0.0))  # 0.1.0 had no such key
        if self.enabled and was_enabled:
            set_value(self.scale, state["scale"])
            set_value(self.good_steps, state["good_steps"])
