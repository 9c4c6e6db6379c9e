"""The trusted side: the original, run here, or what was recorded of it where PyTorch is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BundleError, HarnessError
from ..ports import sources_of
from ..sides import recorded, side_of
from ..sides.side import Given
from ..sources import hash_of
from .bench import Options, Trusted, attempt, given_of, name_of


def trusted_of(original: Any, precision: str, inputs: Any, options: Options) -> Trusted:
    """The trusted side: the original's, run here, or what was recorded of it."""
    if isinstance(original, str | Path) and (Path(original) / "manifest.json").is_file():
        return recalled(Path(original), inputs)
    if inputs is None:
        raise HarnessError("inputs are missing: numpy arrays by argument name, or in order")
    given = given_of(inputs, precision)
    reference = attempt("the original", lambda: side_of(original, precision))
    try:
        truth = attempt("the original in double", lambda: side_of(original, "float64", reference))
    except BaseException:
        reference.close()
        raise
    return Trusted(truth, reference, given, options, name_of(reference, original))


def recalled(folder: Path, inputs: Any) -> Trusted:
    """What `record` wrote. Raises BundleError where it is of other code or other inputs."""
    about, sides, made_with = recorded.read(folder)
    for file, code in about["code"].items():
        if Path(file).is_file() and hash_of([Path(file)]) != code:
            raise BundleError(f"{folder} is stale: {file} has changed since it was recorded; record it anew")
    given = about["given"]
    if inputs is not None and not same_given(given, given_of(inputs, sides["reference"].precision)):
        raise BundleError(f"{folder} was recorded from other inputs; leave them out, or record it anew")
    options = Options(**{**about["options"], "scales": tuple(about["options"]["scales"])})
    note = f"the original's answers were recorded with torch {made_with['torch']} and numpy {made_with['numpy']}"
    return Trusted(sides["truth"], sides["reference"], given, options, about["name"], (note,))


def same_given(a: Given, b: Given) -> bool:
    """Whether two sets of arguments are the same, number for number."""
    return a.shape == b.shape and all(
        x.dtype == y.dtype and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for x, y in zip(a.arrays, b.arrays, strict=True)
    )


def written(folder: Path, asked: Trusted, original: Any, sides: Mapping[str, recorded.Recording]) -> None:
    """Writes what ``sides`` of ``original`` answered."""
    about = {
        "options": asdict(asked.options), "name": asked.name, "given": asked.given,
        "code": {str(path): hash_of([path]) for path in sources_of(original)},
    }  # fmt: skip
    recorded.write(folder, sides, about)
