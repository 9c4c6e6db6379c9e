"""The YAML files of configurations: recipes by their names, and any file, read without trusting it.

What their keys and values mean is for `ms_ddpm.config`.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import UserError, quoted, reason_of

PACKAGE = Path(__file__).parent.parent  # ms_ddpm
MAX_YAML = 100_000  # bytes; PyYAML reads about 100 kB a second
MAX_YAML_VALUES = 10_000  # once aliases are written out; a recipe has fewer than a hundred


def _check_nodes(root: Any) -> None:
    """Raises ValueError where a YAML document is a bomb of aliases or gives a key twice."""
    import yaml

    left, waiting = MAX_YAML_VALUES, [root]
    while waiting:
        node = waiting.pop()
        left -= 1
        if left < 0:
            raise ValueError(f"it holds more than {MAX_YAML_VALUES} values")
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
    seen = set()
    for name in (node.value for node, _ in root.value) if isinstance(root, yaml.MappingNode) else ():
        if isinstance(name, str) and name in seen:
            raise ValueError(f"it gives the key {quoted(name)} more than once")
        seen.add(name if isinstance(name, str) else None)


def _parse(text: str) -> Any:
    """The values of a YAML text. Raises ValueError where it is none, in one line."""
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return {}
        _check_nodes(root)
        return loader.construct_document(root)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError) as error:
        raise ValueError(reason_of(error)) from None  # PyYAML's constructors let all of these through


@cache
def recipes() -> dict[str, Path]:
    """The recipes that come with the library, by name: they lie inside it or, in a clone, beside it."""
    inside = PACKAGE / "configs"
    folder = inside if inside.is_dir() else PACKAGE.parent / "configs"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def recipe_file(given: str | Path) -> Path:
    """The file that ``--config given`` means: the one at that path or, where none is, the recipe of that name.

    Raises UserError, which lists the recipes, for a bare name that is neither.
    """
    given = os.fspath(given)
    bare = os.path.basename(given) == given and not os.path.splitext(given)[1]
    if not bare or (os.path.lexists(given) and not os.path.isdir(given)):
        return Path(given)
    if given not in recipes() and not os.path.lexists(given):
        raise UserError(f"--config {given} is neither a file nor one of the recipes: {', '.join(recipes())}")
    return recipes().get(given, Path(given))


def read_yaml(path: str | Path) -> Any:
    """What the YAML file at ``path``, or the recipe of that name, holds. Raises UserError where it cannot be read."""
    from ..storage.untrusted import read_text

    try:
        return _parse(read_text(recipe_file(path), MAX_YAML))
    except OSError as error:
        stem = Path(path).stem
        hint = f"; the recipe of that name is --config {stem}" if stem in recipes() else ""
        raise UserError(f"cannot read --config {path}: {error.strerror or error}{hint}") from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"--config {path} is not YAML: {reason_of(error)}") from None
