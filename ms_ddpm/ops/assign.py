"""Setting parameters' values from the host."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..checkpoint import match


def set_value(parameter: Parameter, value: np.ndarray) -> None:
    """Puts ``value`` into ``parameter`` so that every graph sees it, compiled before or after.

    Why: ``Parameter.set_data`` and ``assign_value`` give the parameter other memory, and a graph that has run goes on
    reading and writing the old one (2.10, CPU; the parameter then reads 5.0 in Python and 0.9 in the graph).
    ``ops.assign`` writes into the memory there is. `tests/test_ops.py` shows whether set_data still does it.
    """
    ops.assign(parameter, Tensor(np.ascontiguousarray(value, np.float32)).reshape(parameter.shape))


def set_parameters(
    cell: nn.Cell, arrays: Mapping[str, np.ndarray], what: str, names: Collection[str] | None = None
) -> None:
    """Puts ``arrays`` into the parameters of ``cell`` (or those called ``names``), all or none.

    Raises UserError unless they match.
    """
    parameters = {name: p for name, p in cell.parameters_and_names() if names is None or name in names}
    match(arrays, {name: tuple(p.shape) for name, p in parameters.items()}, what)
    for name, parameter in parameters.items():
        set_value(parameter, arrays[name])
