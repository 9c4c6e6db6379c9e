"""Colours by name or as #rrggbb, without Pillow: configurations are read before it is needed."""

from __future__ import annotations

import re

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
NAMES: dict[str, Colour] = {
    "white": WHITE, "black": (0, 0, 0), "grey": (128, 128, 128), "gray": (128, 128, 128), "silver": (192, 192, 192),
    "red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "lime": (0, 255, 0),
    "aqua": (0, 255, 255), "fuchsia": (255, 0, 255), "maroon": (128, 0, 0), "navy": (0, 0, 128),
    "olive": (128, 128, 0), "purple": (128, 0, 128), "teal": (0, 128, 128),
}  # fmt: skip
EXPECTED = f"a colour: {', '.join(NAMES)} or '#rrggbb' (quoted in YAML, where # begins a comment)"


def parse(text: str) -> Colour:
    """(red, green, blue), each 0 to 255, of a name or #rrggbb. Raises ValueError where it is neither."""
    word = text.strip().lower()
    if word in NAMES:
        return NAMES[word]
    if not re.fullmatch(r"#[0-9a-f]{6}", word):
        raise ValueError(f"expected {EXPECTED}")
    return int(word[1:3], 16), int(word[3:5], 16), int(word[5:7], 16)
