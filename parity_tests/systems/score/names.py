"""Names of parameters, as both sides of a case call them."""

from __future__ import annotations

import re


def innermost(name: str) -> str:
    """A parameter's name in the network, without the "net." of what stands around it."""
    return re.sub(r"^(net\.)*", "", name)
