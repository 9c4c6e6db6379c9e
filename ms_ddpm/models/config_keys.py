"""The keys of diffusers' ``config.json``: those that a network here takes are its constructor's arguments, and the rest.

A key that is not an argument may have the one value with which it changes nothing. With another one the network would
be a different one, so it is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UserError, quoted


def refuse_others(network: str, others: Mapping[str, Any], fixed: Mapping[str, Any], hint: str = "") -> None:
    """Raises UserError for the first of ``others`` that is not in ``fixed`` or has not the value that it has there."""
    for key, value in others.items():
        if key not in fixed:
            raise UserError(f"{network} does not know the config key {key!r} (its value is {quoted(value)})")
        if value != fixed[key]:
            raise UserError(
                f"{key} of {network} is {quoted(value)}, expected {quoted(fixed[key])}: "
                f"what else it can be is not implemented here{hint}"
            )


def refuse_blocks(network: str, key: str, given: Sequence[str], known: Sequence[str], count: int) -> None:
    """Raises UserError unless ``given``, the value of ``key``, names ``count`` blocks out of ``known``."""
    for name in given:
        if name not in known:
            raise UserError(f"{key} of {network} names {quoted(name)}, expected one of: {', '.join(known)}")
    if len(given) != count:
        raise UserError(f"{key} of {network} has {len(given)} names, expected {count}, as block_out_channels has widths")


def per_level(network: str, key: str, value: Any, count: int) -> tuple:
    """``value``, one for all resolutions or a list of one for each, as ``count`` of them. UserError for another list."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return (value,) * count
    if len(value) != count:
        raise UserError(f"{key} of {network} is {quoted(value)}, expected one number, or {count}")
    return tuple(value)
