"""Weights from a checkpoint into a Cell: to sample with, or to begin a new run from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mindspore import nn

from . import checkpoint, tensorfile
from .errors import UserError, quoted
from .ops.assign import set_parameters
from .trainable import said_by

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
        arrays.update(loaded.arrays["ema"])  # parameters that are not trained have no average
    return Weights(arrays, found, loaded.step, kind)


def load_weights(cell: nn.Cell, path: str | Path, kind: str = "ema") -> nn.Cell:
    """Puts the weights of `read_weights` into ``cell``, all or none, and returns it.

    Raises:
        UserError: as `read_weights`, and naming the first arrays that do not fit.
    """
    weights = read_weights(path, kind)
    set_parameters(cell, weights.arrays, f"checkpoint {weights.path}", said_by(cell, "saved_parameters")())
    return cell


def begin_with(cell: nn.Cell, weights: Weights) -> None:
    """Puts ``weights`` into ``cell``, all or none, for a run that begins with them.

    What a Cell names in ``of_its_data`` (beginnings of parameters' names) it has from its data, and keeps.

    Raises:
        UserError: naming the first arrays that do not fit.
    """
    own = said_by(cell, "of_its_data")
    kept = {name: p.asnumpy() for name, p in cell.parameters_and_names() if own and name.startswith(own)}
    set_parameters(cell, {**weights.arrays, **kept}, f"init_from {weights.path}")


def origin(weights: Weights) -> Mapping:
    """Where a run began, for its checkpoints."""
    return {"path": str(weights.path), "step": weights.step, "weights": weights.kind}
