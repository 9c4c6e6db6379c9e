"""exp(x) - 1 without cancellation."""

from __future__ import annotations

from mindspore import Tensor, ops


def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1 for x <= 0, to float32 precision: 2 tanh(x/2) / (1 - tanh(x/2)).

    Why: MindSpore's ``ops.expm1`` subtracts 1 from exp(x) on CPU (2.10): 1.0e-5 off at x = -0.001, which is Adam's
    second bias correction at step 1. `tests/ops/test_ops.py` shows whether it still does.
    """
    half = ops.tanh(x * 0.5)
    return 2 * half / (1 - half)
