"""The code whose results are kept: what computes the inputs, the truth and the references of this project's cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_TRUSTED = ("cases", "peers", "mutants", "on_mindspore", "on_diffusers")  # parts of a system: see `systems`


def of_systems(wanted: Callable[[str], bool]) -> tuple[str, ...]:
    """The files and folders of all systems whose names, without ".py", are ``wanted``, from `ROOT` on."""
    found = sorted((ROOT / "parity_tests/systems").glob("*/*"))
    there = [path for path in found if path.suffix == ".py" or (path / "__init__.py").exists()]
    return tuple(path.relative_to(ROOT).as_posix() for path in there if wanted(path.stem))


TRUSTED = (
    "torch_ref", "portparity/dtypes.py", "portparity/on_torch.py", "portparity/rounded_products.py",
    "parity_tests/oracle", "parity_tests/backends/on_torch.py", "parity_tests/backends/shared_torch.py",
    "parity_tests/backends/on_numpy.py",
    "parity_tests/systems/__init__.py", *of_systems(lambda part: part not in NOT_TRUSTED),
)  # fmt: skip
SOURCES = tuple(ROOT / place for place in TRUSTED)
