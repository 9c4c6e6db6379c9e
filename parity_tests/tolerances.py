"""Reads tolerances.toml."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PATH = Path(__file__).with_name("tolerances.toml")


class Tolerance(NamedTuple):
    """The numbers of one precision class: K references, F units u of the scale, ``ulp`` floats for tables."""

    K: float
    F: float
    u: float
    ulp: float


@functools.cache
def read() -> dict:
    """The whole file."""
    return tomllib.loads(PATH.read_text(encoding="utf-8"))


def tolerance(precision: str = "float32", rule: str = "ratio") -> Tolerance:
    """The tolerance of a precision class under a rule. Raises KeyError for a class that is not in tolerances.toml.

    A class has numbers of its own but for free runs, whose heavy tails come from the run and not from the class.
    """
    numbers = read()
    of_class = {} if rule == "envelope" else numbers.get("class", {}).get(precision, {})
    ratio = numbers["ratio"] | numbers.get(rule, {}) | of_class
    return Tolerance(ratio["K"], ratio["F"], numbers["unit"][precision], numbers["ulp"]["limit"])
