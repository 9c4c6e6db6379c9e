"""What an exception says, in one line."""

from __future__ import annotations


def said_by(who: str, error: BaseException) -> str:
    """What a leg raised."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip("- \n")), "")
    return f"{who} raised {getattr(error, 'kind', type(error).__name__)}: {first}"
