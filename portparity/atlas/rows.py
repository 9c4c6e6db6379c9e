"""A row of the atlas: one operator, one precision, one part (the result or a gradient), one way to run it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

CRASHES, WRONG, DIFFERS, IMPRECISE, UNSUPPORTED, AGREES = (
    "crashes", "wrong", "differs", "imprecise", "not on CPU", "agrees",
)  # fmt: skip
VERDICTS = {  # in the order in which one wants to know of them
    CRASHES: "ended the process, or did not come back",
    WRONG: "ordinary numbers come out wrong, not only imprecise",
    DIFFERS: "another meaning: NaN, Inf, ties, signs, defaults, shapes, modes",
    IMPRECISE: "more than 4 units off, and more than 4 times as far as PyTorch",
    UNSUPPORTED: "raises on the CPU; where it is PyTorch that raises, the row says so",
    AGREES: "within 4 units of the float64 value, or not 4 times as far off as PyTorch",
}


@dataclass
class Row:
    """What was found. Numbers are of MindSpore, those called torch_ of PyTorch, both against PyTorch in float64."""

    operator: str
    dtype: str
    mode: str  # "pynative", "graph", or "both" where the two show the same
    part: str  # "y", "grad x", or what a difference is about
    verdict: str
    said: str = ""
    measure: str = "ulp"  # or "rms", for sums: rms of the error over rms of the truth, in roundings
    ulp: float | None = None  # worst over ordinary values
    torch_ulp: float | None = None
    extreme_ulp: float | None = None  # worst over values up to 100, tiny, huge and special ones
    torch_extreme_ulp: float | None = None
    extreme: str = ""  # in which of them
    units: float | None = None  # rms over ordinary values
    torch_units: float | None = None
    subnormal: str = ""  # what becomes of subnormal numbers: "kept", "0"; for float32 and bfloat16
    where: str = ""  # arguments of the worst, or of what is said
    mindspore: str = ""
    torch: str = ""
    truth: str = ""
    ours: str = ""  # expressions
    theirs: str = ""
    calls: int = 1  # after how many it shows
    is_words: bool = False  # of `differences`: the expressions need no arguments
    region: str = ""  # which arguments ``where`` is about
    at: int = 0  # place of the worst in the result, flat; 0 where one number is given many times
    cotangent: str = ""  # expression for what a gradient is multiplied by
    reproducer: str = ""

    @property
    def offence(self) -> float:
        """How many times as far off as PyTorch, or 0; infinite where no number says it."""
        if self.verdict in (AGREES, UNSUPPORTED):
            return 0.0
        if self.verdict in (CRASHES, WRONG, DIFFERS):
            return math.inf
        pairs = [(self.units, self.torch_units), (self.extreme_ulp, self.torch_extreme_ulp)]
        pairs += [(self.ulp, self.torch_ulp)] if self.measure == "ulp" else []
        return max((a or 0) / max(b or 0, 1) for a, b in pairs)

    def as_json(self) -> dict:
        """Plain values; an infinity as text, which JSON lacks."""
        return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict) -> Row:
        """The row of `as_json`."""
        numbers = ("ulp", "torch_ulp", "extreme_ulp", "torch_extreme_ulp", "units", "torch_units")
        return cls(**{k: float(v) if k in numbers and v is not None else v for k, v in values.items()})
