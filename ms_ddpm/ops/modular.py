"""int32 arithmetic modulo 2^32."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import constexpr

from ..devices import runtime


@constexpr
def _wraps() -> bool:
    """Whether a sum or product that overflows keeps its low 32 bits; known when a graph is compiled."""
    return runtime.device_target() != "Ascend"


def _low(x: Tensor) -> Tensor:
    return ops.bitwise_and(x, Tensor(0xFFFF, ms.int32))


def _high(x: Tensor) -> Tensor:
    return _low(ops.bitwise_right_shift(x, Tensor(16, ms.int32)))


def _by_byte(x: Tensor, byte: int) -> tuple[Tensor, Tensor]:
    """x * byte for x below 2^16: (low 8 bits times 2^8, the bits above them)."""
    product = x * Tensor(byte, ms.int32)
    low = ops.bitwise_and(product, Tensor(0xFF, ms.int32))
    return low * Tensor(256, ms.int32), ops.bitwise_right_shift(product, Tensor(8, ms.int32))


def _joined(low: Tensor, high: Tensor) -> Tensor:
    """The number whose halves are the low 16 bits of ``low`` and of ``high``, as a signed one."""
    high = _low(high)
    sign = ops.bitwise_and(high, Tensor(0x8000, ms.int32))
    return (high - sign - sign) * Tensor(65536, ms.int32) + _low(low)


def add(x: Tensor, y: Tensor) -> Tensor:
    """x + y modulo 2^32, int32.

    Why: whether integers wrap around or saturate on an Ascend is documented nowhere that was found (CANN 9.1), and a
    hash that saturates is none. There no intermediate result overflows. Can go when an Ascend was seen to wrap:
    ``python scripts/parity.py check --device_target Ascend --case '*dropout*'`` with ``_wraps`` always true.
    """
    if _wraps():
        return x + y
    low = _low(x) + _low(y)
    return _joined(low, _high(x) + _high(y) + _high(low))


def multiply(x: Tensor, factor: int) -> Tensor:
    """x * factor modulo 2^32, int32, -2^31 <= factor < 2^31. Why: as for `add`."""
    if _wraps():
        return x * Tensor(factor, ms.int32)
    byte0, byte1, byte2, byte3 = factor & 0xFF, (factor >> 8) & 0xFF, (factor >> 16) & 0xFF, (factor >> 24) & 0xFF
    low, high = _low(x), _high(x)
    shifted, above = _by_byte(low, byte1)
    low_product = low * Tensor(byte0, ms.int32) + shifted
    of_low = low * Tensor(byte2, ms.int32) + _by_byte(low, byte3)[0]
    of_high = high * Tensor(byte0, ms.int32) + _by_byte(high, byte1)[0]
    return _joined(low_product, _high(low_product) + above + of_low + of_high)
