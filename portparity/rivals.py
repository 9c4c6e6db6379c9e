"""The rules by which others decide that two tensors are equal, to be compared with ours (`portparity.verdict`).

Each is a function (candidate, reference) -> whether the tensor passes, on two float32 arrays: none of them knows a
float64 value. A case passes where all of its tensors do. Other shapes never pass here, though some of these rules
broadcast; a tensor of the reference that is missing does not pass, and an extra one is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

OURS = "float64-oracle ratio"
Rule = Callable[[np.ndarray, np.ndarray], bool]


def _wide(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float64).ravel()


def cosine(candidate: np.ndarray, reference: np.ndarray) -> bool:
    """msprobe: cosine at least .9, or .99 where an element is off by more than .001; and no element off by more than 1.

    https://www.hiascend.com/doc_center/source/zh/canncommercial/700/modeldevpt/ptmigr/AImpug_000197.html
    """
    a, b = _wide(candidate), _wide(reference)
    largest = np.max(np.abs(a - b), initial=0.0)
    if largest == 0:
        return True
    similarity = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    return bool(largest <= 1 and similarity >= (0.99 if largest > 1e-3 else 0.9))


def relative_frobenius(candidate: np.ndarray, reference: np.ndarray) -> bool:
    """mindone's tests of its models: ||a - b|| / ||b|| < 5e-3 in float32."""
    a, b = _wide(candidate), _wide(reference)
    error = np.linalg.norm(a - b)
    return bool(error == 0 or error < 5e-3 * np.linalg.norm(b))


def mean_within(atol: float, rtol: float) -> Rule:
    """PaDiff's ``compare_mode="mean"``: of both tensors only the mean is looked at."""

    def passes(candidate: np.ndarray, reference: np.ndarray) -> bool:
        a, b = np.mean(_wide(candidate)), np.mean(_wide(reference))
        return bool(abs(a - b) <= atol + rtol * abs(b))

    return passes


def all_within(atol: float, rtol: float) -> Rule:
    """|a - b| <= atol + rtol |b|, elementwise."""

    def passes(candidate: np.ndarray, reference: np.ndarray) -> bool:
        return bool(np.allclose(_wide(candidate), _wide(reference), rtol=rtol, atol=atol))

    return passes


RIVALS: dict[str, Rule] = {
    "cosine > .99 (msprobe)": cosine,
    "relative Frobenius < 5e-3 (mindone)": relative_frobenius,
    "mean, atol 1e-4 (PaDiff README)": mean_within(1e-4, 1e-7),
    "allclose 1e-4 (TroubleShooter)": all_within(1e-4, 1e-4),
    "assert_close float32": all_within(1e-5, 1.3e-6),
    "mean, rtol 1e-7 (PaDiff default)": mean_within(0.0, 1e-7),
}
RULES = (OURS, *RIVALS)


def passes(rule: str, candidate: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> bool:
    """Whether every tensor of ``reference`` passes the rival ``rule``."""
    with np.errstate(all="ignore"):
        return all(
            name in candidate and candidate[name].shape == value.shape and RIVALS[rule](candidate[name], value)
            for name, value in reference.items()
        )
