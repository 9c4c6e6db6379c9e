"""Everything that must happen before MindSpore starts: device, oneDNN, threads, execution mode.

`setup` is the one call of a program; `prepare_cpu` alone runs when `ms_ddpm` is used as a library. This module
imports MindSpore only inside functions, so that ``--help`` and errors about options answer at once.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import UserError, first_line
from ..ops import compile_cache, source_lines
from . import cuda_wheels, precision

log = logging.getLogger("ms_ddpm")

DEVICES = ("CPU", "GPU", "Ascend")
ISA_VARIABLE = "MS_DDPM_ONEDNN_ISA"  # "keep": leave oneDNN alone
JIT_LEVEL = "O0"
_DNNL_CPU_ISA_AVX2 = 0x7  # oneDNN's dnnl_cpu_isa_avx2

_graph_mode = True
_cpu_prepared = False
_onednn_capped = False
_threads: int | None = None


def mindspore_root() -> Path:
    """Directory of the installed MindSpore, found without importing it."""
    spec = importlib.util.find_spec("mindspore")
    if spec is None or spec.origin is None:
        raise UserError("MindSpore is not installed; run: pip install -c constraints.txt mindspore")
    return Path(spec.origin).parent


def _has_avx512() -> bool:
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def cap_onednn() -> bool:
    """Keeps MindSpore's oneDNN off its reference convolution on AVX-512 machines; True where it did.

    Why: MindSpore >= 2.9 asks oneDNN 3.x for plain NCHW layouts, for which oneDNN's only AVX-512 convolution is a
    scalar loop, 60 to 100 times slower than the AVX2 one (2.9, 2.10 measured). The cap is set through the C function of
    the library inside MindSpore's own wheel, so PyTorch in the same process keeps its AVX-512: the variable
    ONEDNN_MAX_CPU_ISA would slow it too. It must come before the first convolution. Needed as long as
    `tests/devices/test_runtime.py::test_onednn_cap_is_still_needed` finds it so.
    """
    if os.environ.get(ISA_VARIABLE, "").lower() == "keep" or "ONEDNN_MAX_CPU_ISA" in os.environ:
        return False
    libraries = sorted(mindspore_root().glob("lib/libdnnl.so*"))
    if not libraries or not _has_avx512():
        return False
    library = ctypes.CDLL(str(libraries[0]))
    global _onednn_capped
    _onednn_capped = library.dnnl_set_max_cpu_isa(_DNNL_CPU_ISA_AVX2) == 0
    return _onednn_capped


def onednn_is_capped() -> bool:
    """Whether `cap_onednn` held MindSpore's oneDNN at AVX2 in this process."""
    return _onednn_capped


@functools.cache
def warn_of_slow_convolutions() -> None:
    """Says, once, where MindSpore's own convolutions run by oneDNN's reference loop.

    Called where a network is made that runs by them: to one that has the C++ kernels, which bring a oneDNN of their
    own, and where `cap_onednn` did its work, it is of no concern.
    """
    if _onednn_capped or not _has_avx512() or "ONEDNN_MAX_CPU_ISA" in os.environ:
        return
    if os.environ.get(ISA_VARIABLE, "").lower() == "keep":
        reason = f"{ISA_VARIABLE}=keep leaves MindSpore's oneDNN at AVX-512; unset it"
    else:
        reason = "nothing holds MindSpore's oneDNN at AVX2; call ms_ddpm.runtime.setup('CPU') before the first network"
    log.warning("convolutions run 60 times slower here than they could: %s", reason)


def run_graphs_in_calling_thread() -> None:
    """Makes MindSpore run a compiled graph in the thread that calls it.

    Why: otherwise the caller waits in an empty loop (``AsyncRQueue::Wait``, 2.10) and takes one core from the two
    threads that compute: on two cores a training step took 220 to 350 ms instead of 93. CPU only; on GPU and Ascend
    the queue hides launch latency. Still needed? Train with MS_DEV_HOST_BLOCKING_RUN=0 and compare.
    """
    os.environ.setdefault("MS_DEV_HOST_BLOCKING_RUN", "1")


