"""This project's checks with the harness `portparity`: does `ms_ddpm` compute what PyTorch computes?

`cases` holds what is compared, `backends` the legs of each framework, `oracle` the float64 truth, `mutants` the bugs
that must be found, `tolerances.toml` the numbers. The harness is told here what of it is this project's.
"""

import warnings
from pathlib import Path

import portparity
from portparity import backends, tolerances
from portparity.mutants import editing

tolerances.use(Path(__file__).with_name("tolerances.toml"))
backends.register(
    numpy="parity_tests.backends.on_numpy", torch="parity_tests.backends.on_torch",
    mindspore="parity_tests.backends.on_mindspore", diffusers="parity_tests.backends.on_diffusers",
)  # fmt: skip
editing.HOLDERS.update(("torch_ref", "ms_ddpm", "parity_tests.backends", "portparity", "scripts"))


def __getattr__(name: str) -> object:
    """The names of `portparity` that were here, for one release."""
    if name not in portparity.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"parity_tests.{name} is portparity.{name} now", DeprecationWarning, stacklevel=2)
    return getattr(portparity, name)
