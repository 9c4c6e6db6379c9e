"""MindSpore on a CPU, made to round as a device with TF32, HF32 or bfloat16 would: a class tried without its device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from .memo import forget

BITS = {"tf32": 10, "hf32": 11, "bfloat16": 7}  # after the point


def rounding(bits: int) -> Callable:
    """The function of a MindSpore tensor that keeps ``bits`` bits after the point; gradients pass it unchanged."""
    from mindspore import ops

    factor = float(2 ** (23 - bits) + 1)

    def rounded(x):
        """Dekker's split: the leading bits of x, exactly; for |x| < 2^110."""
        big = x * factor
        return x + ops.stop_gradient((big - (big - x)) - x)

    return rounded


@contextmanager
def patched(precision: str, make: Callable[[Callable], Iterable[AbstractContextManager]]) -> Iterator[None]:
    """Inside, what ``make`` gives for the rounding of ``precision`` holds; nothing built before or in it is used after.

    Args:
        precision: a key of `BITS`.
        make: the rounding -> contexts that put it into the layers of the code under test.
    """
    forget()
    try:
        with ExitStack() as stack:
            for patch in make(rounding(BITS[precision])):
                stack.enter_context(patch)
            yield
    finally:
        forget()
