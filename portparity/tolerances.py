"""The numbers of the verdict: the method's own, or those of a project's tolerances.toml."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from .errors import HarnessError

# K and F by rule, `verdict` says what they do; units are the spacing of floats just above 1, halved
DEFAULTS = {
    "ratio": {"K": 4.0, "F": 4.0},
    "layers": {"K": 4.0},  # of nine runs of the reference
    "few": {"K": 8.0},  # the same of fewer: of a bundle, of a layer that is looked for
    "check": {"K": 4.0, "F": 8.0},  # `check`, which runs the reference nine times
    "envelope": {"K": 8.0},
    "ulp": {"limit": 1.0},
    "unit": {
        "float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11, "hf32": 2.0**-12, "float16": 2.0**-11,
        "bfloat16": 2.0**-8,
    },
}  # fmt: skip
REFERENCES = 9  # runs of the reference by which layers and networks are judged: then K = 4 raises no alarm
_chosen: list[Path] = []  # the file that `use` named last


class Tolerance(NamedTuple):
    """The numbers of one precision class: K references, F units u of the scale, ``ulp`` floats for tables."""

    K: float
    F: float
    u: float
    ulp: float


def use(file: str | Path) -> None:
    """From here on the numbers are those of the file ``file``, which has the tables of `DEFAULTS` and ``evidence``."""
    _chosen[:] = [Path(file)]
    read.cache_clear()


def path() -> Path:
    """The project's file. Raises HarnessError where none was named."""
    if not _chosen:
        raise HarnessError("no tolerances.toml was named: portparity.tolerances.use(PATH)")
    return _chosen[0]


@functools.cache
def read() -> dict:
    """All of it."""
    if not _chosen:
        return DEFAULTS
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    return tomllib.loads(path().read_text(encoding="utf-8"))


def tolerance(precision: str = "float32", rule: str = "ratio") -> Tolerance:
    """The tolerance of a precision class under a rule. Raises KeyError for a class that has no unit.

    A class has numbers of its own but for free runs, whose heavy tails come from the run and not from the class.
    """
    numbers = read()
    of_class = {} if rule == "envelope" else numbers.get("class", {}).get(precision, {})
    ratio = numbers["ratio"] | numbers.get(rule, DEFAULTS.get(rule, {})) | of_class
    return Tolerance(ratio["K"], ratio["F"], numbers["unit"][precision], numbers["ulp"]["limit"])
