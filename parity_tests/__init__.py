"""This project's checks with the harness `portparity`: does `ms_ddpm` compute what PyTorch computes?

`systems` has a folder for each system: what is compared, the legs of each framework, the float64 truth, the bugs that
must be found. `cases`, `backends` and `mutants` are those of all systems, `oracle` the formulas that several need,
`tolerances.toml` the numbers. The harness is told here what of it is this project's.
"""

import warnings
from pathlib import Path

import portparity
from portparity import backends, tolerances
from portparity.mutants import editing

from . import _moved  # noqa: F401  finds old names

tolerances.use(Path(__file__).with_name("tolerances.toml"))
backends.register(
    numpy="parity_tests.backends.on_numpy", torch="parity_tests.backends.on_torch",
    mindspore="parity_tests.backends.on_mindspore", diffusers="parity_tests.backends.on_diffusers",
)  # fmt: skip
editing.HOLDERS.update(
    ("torch_ref", "ms_ddpm", "parity_tests.backends", "parity_tests.systems", "portparity", "scripts")
)


def __getattr__(name: str) -> object:
    """The names of `portparity` that were here, for one release."""
    if name not in portparity.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"parity_tests.{name} is portparity.{name} now", DeprecationWarning, stacklevel=2)
    return getattr(portparity, name)
