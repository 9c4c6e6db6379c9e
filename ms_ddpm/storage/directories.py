"""Directories as diffusers and transformers write them: that they are there, and the JSON in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import UserError, quoted, reason_of
from .untrusted import MAX_TEXT, read_text


def folder_of(path: str | Path, subfolder: str | None = None) -> Path:
    """The directory ``path``[/``subfolder``]. Raises UserError where there is none; of a hub's name it says more."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        name = str(path)
        hub = name.count("/") == 1 and not name.startswith((".", "/", "~"))
        raise UserError(
            f"{quoted(name)} is no directory on this disk, and nothing is downloaded here"
            + (f"; fetch it once, hf download {name} --local-dir DIR, and give DIR" if hub else "")
        )
    folder = folder / subfolder if subfolder else folder
    if not folder.is_dir():
        raise UserError(f"there is no directory {folder}; expected one as diffusers writes it")
    return folder


def read_json(path: Path, limit: int = MAX_TEXT, hint: str = "") -> dict[str, Any]:
    """The JSON object in the file ``path``, of ``limit`` bytes at most.

    Raises UserError where there is none; ``hint`` says what to do where it cannot be read.
    """
    try:
        found = json.loads(read_text(path, limit))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or no JSON
        raise UserError(f"cannot read {path}: {reason_of(error)}{hint and '; '}{hint}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds {quoted(found)}, expected a JSON object")
    return found
