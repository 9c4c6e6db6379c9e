"""The configuration of a Cell that was built in Python: what ``sample.py`` builds it from again.

The inverse of `recipes.build`, from what the Cells remember of their constructors. An argument without a configuration
key may only have its default: what a configuration cannot say is said, not guessed. Which class is said by which keys a
system knows: its `systems.System.describe` calls `keys_of` with a table of `Part`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mindspore import nn

from .. import registry
from ..config import Config, all_fields, read_value, to_dict
from ..errors import UserError, quoted
from .fingerprint import HOW_NOT_WHAT, arguments_of, plain_fact

NOT_FROM_A_PATH = "(given in Python)"  # the data set of a run that was not given its path
NETWORKS = ("model", "net")  # what arguments that take a network are called


def _nothing(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Part:
    """How a configuration says an object of a class.

    keys: argument of its constructor -> configuration key, where the two are not called alike. None: it follows from
        other arguments.
    means: the keys that the class says by being there, from its arguments; raises UserError for arguments that no
        configuration can say.
    """

    keys: Mapping[str, str | None] = field(default_factory=dict)
    means: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _nothing


Parts = Mapping[type, Part]  # every class that a configuration of a system can make


def configuration(cell: nn.Cell, given: Mapping[str, Any], dataset: str | None) -> dict[str, Any]:
    """The configuration by which `recipes.build` makes ``cell`` again, with what else is known of its run.

    Args:
        cell: of any system.
        given: the `Trainer`'s arguments.
        dataset: what `data.open_images` was given, or None.

    Raises:
        UserError: where no configuration makes such a Cell; the message says why.
    """
    values = {**_of_trainer(given), **_of_cell(cell)}
    values["dataset"] = NOT_FROM_A_PATH if dataset is None else dataset
    height, width = values["image_size"]
    values["image_size"] = height if height == width else [height, width]
    return to_dict(Config(**{name: read_value(name, value) for name, value in values.items()}))


def _of_trainer(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a Trainer that are configuration keys too, which have the same names."""
    called = {"augment_horizontal_flip": "flip", "results_folder": "output_dir"}
    named = {called.get(name, name): str(v) if name == "results_folder" else v for name, v in given.items()}
    named = {name: plain_fact(value) for name, value in named.items() if name in all_fields() and name != "dataset"}
    found = {}
    for name in named:
        try:
            found[name] = read_value(name, named[name])
        except UserError:  # a function for a schedule
            continue
    return found | {"accept_changes": None}  # said for one start alone


def _of_cell(cell: nn.Cell) -> dict[str, Any]:
    for name in registry.names():
        said = registry.get(name).describe(cell)
        if said is not None:
            return {"system": name, **said}
    raise UserError(f"{type(cell).__name__} is no model of ms_ddpm, such as GaussianDiffusion")


def keys_of(thing: object, parts: Parts) -> dict[str, Any]:
    """The configuration keys, with their values, that ``thing`` and the objects that it was given say.

    Args:
        thing: an object of a class in ``parts`` that is under `fingerprint.remembers`.
        parts: every class that may be in it.

    Raises:
        UserError: for what no configuration can say, and where two objects contradict each other.
    """
    found: dict[str, Any] = {}
    _take(thing, parts, found)
    return found


def _put(found: dict[str, Any], key: str, value: Any, who: str) -> None:
    if found.setdefault(key, value) != value:
        raise UserError(f"its {who} has {key} {quoted(value)}, and another part {quoted(found[key])}")


def _take(thing: object, parts: Parts, found: dict[str, Any]) -> None:
    kind, name = type(thing), type(thing).__name__
    if kind not in parts:
        raise UserError(f"{name} is no part that a configuration knows")
    defaults = inspect.signature(kind.__init__).parameters
    arguments = arguments_of(thing)
    for argument, value in arguments.items():
        key = parts[kind].keys.get(argument, argument)
        if isinstance(value, nn.Cell) or type(value) in parts:
            if argument in NETWORKS and type(value) not in parts:
                raise UserError(f"its network {type(value).__name__} is none that a configuration knows")
            _take(value, parts, found)
        elif key in all_fields():
            if value is not None or all_fields()[key].default is None:
                _put(found, key, read_value(key, value), name)
        elif key is not None and argument not in HOW_NOT_WHAT and value != plain_fact(defaults[argument].default):
            raise UserError(f"a configuration cannot say {name}({argument}={quoted(value)})")
    for key, value in parts[kind].means(arguments).items():
        _put(found, key, value, name)
