"""Weights from a checkpoint into a Cell: to sample with, or to begin a new run from."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mindspore import nn

from ..errors import UserError, quoted
from ..ops.assign import set_value, type_of
from ..trainable import said_by
from . import checkpoint, floats, tensorfile

log = logging.getLogger("ms_ddpm")

KINDS = ("ema", "model")


class Weights(NamedTuple):
    """Arrays by the names of a Cell's parameters. ``path``: where they come from; ``step``: of which training step."""

    arrays: dict[str, np.ndarray]
    path: Path
    step: int | None
    kind: str


def read_weights(path: str | Path, kind: str = "ema") -> Weights:
    """The ``kind`` weights in ``path``: "ema" (averaged) or "model".

    Args:
        path: an output directory of train.py or of a `Trainer` or of convert.py, a step-... in it, or a .safetensors
            file; of one inside a checkpoint the name says which weights are meant.

    Raises:
        UserError: no checkpoint, a damaged one, or another kind.
    """
    if kind not in KINDS:
        raise UserError(f"the weights are {quoted(kind)}, expected one of: {', '.join(KINDS)}")
    path = Path(path).expanduser()
    if path.is_file():
        if not (path.parent / "state.json").is_file():
            return Weights(tensorfile.read(path), path, None, kind)
        if path.stem not in KINDS:
            raise UserError(f"{path} holds no weights; expected model.safetensors, ema.safetensors or their directory")
        path, kind = path.parent, path.stem
    found = checkpoint.locate(path)
    loaded = checkpoint.load(found, ("model", "ema") if kind == "ema" else ("model",))
    arrays = dict(loaded.arrays["model"])
    if kind == "ema":
        arrays.update(_averages(loaded.arrays["ema"], arrays))  # parameters that are not trained have no average
    return Weights(arrays, found, loaded.step, kind)


def _averages(averages: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``averages``, which are float32 whatever is averaged, in the types of the ``weights`` they are of."""
    types = {name: floats.name_of(weights[name].dtype) for name in averages if name in weights}
    return {
        name: floats.cast(value, types[name]) if value.dtype == np.float32 and name in types else value
        for name, value in averages.items()
    }


def fitted(cell: nn.Cell, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``arrays`` with floats in the types of the parameters of ``cell`` that have their names.

    The one place where weights of a checkpoint change their type, for those who ask for it: a run that goes on takes
    none but its own.
    """
    types = {name: type_of(p) for name, p in cell.parameters_and_names()}
    return {name: floats.cast(value, types[name]) if name in types else value for name, value in arrays.items()}


def set_parameters(
    cell: nn.Cell, arrays: Mapping[str, np.ndarray], what: str, names: Collection[str] | None = None
) -> None:
    """Puts ``arrays`` into the parameters of ``cell`` (or those called ``names``), all or none.

    Raises UserError unless they match, in names, shapes and types.
    """
    parameters = {name: p for name, p in cell.parameters_and_names() if names is None or name in names}
    shapes, types = {}, {}
    for name, parameter in parameters.items():
        shapes[name], types[name] = tuple(parameter.shape), type_of(parameter)
    checkpoint.match(arrays, shapes, what, types)
    for name, parameter in parameters.items():
        set_value(parameter, arrays[name])


def load_weights(cell: nn.Cell, path: str | Path, kind: str = "ema", *, cast: bool = False) -> nn.Cell:
    """Puts the weights of `read_weights` into ``cell``, all or none, and returns it.

    Args:
        cell: of any system, or a network.
        path, kind: see `read_weights`.
        cast: whether floats of another width than the parameters' are taken, rounded: float16 in float32, say.

    Raises:
        UserError: as `read_weights`, and naming the first arrays that do not fit.
    """
    weights = read_weights(path, kind)
    arrays = fitted(cell, weights.arrays) if cast else weights.arrays
    set_parameters(cell, arrays, f"checkpoint {weights.path}", said_by(cell, "saved_parameters")())
    return cell


def begin_with(cell: nn.Cell, weights: Weights) -> None:
    """Puts ``weights`` into ``cell``, all or none, for a run that begins with them.

    They may be floats of another width than the parameters', and are of the same afterwards. What a Cell names in
    ``of_its_data`` (beginnings of parameters' names) it has from its data, and keeps.

    Raises:
        UserError: naming the first arrays that do not fit.
    """
    own = said_by(cell, "of_its_data")
    kept = {name: p.asnumpy() for name, p in cell.parameters_and_names() if own and name.startswith(own)}
    types = {floats.name_of(value.dtype) for value in weights.arrays.values()}
    weights.arrays.update(fitted(cell, weights.arrays))
    set_parameters(cell, {**weights.arrays, **kept}, f"init_from {weights.path}")
    if others := types - {floats.name_of(value.dtype) for value in weights.arrays.values()}:
        log.info(
            "the weights of %s are %s, and are taken in the types of the model", weights.path, ", ".join(sorted(others))
        )


def origin(weights: Weights) -> Mapping:
    """Where a run began, for its checkpoints."""
    return {"path": str(weights.path), "step": weights.step, "weights": weights.kind}
