"""The code whose results are kept: what computes the inputs, the truth and the references of this project's cases."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRUSTED = (
    "torch_ref", "portparity/on_torch.py", "portparity/rounded_products.py", "parity_tests/oracle",
    "parity_tests/backends/on_torch", "parity_tests/backends/shared_torch.py",
    "parity_tests/backends/on_numpy.py", "parity_tests/backends/numpy_score.py",
    "parity_tests/backends/numpy_corruption.py", "parity_tests/backends/_schedulers.py",
    "parity_tests/backends/_first_ddpm.py",
)  # fmt: skip
SOURCES = tuple(ROOT / place for place in TRUSTED)
