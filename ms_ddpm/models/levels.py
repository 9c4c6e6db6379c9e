"""What a configuration of diffusers says of each resolution, from the image inwards, and older names of attentions."""

from __future__ import annotations

import re
from typing import Any

from ..errors import UserError, quoted

_OLD_ATTENTION = re.compile(r"(\.attentions\.\d+)\.(query|key|value|proj_attn)\.")
_TODAY = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def check_levels(count: int, **lists: tuple) -> None:
    """Raises UserError for the first of ``lists`` that has not ``count`` elements, as block_out_channels has."""
    if count < 1:
        raise UserError("block_out_channels is empty, expected a width for each resolution")
    for key, values in lists.items():
        if len(values) != count:
            raise UserError(f"{key} has {len(values)} elements, expected {count}, one for each of block_out_channels")


def per_level(key: str, value: Any, count: int) -> tuple:
    """``value``, one for all resolutions or a tuple with one for each, as ``count`` of them. UserError if neither."""
    if not isinstance(value, tuple):
        return (value,) * count
    if len(value) != count:
        raise UserError(f"{key} is {quoted(value)}, expected one for all or {count}, as block_out_channels has")
    return value


def attention_of_today(name: str) -> str:
    """A parameter's name, where it is an image attention's of a file from before 2023, as it is called since then."""
    return _OLD_ATTENTION.sub(lambda match: f"{match[1]}.{_TODAY[match[2]]}.", name)