def prepare_cpu(only_cpu: bool = True) -> None:
    """The two CPU repairs, once a process. Called by `setup`, and by the first use of `ms_ddpm` as a library.

    ``only_cpu``: no GPU or Ascend device is going to compute, so graphs may run in the calling thread.
    """
    global _cpu_prepared
    if only_cpu:
        run_graphs_in_calling_thread()
    if _cpu_prepared:
        return
    _cpu_prepared = True
    os.environ.setdefault("GLOG_v", "3")  # MindSpore's start-up warnings
    cap_onednn()


def prepare_library() -> None:
    """What the first use of `ms_ddpm` without `setup` does: the CPU's repairs, unless the program chose another device.

    Before a choice, graphs run in the calling thread only where the machine has no accelerator to choose.
    """
    if "mindspore" in sys.modules and device_target() != "CPU":
        return
    prepare_cpu(only_cpu=not accelerator_present())


def use_cores(count: int, first: int = 0) -> None:
    """Keeps this process, and the threads it is going to start, on ``count`` of the cores it has, from ``first`` on.

    Why not ``ms.runtime.dispatch_threads_num``: with 2, 3 or 5 a training step of the digits took 1.1 to 2.7 times as
    long as without the call and was unsteady (2.10; its threads wait in empty loops). With 1 it changed nothing.
    """
    global _threads
    _threads = count
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if count < len(cores):
            os.sched_setaffinity(0, (cores + cores)[first : first + count])
    if "ms_ddpm.ops.kernel_library" in sys.modules:  # otherwise they ask `thread_count` when they start
        sys.modules["ms_ddpm.ops.kernel_library"].set_threads(count)


def thread_count() -> int:
    """CPU threads to compute with: what `setup` was told, or one per core that this process may use."""
    return _threads or len(os.sched_getaffinity(0))


def accelerator_present() -> bool:
    """Whether this machine shows an Ascend or NVIDIA device."""
    devices = Path("/dev")
    return any(devices.glob("davinci[0-9]*")) or any(devices.glob("nvidia[0-9]*"))


def device_target() -> str:
    """Where MindSpore computes, "CPU", "GPU" or "Ascend", whoever set it; the one place that asks.

    Networks, optimizers and graphs take their choice when they are made, so ``set_device`` comes before them.
    """
    return quietly_import().get_context("device_target")


def available_devices() -> list[str]:
    """The device targets that MindSpore can start here."""
    quietly_import()
    from mindspore import hal

    def answers(name: str) -> bool:
        try:
            return hal.is_available(name)
        except RuntimeError:  # 2.10 with the GPU plugin loaded and no GPU
            return False

    return [name for name in DEVICES if name == "CPU" or answers(name)]


def _plugin_error(device_target: str) -> str:
    """What MindSpore's loader said about a device's plugin, to follow a sentence; empty where it said nothing."""
    from mindspore._c_expression import MSContext

    lines = MSContext.get_instance().load_plugin_error().splitlines()
    said = [line for line in lines if f"libmindspore_{device_target.lower()}.so" in line]
    return f" ({said[-1].strip()})" if said else ""


def quietly_import() -> ModuleType:
    """Imports MindSpore without its start-up warnings (GLOG_v set by the user wins) and returns it.

    Its compile cache is off from then on: networks and graphs pass here when they are made, and so before they compile.
    """
    os.environ.setdefault("GLOG_v", "3")
    mindspore_root()  # says so where it is not installed
    import mindspore

    compile_cache.switch_off()
    source_lines.remember()
    return mindspore


