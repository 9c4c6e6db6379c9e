"""Starts a device in a process of its own and lets it multiply and convolve numbers whose result is known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .machine import MISSING, NOTE, OK, Finding

PATIENCE = {"CPU": 300.0, "GPU": 3000.0, "Ascend": 1200.0}  # seconds; a GPU may have all its kernels to translate


def compute(device_target: str) -> dict:
    """Starts MindSpore on a device and computes. Returns seconds taken and why the C++ kernels are not used.

    Small whole numbers, whose sums stay under 2048: every precision a device may choose (TF32, HF32, float16) is exact.

    Raises:
        UserError: the device cannot be started.
        ArithmeticError: it computed something else.
    """
    import numpy as np

    from ..devices import runtime

    began = time.perf_counter()
    runtime.setup(device_target)
    import mindspore as ms
    from mindspore import ops

    started = time.perf_counter()
    rng = np.random.default_rng(0)
    a, b, x, w = (
        rng.integers(-3, 4, shape).astype(np.float32) for shape in ((32, 64), (64, 16), (2, 16, 8, 8), (4, 16, 3, 3))
    )
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    convolved = np.einsum("bchwij,ocij->bohw", windows, w)
    convolution = ops.Conv2D(4, 3, pad_mode="pad", pad=1)
    for name, actual, expected in (
        ("matrix product", ops.MatMul()(ms.Tensor(a), ms.Tensor(b)), a @ b),
        ("convolution", convolution(ms.Tensor(x), ms.Tensor(w)), convolved),
    ):
        if not np.array_equal(actual.asnumpy(), expected):
            off = np.abs(actual.asnumpy() - expected).max()
            raise ArithmeticError(f"a {name} of whole numbers is wrong by up to {off}")
    kernels = ""
    if device_target == "CPU":
        from ..ops import kernels as compiled

        kernels = compiled.why_not() or f"in use ({compiled.isa()})"
    return {"start": started - began, "compute": time.perf_counter() - started, "kernels": kernels}


def start(device_target: str, timeout: float | None = None) -> list[Finding]:
    """Findings about starting ``device_target``: ok with the time it took, or missing with the last words."""
    root = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.insert(0, {root!r}); from ms_ddpm.doctor import start; start.main({device_target!r})"
    patience = PATIENCE[device_target] if timeout is None else timeout
    with tempfile.TemporaryDirectory() as folder:  # MindSpore writes into the working directory when it fails
        try:
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, errors="replace", timeout=patience,
                cwd=folder, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            words = f"{device_target} did not start within {patience:g} s"
            return [Finding(MISSING, words, f"python -m ms_ddpm.doctor --device_target {device_target} --timeout 6000")]
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"start"')]
    if done.returncode == 0 and lines:
        result = json.loads(lines[-1])
        took = f"start {result['start']:.1f} s, first operators {result['compute']:.1f} s"
        findings = [Finding(OK, f"{device_target} computes: matrix product and convolution right ({took})")]
        if result["kernels"]:
            state = OK if result["kernels"].startswith("in use") else NOTE
            findings.append(Finding(state, f"C++ kernels: {result['kernels']}"))
        return findings
    if done.returncode < 0:
        words = f"ended by {signal.Signals(-done.returncode).name}"
    else:
        words = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no message")
    return [
        Finding(MISSING, f"{device_target} does not start: {words}", f"{sys.executable} -c '{_rerun(device_target)}'")
    ]


def _rerun(device_target: str) -> str:
    return f'from ms_ddpm.doctor import start; print(start.compute("{device_target}"))'


def main(device_target: str) -> None:
    """Prints `compute`'s result as a line of JSON; a failure as the last line of standard error."""
    try:
        print(json.dumps(compute(device_target)), flush=True)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip(" -")]
        print(f"{type(error).__name__}: {' '.join(lines[:2])}", file=sys.stderr, flush=True)
        os._exit(1)  # MindSpore's own clean-up may write more
