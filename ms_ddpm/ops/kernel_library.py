"""The library of C++ kernels: found, checked against this MindSpore and started, or why it cannot be used.

What is in it: `ops/kernels.py`, `ops/conv_kernels.py`.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mindspore as ms

from ..devices import runtime
from ..devices.runtime import mindspore_root, onednn_is_capped, thread_count
from ..errors import UserError

log = logging.getLogger("ms_ddpm")

VARIABLE = "MS_DDPM_KERNELS"  # "0": do without; "avx2" or "base": use no later instruction set
VERSION = 5  # ms_ddpm_kernels_version of csrc/kernels.cpp
MINDSPORE_VERSIONS = ("2.9", "2.10", "2.11")
_ONEDNN_THREADPOOL = 8  # dnnl_version()->cpu_runtime of a oneDNN that takes our threads
_ISA_LIMITS = {"": 2, "1": 2, "avx512": 2, "avx2": 1, "base": 0}
_ONEDNN_ISA = {2: 0, 1: 0x7, 0: 0x1}  # dnnl_cpu_isa: as it is, AVX2, SSE 4.1


class _OneDnnVersion(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int), ("hash", ctypes.c_char_p),
        ("cpu_runtime", ctypes.c_uint), ("gpu_runtime", ctypes.c_uint),
    )  # fmt: skip


def library_path() -> Path | None:
    """The built library, None where there is none."""
    found = sorted(Path(__file__).parent.glob("_kernels*.so"))
    return found[0] if found else None


def _onednn() -> tuple[str, str]:
    """(a path to load oneDNN from, what is wrong with it or nothing)."""
    libraries = sorted(mindspore_root().glob("lib/libdnnl.so*"))
    if not libraries:
        return "", "this MindSpore brings no oneDNN"
    path = str(libraries[0])
    library = ctypes.CDLL(path)
    library.dnnl_version.restype = ctypes.POINTER(_OneDnnVersion)
    version = library.dnnl_version().contents
    if version.major != 3 or version.cpu_runtime != _ONEDNN_THREADPOOL:
        return "", f"oneDNN {version.major}.{version.minor} of this MindSpore is not one they know (3.x, thread pool)"
    return (_private_copy(path) if onednn_is_capped() else path), ""


def _private_copy(path: str) -> str:
    """A copy of a library in memory, with state of its own.

    Why: MindSpore's oneDNN is held at AVX2 for the sake of stock convolutions (`runtime.cap_onednn`), for the whole
    library. Loaded a second time, from another file, it has AVX-512. The file is gone with the process.
    """
    descriptor = os.memfd_create("onednn")
    with open(path, "rb") as source:
        while block := source.read(1 << 22):
            os.write(descriptor, block)
    return f"/proc/self/fd/{descriptor}"


class Unavailable(Exception):
    """Why the kernels cannot be used."""


@functools.cache
def _load() -> ctypes.CDLL:
    """The library, started. Raises Unavailable."""
    wanted = os.environ.get(VARIABLE, "").lower()
    if wanted == "0":
        raise Unavailable(f"switched off by {VARIABLE}=0")
    if wanted not in _ISA_LIMITS:
        raise Unavailable(f"{VARIABLE} is {wanted!r}, expected 0, 1, {', '.join(k for k in _ISA_LIMITS if len(k) > 1)}")
    path = library_path()
    if path is None:
        raise Unavailable("they are not built; where there is a C++ compiler, run: pip install --no-deps -e .")
    if ".".join(ms.__version__.split(".")[:2]) not in MINDSPORE_VERSIONS:
        raise Unavailable(f"MindSpore {ms.__version__} is not one they were made for ({', '.join(MINDSPORE_VERSIONS)})")
    try:
        library = ctypes.CDLL(str(path))
        built = library.ms_ddpm_kernels_version()
    except (OSError, AttributeError) as error:
        raise Unavailable(f"{path.name} cannot be loaded: {error}") from None
    if built != VERSION:
        raise Unavailable(f"{path.name} is of another version of ms_ddpm; install again")
    onednn, problem = _onednn()
    if problem:
        raise Unavailable(problem)
    library.ms_ddpm_kernels_start.restype = ctypes.c_char_p
    library.ms_ddpm_kernels_isa.restype = ctypes.c_char_p
    limit = _ISA_LIMITS[wanted]
    problem = library.ms_ddpm_kernels_start(onednn.encode(), thread_count(), _ONEDNN_ISA[limit]).decode()
    if problem:
        raise Unavailable(f"MindSpore's oneDNN does not serve them: {problem}")
    library.isa = library.ms_ddpm_kernels_isa(limit).decode()
    return library


_off = False


@contextmanager
def switched_off() -> Iterator[None]:
    """What is built inside the ``with`` block does without the kernels."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


def why_not() -> str:
    """Why the kernels are not used, in a few words; nothing where they are."""
    if _off:
        return "switched off by the program"
    if runtime.device_target() != "CPU":
        return "they are for CPU"
    try:
        _load()
    except Unavailable as reason:
        return str(reason)
    return ""


@functools.cache
def _say_once(reason: str) -> None:
    if runtime.device_target() == "CPU":
        log.warning("without the C++ kernels a training step takes two to three times as long: %s", reason)


def available() -> bool:
    """Whether the kernels can be used; where they cannot, one line says why, once."""
    reason = why_not()
    if reason:
        _say_once(reason)
    return not reason


def isa() -> str:
    """The instruction set the kernels use: "avx512", "avx2" or "base"."""
    return _load().isa


def set_threads(count: int) -> None:
    """How many threads the kernels use (they start with one per core).

    Results do not depend on it, but for convolutions' gradients: oneDNN cuts their sums into as many parts as there are
    threads, which moves them by a rounding or two.
    """
    if count < 1:
        raise UserError(f"threads is {count}, expected at least 1")
    if _load.cache_info().currsize:  # running; otherwise they start with `runtime.thread_count`
        _load().ms_ddpm_kernels_set_threads(count)


@contextmanager
def profile() -> Iterator[list[tuple[str, int, float]]]:
    """Counts every operator inside the ``with`` block; then the list holds (operator and shape, calls, seconds)."""
    library, rows = _load(), []
    library.ms_ddpm_kernels_spent.restype = ctypes.c_char_p
    library.ms_ddpm_kernels_profile(1)
    try:
        yield rows
    finally:
        library.ms_ddpm_kernels_profile(0)
        for line in library.ms_ddpm_kernels_spent().decode().splitlines():
            name, calls, seconds = line.split("\t")
            rows.append((name, int(calls), float(seconds)))
        rows.sort(key=lambda row: -row[2])
