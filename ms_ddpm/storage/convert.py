"""Weights to and from PyTorch: whatever Cell a system knows the PyTorch names of.

Arrays keep their shapes on the way; what their names are, and which constants a state holds beside them, the system
says: see `systems.torch_side.TorchSide`. A Cell with the attribute ``named_as_torch`` has PyTorch's names already.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mindspore import nn

from .. import registry
from .._moved import names_moved_from
from ..errors import UserError
from ..ops.assign import set_value, type_of
from ..trainable import said_by
from . import floats
from .torch_files import without_parallel
from .torch_side import TABLE_TOLERANCE, TorchSide

__getattr__ = names_moved_from(__name__)


def _side_of(cell: nn.Cell) -> tuple[TorchSide, dict[str, str]]:
    """The side of the system that knows ``cell``, and our names of its parameters -> PyTorch's."""
    for name in registry.names():
        side = registry.get(name).torch_side()
        names = side.names(cell)
        if names is not None:
            return side, dict(names)
    if said_by(cell, "named_as_torch"):
        return TorchSide(), {name: name for name, _ in cell.parameters_and_names()}
    raise UserError(f"{type(cell).__name__} has no PyTorch names; expected a Unet or a GaussianDiffusion around one")


def torch_names(cell: nn.Cell) -> dict[str, str]:
    """Our parameter names -> PyTorch's: for a `Unet`, a `GaussianDiffusion` or `FirstDDPM` around one, what else a
    system has the names of, or a Cell with the attribute ``named_as_torch``, whose names are PyTorch's already.
    """
    return _side_of(cell)[1]


def to_torch(cell: nn.Cell, release: str | None = None) -> dict[str, np.ndarray]:
    """The state dict PyTorch would have: names -> float32 arrays, tables included for a GaussianDiffusion.

    ``release``: of denoising-diffusion-pytorch, whose names the tables have (default: `torch_releases.release_like`).
    """
    side, names = _side_of(cell)
    values = dict(cell.parameters_and_names())
    state = {theirs: floats.cast(values[ours].asnumpy(), "float32") for ours, theirs in names.items()}
    tables = side.constants(cell, release=release)
    return {**{name: table.astype(np.float32) for name, table in tables.items()}, **state}


def _table_problems(tables: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> list[str]:
    """One sentence per table of ``state`` that is not the cell's own."""
    problems = []
    for name, own in tables.items():
        given = state.get(name)
        if given is None:
            problems.append(f"missing table {name}")
        elif np.shape(given) != own.shape:
            problems.append(f"table {name} has shape {np.shape(given)}, expected {own.shape}")
        else:
            with np.errstate(all="ignore"):
                error = np.abs(floats.cast(np.asarray(given), "float64") - own) / np.maximum(np.abs(own), 1e-12)
            if not error.max() <= TABLE_TOLERANCE:
                problems.append(
                    f"table {name} differs by {error.max():.1e} at t={int(np.argmax(error))} "
                    "(other schedule or objective?)"
                )
    return problems


def from_torch(cell: nn.Cell, state: Mapping[str, np.ndarray]) -> None:
    """Loads a PyTorch state dict (names -> numpy arrays) into ``cell``, all of it or nothing.

    The ``module.`` that ``torch.nn.DataParallel`` puts before every name is taken off.

    Raises:
        UserError: naming every missing and unexpected key, every shape that differs, and every table that differs from
            the cell's own by more than 1e-3 (the cell keeps its own).
    """
    # PyTorch's batch normalisation counts its batches, and computes nothing with the number.
    state = {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    parameters = dict(cell.parameters_and_names())
    side, names = _side_of(cell)
    state = without_parallel(state)
    tables = side.constants(cell, among=state.keys())
    known = {*names.values(), *tables}
    problems = [f"missing {theirs}" for theirs in names.values() if theirs not in state]
    problems += [f"unexpected {theirs}" for theirs in state if theirs not in known]
    for ours, theirs in names.items():
        if theirs in state:
            value, parameter = np.asarray(state[theirs]), parameters[ours]
            if value.shape != tuple(parameter.shape):
                problems.append(f"{theirs} has shape {value.shape}, expected {tuple(parameter.shape)}")
            elif not floats.is_finite(floats.cast(value, type_of(parameter))):
                problems.append(f"{theirs} holds values that are not finite numbers")
    problems += _table_problems(tables, state)
    if problems:
        raise UserError(f"the PyTorch weights do not fit this {type(cell).__name__}: " + "; ".join(problems))
    for ours, theirs in names.items():
        set_value(parameters[ours], state[theirs])
