"""What a network may say of itself, beside being called, and what is taken of one that says nothing.

Networks of users are any Cell that can be called as the ones here are, so this is asked for by name, in one place.
"""

from __future__ import annotations

from typing import Any

from mindspore import nn


class Silent:
    """What holds for a network that does not say it.

    Attributes:
        num_classes: how many classes it takes; None: it leaves that to the model around it.
        null_class: whether it has a row for "no class".
        dropout: its share, above 0 where it takes a key of dropout.
        self_condition: whether it is told its last estimate of x_0.
        out_dim: channels that it gives; None: as many as it takes.
        own_adapters: the `adapters.Adapters` that are in it; None: nobody has asked for them yet.
    """

    num_classes: int | None = None
    null_class: bool = False
    dropout: float = 0.0
    self_condition: bool = False
    out_dim: int | None = None
    own_adapters: Any = None

    @staticmethod
    def check_size(height: int, width: int) -> None:
        """Raises UserError for images that it cannot take; any will do."""


def said_by(net: nn.Cell, name: str) -> Any:
    """The attribute ``name`` of `Silent` as ``net`` has it."""
    return getattr(net, name, getattr(Silent, name))