def setup(
    device_target: str = "CPU",
    *,
    mode: int = 0,
    threads: int | None = None,
    device_id: int | None = None,
    seed: int | None = None,
    matmul_precision: str = "highest",
) -> None:
    """Starts MindSpore on ``device_target``; call it before the first tensor.

    Args:
        device_target: "CPU", "GPU" or "Ascend".
        mode: 0 compiles graphs, 1 runs operator by operator (PyNative) for debugging.
        threads: CPU cores to compute on (default: all that this process may use).
        device_id: which GPU or Ascend device.
        seed: for MindSpore's own generators. Nothing in `ms_ddpm` reads them (see `maths.random`); your code may.
        matmul_precision: "highest" or "high", see `ms_ddpm.devices.precision`.

    Raises:
        UserError: for a device that is unknown or not there; the message lists what is.
    """
    global _graph_mode
    match = {name.lower(): name for name in DEVICES}.get(device_target.lower())
    if match is None:
        raise UserError(f"device_target is {device_target!r}, expected one of: {', '.join(DEVICES)}")
    if mode not in (0, 1):
        raise UserError(f"mode is {mode}, expected 0 (graph) or 1 (PyNative)")
    if threads is not None:
        if threads < 1:
            raise UserError(f"threads is {threads}, expected at least 1")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if threads > cores:
            log.info("threads is %d, but this process may use %d cores: %d are used", threads, cores, cores)
        use_cores(min(threads, cores))
    if match == "CPU":
        prepare_cpu()
    elif match == "GPU":
        cuda_wheels.prepare(mindspore_root(), device_id)
    ms = quietly_import()
    dry_run = os.environ.get("MS_SIMULATION_LEVEL")  # of MindSpore, which compiles for an Ascend that is not there
    if match != "CPU" and not dry_run and match not in available_devices():
        raise UserError(
            f"device_target {match} is not available here; available: {', '.join(available_devices())}"
            f"{_plugin_error(match)}. What is missing: python -m ms_ddpm.doctor --device_target {match}"
        )
    try:
        ms.set_device(match, device_id) if device_id is not None else ms.set_device(match)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        # It cannot be said after the first kernel, of a notebook's cell say (2.10), and need not where it is this one.
        if device_id is not None or not has_started_as(ms, match, error):
            raise UserError(f"device_target {match} could not be started: {first_line(error)}") from None
    precision.set_matmul_precision(ms, match, matmul_precision)  # after set_device, before any kernel
    ms.set_context(mode=ms.GRAPH_MODE if mode == 0 else ms.PYNATIVE_MODE)
    if seed is not None:
        ms.set_seed(seed % 2**32)  # all that it takes
    _graph_mode = mode == 0


def has_started_as(ms: ModuleType, target: str, error: Exception) -> bool:
    """Whether ``error`` says that MindSpore runs already, and it does so on ``target``."""
    return "has been initialized" in str(error) and ms.get_context("device_target") == target


def compiled(function: Callable) -> Callable:
    """``function`` as one compiled graph, or unchanged when `setup` was called with mode 1.

    ``jit_level`` is said, not left to the default: O0 launches the operators of the graph one by one, as they stand,
    on every device. O1 fuses them (experimental) and so rounds otherwise, and O2, the graph sunk whole onto an Ascend
    device by GE, is no level of ``ms.jit`` any more (2.10).
    """
    if not _graph_mode:
        return function
    return quietly_import().jit(function, jit_level=JIT_LEVEL)


class OwnGraphs(dict):
    """What a Cell keeps its `compiled` graphs in, by name.

    A graph reads the parameters of the Cell that it was made for, and ``copy.deepcopy`` gives functions back as they
    are: the copy of a Cell would go on sampling with the weights of the first. So a copy begins without graphs.
    """

    def made(self, name: Hashable, make: Callable[..., Callable], *args: Any) -> Callable:
        """The graph ``name``: ``make(*args)``, `compiled` when it is first asked for."""
        if name not in self:
            self[name] = compiled(make(*args))
        return self[name]

    def __deepcopy__(self, memo: dict) -> OwnGraphs:
        return OwnGraphs()


@contextmanager
def execution_mode(mode: int) -> Iterator[None]:
    """Inside the ``with`` block `compiled` behaves as after ``setup(mode=mode)``; what was compiled stays so."""
    global _graph_mode
    before, _graph_mode = _graph_mode, mode == 0
    try:
        yield
    finally:
        _graph_mode = before


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MiB.

    Linux's getrusage counts what the process had in common with the one that started it, so /proc is asked first.
    """
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform != "darwin" else 1024**2)
