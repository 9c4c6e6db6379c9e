"""The NVIDIA driver, asked directly through its library: is it there, how new is it, which GPUs does it show.

`python -m ms_ddpm.devices.nvidia` prints the answer as JSON: a process of its own, for those who fear that a broken
driver takes them down with it.
"""

from __future__ import annotations

import ctypes
import json
from dataclasses import asdict, dataclass
from pathlib import Path

LIBRARY = "libcuda.so.1"
OLDEST_CUDA = (11, 0)  # what a driver must know for the libraries of any CUDA 11 (minor version compatibility)
OLDEST_CAPABILITY = (6, 0)  # libcuda_ops.so.11 of MindSpore 2.10 holds sm_60, 61, 70, 75, 80 and PTX of 60 and 86
NEWEST_MACHINE_CODE = 8  # major capability of the newest machine code in it; later GPUs translate PTX when they start

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute
_PROBLEMS = {  # CUresult of cuInit
    3: "the driver is not running; load its kernel module: sudo modprobe nvidia",
    34: "libcuda.so.1 is the CUDA toolkit's stub, not the driver; take the stubs directory off LD_LIBRARY_PATH",
    35: "the driver is older than its library; install one driver and restart the machine",
    100: "the driver shows no GPU; look at `nvidia-smi` and CUDA_VISIBLE_DEVICES; a container needs --gpus all",
    101: "CUDA_VISIBLE_DEVICES names a GPU that is not there; unset CUDA_VISIBLE_DEVICES",
    802: "the GPUs' fabric is not up: sudo systemctl start nvidia-fabricmanager",
    803: "the driver's library and kernel module are of different versions; restart the machine",
    804: "libcuda.so.1 is of a compatibility package that this GPU does not support; take it off LD_LIBRARY_PATH",
    999: "the driver failed to start; look at `nvidia-smi` and `dmesg`, then restart the machine or the container",
}


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name, compute capability as (major, minor), memory in bytes."""

    name: str
    capability: tuple[int, int]
    memory: int

    @property
    def translates(self) -> bool:
        """Whether the driver must translate MindSpore's kernels when they are first loaded (Hopper and later)."""
        return self.capability[0] > NEWEST_MACHINE_CODE


@dataclass(frozen=True)
class Driver:
    """What the driver answered. ``problem`` is empty where it can run CUDA 11 on at least one GPU, otherwise it says
    in one line what is wrong and what to do; ``cuda`` is the newest CUDA it knows, None where it could not be asked."""

    cuda: tuple[int, int] | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""


def _absence(root: Path) -> str:
    if (root / "proc/driver/nvidia/version").exists():
        return (
            f"the NVIDIA driver's kernel module is loaded but its library {LIBRARY} is not found; "
            "start the container with its GPUs: docker run --gpus all"
        )
    if (root / "dev/dxg").exists():
        return f"{LIBRARY} is not found; add WSL's: export LD_LIBRARY_PATH=/usr/lib/wsl/lib"
    return f"there is no NVIDIA driver ({LIBRARY} is not found); install the driver, then restart: https://www.nvidia.com/drivers"


def _gpu(cuda: ctypes.CDLL, index: int) -> Gpu:
    device, major, minor, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    return Gpu(name.value.decode(errors="replace"), (major.value, minor.value), memory.value)


def installed(library: str = LIBRARY) -> bool:
    """Whether the driver's library can be loaded."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def driver(library: str = LIBRARY, root: Path = Path("/")) -> Driver:
    """The driver of this machine. It reads CUDA_VISIBLE_DEVICES and CUDA_CACHE_* from the environment as it is now.

    Args:
        library: name or path of the driver's library.
        root: where /proc and /dev are, for tests.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return Driver(problem=_absence(root))
    version, count = ctypes.c_int(), ctypes.c_int()
    if code := cuda.cuInit(0):
        unknown = f"the driver failed to start (CUDA error {code}); look at `nvidia-smi`"
        return Driver(problem=_PROBLEMS.get(code, unknown))
    cuda.cuDriverGetVersion(ctypes.byref(version))
    known = (version.value // 1000, version.value % 1000 // 10)
    if known < OLDEST_CUDA:
        words = f"the driver is too old: it knows CUDA {known[0]}.{known[1]}, MindSpore's kernels need 11.0"
        return Driver(known, problem=f"{words}; install driver 450 or later: https://www.nvidia.com/drivers")
    cuda.cuDeviceGetCount(ctypes.byref(count))
    gpus = tuple(_gpu(cuda, index) for index in range(count.value))
    problem = "" if gpus else _PROBLEMS[100]
    if gpus and all(gpu.capability < OLDEST_CAPABILITY for gpu in gpus):
        problem = (
            f"{gpus[0].name} is of compute capability {gpus[0].capability[0]}.{gpus[0].capability[1]}, MindSpore's "
            "kernels need 6.0 (Pascal) or later; use --device_target CPU"
        )
    return Driver(known, gpus, problem)


def from_json(text: str) -> Driver:
    """What `main` printed, read back."""
    data = json.loads(text)
    gpus = tuple(Gpu(gpu["name"], tuple(gpu["capability"]), gpu["memory"]) for gpu in data["gpus"])
    return Driver(tuple(data["cuda"]) if data["cuda"] else None, gpus, data["problem"])


def main() -> None:
    """Prints `driver` as one line of JSON."""
    print(json.dumps(asdict(driver())))


if __name__ == "__main__":
    main()
