"""Setting a parameter's value from the host."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from .._moved import names_moved_from
from ..storage import floats

__getattr__ = names_moved_from(__name__)


def type_of(parameter: Parameter) -> str:
    """The name of its type, as `floats` has them: "float32"."""
    return str(parameter.dtype).lower()


def set_value(parameter: Parameter, value: np.ndarray) -> None:
    """Puts ``value``, in the parameter's own type, into ``parameter`` so that every graph sees it, compiled before or
    after.

    Why: ``Parameter.set_data`` and ``assign_value`` give the parameter other memory, and a graph that has run goes on
    reading and writing the old one (2.10, CPU; the parameter then reads 5.0 in Python and 0.9 in the graph).
    ``ops.assign`` writes into the memory there is. `tests/ops/test_ops.py` shows whether set_data still does it.

    An array that cannot be written to, as those of a mapped file, is read where it lies: each copy of a billion numbers
    takes seconds. Of another one a copy is made first, since Assign may run later than this function returns.

    On the CPU Assign takes no bfloat16 (2.10), and graphs do not see set_data there either; the in-place ``copy_``
    they do see. `tests/storage/test_floats.py` shows whether it is still needed.
    """
    if parameter.dtype == ms.bfloat16:  # numpy has none: its numbers in float32, which become the same ones again
        wide = floats.cast(floats.cast(_floats(value), "bfloat16"), "float32")
        tensor = ops.cast(Tensor(wide), ms.bfloat16).reshape(parameter.shape)
        if ms.get_context("device_target") == "CPU":
            parameter.copy_(tensor)
            return
    else:
        tensor = Tensor.from_numpy(_lasting(_floats(value), type_of(parameter))).reshape(parameter.shape)
    ops.assign(parameter, tensor)


def _lasting(value: np.ndarray, name: str) -> np.ndarray:
    """``value`` in the type called ``name``, contiguous; a copy unless nobody can change it."""
    if value.flags.writeable or not value.flags.c_contiguous or floats.name_of(value.dtype) != name:
        return floats.cast(value, name)
    return value


def _floats(value: np.ndarray) -> np.ndarray:
    """``value`` as an array, whole numbers in float64."""
    value = np.asarray(value)
    return value.astype(np.float64) if value.dtype.kind in "iub" else value
