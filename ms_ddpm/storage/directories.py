"""Directories as diffusers and transformers write them: that they are there, and the JSON in them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError, quoted, reason_of
from .untrusted import MAX_TEXT, read_text

# What scripts say to diffusers about fetching and reading files, and what has no effect here: nothing is fetched, and a
# directory has one state of its files, safetensors ones, which are mapped.
OF_FETCHING = frozenset({
    "cache_dir", "force_download", "local_files_only", "low_cpu_mem_usage", "mirror", "proxies", "resume_download",
    "revision", "token", "use_auth_token", "use_safetensors",
})  # fmt: skip


def without_fetching(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` without those of `OF_FETCHING`. Raises UserError where they ask for pickles."""
    if options.get("use_safetensors") is False:
        raise UserError(
            "use_safetensors is False, expected true or nothing: the other files, .bin, are pickles, which are not read"
        )
    return {name: value for name, value in options.items() if name not in OF_FETCHING}


def like_a_hubs_name(path: str | Path) -> bool:
    """Whether ``path`` may be a name at a hub, OWNER/NAME, in the place of a directory."""
    name = str(path)
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")


def folder_of(path: str | Path, subfolder: str | None = None) -> Path:
    """The directory ``path``[/``subfolder``]. Raises UserError where there is none; of a hub's name it says more."""
    if not isinstance(path, (str, os.PathLike)):
        raise UserError(f"a directory is {quoted(path)}, expected its path")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"{quoted(str(path))} is no directory on this disk, and nothing is downloaded here"
            + (
                f"; if it is a hub's name, fetch it once, hf download {path} --local-dir DIR, and give DIR"
                if like_a_hubs_name(path) else ""
            )
        )  # fmt: skip
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
