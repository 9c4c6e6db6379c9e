"""The NVIDIA driver, CUDA 11 from pip's packages, MindSpore's plugin: what `devices.cuda_wheels` is going to use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..devices import cuda_wheels
from .cpu import GIB
from .machine import MISSING, NOTE, OK, Finding, Machine


def plugin(machine: Machine) -> Iterator[Finding]:
    """MindSpore's GPU plugin and what comes with it."""
    mindspore = machine.package("mindspore")
    if mindspore is None:
        yield Finding(MISSING, "GPU plugin: there is no MindSpore", "pip install 'mindspore>=2.9,<2.12'")
        return
    found = cuda_wheels.plugins(mindspore)
    if not found:
        yield Finding(
            MISSING,
            f"GPU plugin: none in {mindspore / 'lib' / 'plugin'}; only the wheel for Linux on x86-64 has one",
            cuda_wheels.MINDSPORE_COMMAND,
        )
        return
    yield Finding(OK, f"GPU plugin: {', '.join(file.name for file in found)}")
    if list((mindspore / "lib" / "plugin").glob("gpu11.*/libnccl.so.2")):
        yield Finding(OK, "NCCL, for several GPUs: in MindSpore's wheel")


def driver(machine: Machine) -> Iterator[Finding]:
    """The driver's kernel module, its library, the GPUs it shows."""
    if module := machine.read("/proc/driver/nvidia/version").splitlines():
        yield Finding(OK, " ".join(module[0].removeprefix("NVRM version:").split()))
    found = machine.driver()
    if found.cuda:
        yield Finding(OK, f"the driver knows CUDA {found.cuda[0]}.{found.cuda[1]}")
    for index, gpu in enumerate(found.gpus):
        words = f"GPU {index}: {gpu.name}, compute capability {gpu.capability[0]}.{gpu.capability[1]}"
        yield Finding(OK, f"{words}, {gpu.memory / GIB:.1f} GiB")
        if gpu.translates:
            yield Finding(
                NOTE,
                f"MindSpore's kernels hold no machine code for GPU {index}: the first start takes minutes more, while "
                "the driver translates them",
            )
    if found.problem:
        what, _, repair = found.problem.partition("; ")
        yield Finding(MISSING, what, repair)


def libraries(machine: Machine) -> Iterator[Finding]:
    """Each CUDA library: from a package, an installed toolkit or the loader."""
    found = cuda_wheels.find(machine.paths)
    lost = []
    for library in cuda_wheels.LIBRARIES:
        version = machine.version(library.package)
        if library.soname in found:
            yield Finding(OK, f"{library.soname}: {library.package} {version or 'of unknown version'}")
            yield from _overwritten(machine, library, found[library.soname])
        elif _toolkit(machine, library.soname) or machine.loads(library.soname):
            yield Finding(OK, f"{library.soname}: of this system")
        else:
            lost.append((library, _absence(machine, library, version)))
    for number, (_, what) in enumerate(lost, 1):
        everything = cuda_wheels.pip_command(library for library, _ in lost)
        yield Finding(MISSING, what, everything if number == len(lost) else "")
    for name, reason in (("libz.so.1", "cuDNN"), ("libgomp.so.1", "MindSpore")):
        if not machine.loads(name):
            package = {"libz.so.1": "zlib1g", "libgomp.so.1": "libgomp1"}[name]
            yield Finding(MISSING, f"{name}, which {reason} needs, is not found", f"sudo apt-get install {package}")


def _toolkit(machine: Machine, soname: str) -> bool:
    home = machine.env.get("CUDA_HOME")
    return bool(home) and (machine.file(home) / "lib64" / soname).is_file() and _usable(machine, home)


def _usable(machine: Machine, home: str) -> bool:
    return cuda_wheels.usable(cuda_wheels.nvcc_release(machine.file(home)))


def _absence(machine: Machine, library: cuda_wheels.Library, version: str | None) -> str:
    if library.folder == "cudnn":
        folders = (Path(path) / "nvidia" / "cudnn" / "lib" for path in machine.paths)
        others = sorted(file.name for folder in folders for file in folder.glob("libcudnn.so.*"))
        if others:
            return f"{library.soname} not found: {', '.join(others)} is there, and MindSpore's plugin needs cuDNN 8"
    if version is not None:
        return f"{library.soname} not found, although {library.package} {version} is installed"
    return f"{library.soname} not found"


def _overwritten(machine: Machine, library: cuda_wheels.Library, file: Path) -> Iterator[Finding]:
    """CUDA 11's and 12's packages share folders and, for cuRAND and cuSOLVER, file names: the last installed wins."""
    distribution = machine.distribution(library.package)
    for entry in (distribution.files or ()) if distribution else ():
        if entry.name == file.name and entry.size not in (None, file.stat().st_size):
            yield Finding(
                NOTE,
                f"{library.soname} is not the file that {library.package} brought: another package put its own there",
                cuda_wheels.reinstall(library),
            )


def home(machine: Machine) -> Iterator[Finding]:
    """CUDA_HOME and its nvcc."""
    own = machine.env.get("CUDA_HOME")
    made = f"ms_ddpm makes one in {cuda_wheels.user_cache(machine.env)}"
    if not own:
        yield Finding(OK, f"CUDA_HOME is not set: {made}")
        return
    release = cuda_wheels.nvcc_release(machine.file(own))
    words = f"CUDA_HOME={own}, CUDA {release[0]}.{release[1]}" if release else f"CUDA_HOME={own} has no nvcc that runs"
    if cuda_wheels.usable(release):
        yield Finding(OK, f"{words}: used as it is")
    else:
        yield Finding(NOTE, f"{words}: MindSpore's plugin needs 11.6 to 11.8; {made} and uses that")


def cache(machine: Machine) -> Iterator[Finding]:
    """Where the driver keeps translated kernels."""
    set_by_user = machine.env.get("CUDA_CACHE_PATH")
    folder = Path(set_by_user) if set_by_user else cuda_wheels.user_cache(machine.env) / "cuda-jit"
    if machine.env.get("CUDA_CACHE_DISABLE", "0") not in ("", "0"):
        yield Finding(NOTE, "CUDA_CACHE_DISABLE: every start translates kernels again", "unset CUDA_CACHE_DISABLE")
    size = sum(file.stat().st_size for file in machine.file(folder).rglob("*") if file.is_file())
    yield Finding(OK, f"translated kernels: {size / 1e6:.0f} MB in {folder}")


PROBES = (plugin, driver, libraries, home, cache)
