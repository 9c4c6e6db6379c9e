"""How a configuration says a corruption model that was built in Python."""

from __future__ import annotations

from typing import Any

from mindspore import nn

from ...models.basic import BasicNet
from ...storage.described import Part, keys_of
from .corruption import Corruption

PARTS = {Corruption: Part(), BasicNet: Part({"in_channels": "channels", "out_channels": "channels"})}


def describe(cell: nn.Cell) -> dict[str, Any] | None:
    """See `systems.System.describe`."""
    return keys_of(cell, PARTS) if type(cell) is Corruption else None
