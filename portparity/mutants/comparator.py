"""Tamperings: what is done to the outputs of a correct leg, and the comparison must not overlook.

`sample` makes a computation whose reference is right, with tensors that give each tampering something to hide in: equal
shapes, square images, NaN and Inf where they belong, many elements, a scalar.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..case import Arrays, Case, Computation
from ..runner import Outcome, record, run

Outputs = dict[str, np.ndarray]


def _inputs() -> Arrays:
    rng = np.random.default_rng(0)
    holes = rng.standard_normal((5, 6), dtype=np.float32)
    holes[0, 0], holes[1, 1], holes[2, 2] = np.nan, np.inf, -np.inf
    return {
        "images": rng.standard_normal((4, 4, 4, 4), dtype=np.float32),
        "others": rng.standard_normal((4, 4, 4, 4), dtype=np.float32),
        "matrix": rng.standard_normal((6, 6), dtype=np.float32),
        "rows": np.tile(rng.standard_normal((1, 8), dtype=np.float32), (4, 1)),
        "many": rng.standard_normal(100_000, dtype=np.float32),
        "scalar": np.float32(rng.standard_normal()),
        "holes": holes,
        "labels": np.arange(10, dtype=np.int32),
    }


def _leg(dtype: type) -> Callable[[Arrays], Outputs]:
    """x -> x / 3, integers as they are: one rounding in float32."""

    def compute(inputs: Arrays) -> Outputs:
        return {k: np.asarray(v if v.dtype.kind == "i" else v.astype(dtype) / dtype(3)) for k, v in inputs.items()}

    return compute


def sample(tamper: Callable[[Outputs], Outputs] = lambda outputs: outputs) -> Case:
    """A case whose candidate is the reference with ``tamper`` done to its outputs."""
    correct = _leg(np.float32)
    tampered = {"torch": lambda inputs: tamper(correct(inputs))}
    return Case("sample", "0", Computation("sample", _inputs, _leg(np.float64), (correct,), tampered))


def outcome_of_tampering(tamper: Callable[[Outputs], Outputs]) -> Outcome:
    """What the harness says of ``tamper``."""
    (outcome,) = run([sample(tamper)], "torch", recorded=record)
    return outcome


def on(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Outputs], Outputs]:
    """A tampering of one tensor."""
    return lambda outputs: {**outputs, name: np.asarray(change(outputs[name].copy()))}


def put(name: str, index: tuple[int, ...], value: float) -> Callable[[Outputs], Outputs]:
    """A tampering of one element."""

    def change(x: np.ndarray) -> np.ndarray:
        x[index] = value
        return x

    return on(name, change)


def swapped_places(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> Callable[[Outputs], Outputs]:
    """A tampering that exchanges two elements."""

    def change(x: np.ndarray) -> np.ndarray:
        x[a], x[b] = x[b].copy(), x[a].copy()
        return x

    return on(name, change)


def _one_larger(x: np.ndarray) -> np.ndarray:
    x[np.argmin(np.abs(np.abs(x) - 0.3))] *= np.float32(1.001)
    return x


def _without(outputs: Outputs, *names: str) -> Outputs:
    return {name: value for name, value in outputs.items() if name not in names}


# fmt: off
TAMPERINGS: dict[str, Callable[[Outputs], Outputs]] = {
    "two axes permuted": on("images", lambda x: x.transpose(0, 1, 3, 2)),
    "channels last": on("images", lambda x: x.transpose(0, 2, 3, 1)),
    "matrix transposed": on("matrix", lambda x: x.T),
    "image flipped": on("images", lambda x: x[..., ::-1]),
    "batch in reverse": on("images", lambda x: x[::-1]),
    "first image for all": on("images", lambda x: np.repeat(x[:1], len(x), 0)),
    "shifted by one pixel": on("images", lambda x: np.roll(x, 1, -1)),
    "sorted": on("many", np.sort),
    "sign": on("images", np.negative),
    "all zeros": on("images", np.zeros_like),
    "all ones": on("images", np.ones_like),
    "the input itself": on("images", lambda x: x * np.float32(3)),
    "a millionth too large": on("many", lambda x: x * np.float32(1 + 1e-6)),
    "a millionth added": on("many", lambda x: x + np.float32(1e-6)),
    "one element of 100,000 wrong by a thousandth": on("many", _one_larger),
    "two elements exchanged": swapped_places("many", (0,), (1,)),
    "rounded to float16 and back": on("many", lambda x: x.astype(np.float16).astype(np.float32)),
    "rounded to bfloat16 and back": on("many", lambda x: (x.view(np.uint32) & 0xFFFF0000).view(np.float32)),
    "one NaN": put("images", (1, 2, 3, 0), np.nan),
    "all NaN": on("images", lambda x: np.full_like(x, np.nan)),
    "Inf for a large value": put("images", (1, 2, 3, 0), np.inf),
    "a large value for Inf": put("holes", (1, 1), 3e38),
    "0 for NaN": put("holes", (0, 0), 0.0),
    "NaN on both sides at different places": swapped_places("holes", (0, 0), (4, 4)),
    "Inf on both sides at different places": swapped_places("holes", (1, 1), (4, 4)),
    "sign of Inf": put("holes", (1, 1), -np.inf),
    "NaN for Inf": put("holes", (1, 1), np.nan),
    "an output missing": lambda outputs: _without(outputs, "matrix"),
    "the last output missing": lambda outputs: _without(outputs, list(outputs)[-1]),
    "an output too many": lambda outputs: {**outputs, "extra": np.zeros(3, np.float32)},
    "an output called otherwise": lambda outputs: {**_without(outputs, "matrix"), "Matrix": outputs["matrix"]},
    "names of two tensors swapped": lambda o: {**o, "images": o["others"], "others": o["images"]},
    "no output": lambda outputs: {},
    "a row for equal rows": on("rows", lambda x: x[:1]),
    "a row without its axis": on("rows", lambda x: x[0]),
    "an axis of length 1": on("scalar", lambda x: x.reshape(1)),
    "flattened": on("images", np.ravel),
    "cut short": on("many", lambda x: x[:-1]),
    "nothing in it": on("many", lambda x: x[:0]),
    "cast to float64": on("images", lambda x: x.astype(np.float64)),
    "cast to float16": on("images", lambda x: x.astype(np.float16)),
    "integers as floats": on("labels", lambda x: x.astype(np.float32)),
    "integers of another width": on("labels", lambda x: x.astype(np.int64)),
    "an integer off by one": put("labels", (3,), 4),
}
# fmt: on
