"""From a configuration, or a checkpoint's, to the objects it names: for a system of any name."""

from __future__ import annotations

from pathlib import Path

from mindspore import nn

from .. import data, registry
from ..config import Config, image_sides, of_checkpoint
from ..config.keys import DEFAULT_SYSTEM
from ..errors import UserError, quoted
from ..storage import checkpoint
from ..storage.weights import read_weights, set_parameters
from ..trainable import said_by

image_shape = image_sides  # its older name


def build(config: Config) -> nn.Cell:
    """What ``config`` trains, with the initial weights of its seed: a Cell with ``draw`` and ``construct``."""
    return registry.of(config).build(config)


def build_diffusion(config: Config) -> nn.Cell:
    """`build` of the default system, a diffusion. Raises UserError for a configuration of another one."""
    if config.system != DEFAULT_SYSTEM:
        raise UserError(
            f"the configuration is of the system {config.system}; this takes the system {DEFAULT_SYSTEM} alone"
        )
    return build(config)


def open_data(config: Config, cell: nn.Cell) -> data.ImageSource:
    """The images, or what the system makes of them, that ``config`` trains on.

    Raises UserError where the data set cannot be read or does not fit.
    """
    return registry.of(config).open_data(config, cell)


def config_of(path: Path) -> Config:
    """The configuration inside a checkpoint directory."""
    state = checkpoint.read_state(path)
    if not isinstance(state.get("config"), dict):
        reason = state.get("no_config")
        reason = f": {quoted(reason)}" if isinstance(reason, str) else ""
        raise UserError(
            f"checkpoint {path} holds no configuration to build its model from{reason}; build it in Python, and "
            "ms_ddpm.storage.weights.load_weights(cell, path) gives it these weights"
        )
    return of_checkpoint(state["config"], f"checkpoint {path}")


def load(path: Path, weights: str = "ema") -> tuple[nn.Cell, Config]:
    """The Cell of a checkpoint directory of any system, with its ``ema`` (averaged) or ``model`` weights.

    Raises UserError where the checkpoint is damaged or does not fit its own configuration.
    """
    config = config_of(path)
    found = read_weights(path, weights)
    try:
        cell = build(config)
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from None
    set_parameters(cell, found.arrays, f"checkpoint {path}", said_by(cell, "saved_parameters")())
    return cell, config
