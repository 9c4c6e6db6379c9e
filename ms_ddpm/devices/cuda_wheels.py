"""CUDA 11 from pip's packages, for MindSpore's GPU plugin on a machine that has only the NVIDIA driver.

MindSpore's wheel on PyPI holds the plugin (lib/plugin/libmindspore_gpu.so.11.6) but expects an installed CUDA toolkit:

1. While it is imported, and only then, it runs ``$CUDA_HOME/bin/nvcc --version`` and takes the plugin whose release
   is at most the one printed; without a CUDA_HOME it tries none (2.10; SelectGpuPlugin in
   libmindspore_hardware_abstract.so).
2. It opens that plugin, which needs the libraries below by these names.
3. It looks with ``ldd`` where libcudart and libcudnn are, complains where that finds none, and puts the directory of
   its graph compiler for that release before LD_LIBRARY_PATH (run_check/_check_version.py, GPUEnvChecker).

`prepare` supplies all three from NVIDIA's packages on PyPI (extra ``gpu`` of setup.py). It can go when MindSpore has a
GPU wheel that depends on them: when `import mindspore; mindspore.set_device("GPU")` works where this module's
`environment` is not set.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from . import nvidia

log = logging.getLogger("ms_ddpm")

RELEASE = "11.6"  # of the plugin we ask for; the libraries are 11.8's, which CUDA 11 promises is the same to a program
NVCC = f"""#!/bin/sh
# Made by ms_ddpm (cuda_wheels.py): MindSpore asks nvcc for its release to choose a GPU plugin, and compiles nothing.
echo "Cuda compilation tools, release {RELEASE}, V{RELEASE}.0"
"""
MINDSPORE_COMMAND = "pip install --force-reinstall --no-deps 'mindspore>=2.9,<2.12'"
CACHE_BYTES = 4294967295  # the driver's largest; MindSpore itself sets 4000000000 once its plugin is loaded


@dataclass(frozen=True)
class Library:
    """A library the plugin needs: its name, the folder of its package under site-packages/nvidia, the requirement."""

    soname: str
    folder: str
    requirement: str

    @property
    def package(self) -> str:
        """Name of the package that brings it."""
        return re.split(r"[<>=]", self.requirement)[0]


# In the order to load them: what is needed before what needs it.
LIBRARIES = (
    Library("libcudart.so.11.0", "cuda_runtime", "nvidia-cuda-runtime-cu11>=11.7,<12"),
    Library("libnvrtc.so.11.2", "cuda_nvrtc", "nvidia-cuda-nvrtc-cu11>=11.7,<12"),
    Library("libcublasLt.so.11", "cublas", "nvidia-cublas-cu11>=11.10,<12"),
    Library("libcublas.so.11", "cublas", "nvidia-cublas-cu11>=11.10,<12"),
    Library("libcurand.so.10", "curand", "nvidia-curand-cu11>=10.2,<11"),
    Library("libcufft.so.10", "cufft", "nvidia-cufft-cu11>=10.7,<11"),
    Library("libcusparse.so.11", "cusparse", "nvidia-cusparse-cu11>=11.7,<12"),
    Library("libcusolver.so.11", "cusolver", "nvidia-cusolver-cu11>=11.4,<12"),
    Library("libcudnn.so.8", "cudnn", "nvidia-cudnn-cu11>=8.5,<9"),
)


def find(paths: Iterable[str] | None = None) -> dict[str, Path]:
    """soname -> file of an installed package, for those of `LIBRARIES` that ``paths`` (default: sys.path) hold."""
    found = {}
    for path in sys.path if paths is None else paths:
        for library in LIBRARIES:
            file = Path(path or ".") / "nvidia" / library.folder / "lib" / library.soname
            if library.soname not in found and file.is_file():
                found[library.soname] = file.absolute()
    return found


def plugins(mindspore: Path) -> list[Path]:
    """The GPU plugins of the MindSpore installed in the directory ``mindspore``."""
    return sorted((mindspore / "lib" / "plugin").glob("libmindspore_gpu.so.11*"))


def pip_command(missing: Iterable[Library]) -> str:
    """The command that installs the packages of these libraries."""
    requirements = dict.fromkeys(library.requirement for library in missing)
    return "pip install " + " ".join(f"'{requirement}'" for requirement in requirements)


# --- CUDA_HOME ----------------------------------------------------------------------------------------------------


def nvcc_release(home: str | Path) -> tuple[int, int] | None:
    """The release that ``home``/bin/nvcc says it is, None where there is none or it cannot be run."""
    try:
        run = [str(Path(home) / "bin" / "nvcc"), "--version"]
        text = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"release (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def usable(release: tuple[int, int] | None) -> bool:
    """Whether MindSpore, given an nvcc of this release, takes the plugin of `RELEASE`.

    2.10 does for 11.6 and 11.8 and finds none for 12.4 and 13.0. For 11.1 to 11.5 it takes another plugin, which needs
    11.1's libnvrtc: not one of `LIBRARIES`.
    """
    return release is not None and (11, 6) <= release < (12, 0)


def _is_private(folder: Path) -> bool:
    """Whether nobody but this user can have put anything into ``folder``: nvcc is run from there."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def user_cache(env: Mapping[str, str] = os.environ) -> Path:
    """Where what can be made again belongs, whether it is there or not."""
    return Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or "/nonexistent") / ".cache") / "ms_ddpm"


def cache_folders(env: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Directories, made and private, for what can be made again: the user's cache, then one under the temporary
    directory where the first cannot be written, then one of this process's own."""
    for folder in (
        user_cache(env),
        Path(tempfile.gettempdir()) / f"ms_ddpm-{os.getuid()}",
    ):
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_private(folder) and os.access(folder, os.W_OK | os.X_OK):
                yield folder
    yield Path(tempfile.mkdtemp(prefix="ms_ddpm-"))


def _links(libraries: Mapping[str, Path]) -> dict[str, str]:
    """name in lib64 -> file, of the libraries and of the parts that they open themselves (cuDNN's, NVRTC's)."""
    families = {(file.parent, soname.split(".so")[0]) for soname, file in libraries.items()}
    links = {file.name: str(file) for folder, stem in families for file in folder.glob(f"{stem}[_.-]*so*")}
    if "libcudart.so.11.0" in links:
        # MindSpore reads the toolkit's release off a name with three dots, and finds its graph compiler by it.
        links[f"libcudart.so.{RELEASE}.0"] = links["libcudart.so.11.0"]
    return links


def _is_whole(home: Path, links: Mapping[str, str]) -> bool:
    try:
        same = all(os.readlink(home / "lib64" / name) == target for name, target in links.items())
        return same and (home / "bin" / "nvcc").read_text() == NVCC and os.access(home / "bin" / "nvcc", os.X_OK)
    except OSError:
        return False


def make_home(folder: Path, libraries: Mapping[str, Path]) -> Path:
    """A CUDA_HOME in ``folder`` for these libraries: bin/nvcc, which prints its release, and lib64 with links.

    Made beside its place and renamed, so that processes that start together all find a whole one; named after what is
    in it, so that another environment gets another. Raises OSError where ``folder`` cannot be written.
    """
    for _ in range(20):
        try:
            return _make_home(folder, libraries)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
            time.sleep(0.05)  # another process is replacing a damaged one
    return _make_home(folder, libraries)


def _make_home(folder: Path, libraries: Mapping[str, Path]) -> Path:
    links = _links(libraries)
    digest = hashlib.sha256("\n".join([NVCC, *(f"{name} {links[name]}" for name in sorted(links))]).encode())
    home = folder / f"cuda-{RELEASE}-{digest.hexdigest()[:12]}"
    if _is_whole(home, links):
        return home
    beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        (beside / "bin").mkdir()
        (beside / "lib64").mkdir()
        (beside / "bin" / "nvcc").write_text(NVCC)
        (beside / "bin" / "nvcc").chmod(0o700)
        for name, target in links.items():
            (beside / "lib64" / name).symlink_to(target)
        if home.exists():  # a damaged one; os.rename replaces no directory that holds something
            os.rename(home, beside / "damaged")
        os.rename(beside, home)
    except OSError:
        if not _is_whole(home, links):  # otherwise another process was faster
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(home / "damaged", ignore_errors=True)
    return home


def own_toolkit(env: Mapping[str, str] = os.environ) -> Path | None:
    """The user's CUDA_HOME where MindSpore can use it; None where there is none or it is of another CUDA."""
    if not env.get("CUDA_HOME"):
        return None
    release = nvcc_release(env["CUDA_HOME"])
    if usable(release):
        return Path(env["CUDA_HOME"])
    log.info(
        "CUDA_HOME=%s is %s, MindSpore's GPU plugin needs 11.6 to 11.8: not used in this process",
        env["CUDA_HOME"],
        f"CUDA {release[0]}.{release[1]}" if release else "no CUDA toolkit",
    )
    return None


def in_toolkit(home: Path) -> dict[str, Path]:
    """soname -> file, for those of `LIBRARIES` that an installed CUDA toolkit holds."""
    files = {library.soname: home / "lib64" / library.soname for library in LIBRARIES}
    return {soname: file for soname, file in files.items() if file.is_file()}


def home_for(libraries: Mapping[str, Path], env: Mapping[str, str] = os.environ) -> Path:
    """A CUDA_HOME of ours for these libraries. Raises UserError where none can be made."""
    for folder in cache_folders(env):
        with contextlib.suppress(OSError):
            home = make_home(folder, libraries)
            if usable(nvcc_release(home)):  # not so on a file system mounted noexec
                return home
    raise UserError(
        "device_target GPU needs a directory for a small shell script that can be run; none was found: "
        "set XDG_CACHE_HOME to one on a file system without the option noexec"
    )


def reinstall(library: Library) -> str:
    """The command that puts a library's package back in order."""
    return f"pip install --force-reinstall --no-deps '{library.requirement}'"


# --- the process --------------------------------------------------------------------------------------------------


def set_cache(env: MutableMapping[str, str] = os.environ) -> None:
    """Where the driver keeps the kernels it translates, and how much: needed on Hopper and later.

    MindSpore's kernels hold no machine code for those, so the driver translates 200 MB of PTX when they are first
    loaded. Its own cache, ~/.nv, is lost with a container and silently off where HOME cannot be written.
    """
    if "CUDA_CACHE_PATH" not in env:
        folder = next(cache_folders(env)) / "cuda-jit"
        folder.mkdir(mode=0o700, exist_ok=True)
        env["CUDA_CACHE_PATH"] = str(folder)
    env.setdefault("CUDA_CACHE_MAXSIZE", str(CACHE_BYTES))


def load(found: Mapping[str, Path]) -> list[tuple[Library, str]]:
    """Loads `LIBRARIES` from ``found``, or by name as the system finds them; (library, why not) of those that fail.

    The loader takes a library that is in the process for any later need of its name. LD_LIBRARY_PATH cannot do this:
    the loader reads it once, before Python runs. The libraries' symbols stay out of the global scope, so that PyTorch
    with a CUDA of its own can live in the same process.
    """
    failed = []
    for library in LIBRARIES:
        try:
            ctypes.CDLL(str(found.get(library.soname, library.soname)))
        except OSError as error:
            failed.append((library, str(error)))
    return failed


def environment(home: Path, folders: Iterable[Path], env: MutableMapping[str, str] = os.environ) -> None:
    """CUDA_HOME for MindSpore, LD_LIBRARY_PATH for its ``ldd`` and for processes started from this one."""
    env["CUDA_HOME"] = str(home)
    first = [str(folder) for folder in folders]
    rest = [path for path in env.get("LD_LIBRARY_PATH", "").split(":") if path and path not in first]
    env["LD_LIBRARY_PATH"] = ":".join([*first, *rest])


def _plugin_is_loaded() -> bool:
    try:
        return "libmindspore_gpu.so" in Path("/proc/self/maps").read_text()
    except OSError:
        return False


def prepare(mindspore: Path, device_id: int | None = None) -> None:
    """Makes this process ready for `import mindspore` to load its GPU plugin; to be called before that import.

    Args:
        mindspore: directory of the installed MindSpore.
        device_id: the GPU that is going to be used.

    Raises:
        UserError: one line with everything that is missing, and the commands that repair it.
    """
    if "mindspore" in sys.modules:
        if _plugin_is_loaded():
            return
        raise UserError(
            "device_target GPU: MindSpore was imported before and took no GPU plugin, which it does only then; "
            "call ms_ddpm.devices.runtime.setup('GPU') before the first import mindspore"
        )
    problems = []
    if not plugins(mindspore):
        problems.append(
            f"the MindSpore in {mindspore} has no GPU plugin (lib/plugin/libmindspore_gpu.so.{RELEASE}); install the "
            f"one for Linux on x86-64: {MINDSPORE_COMMAND}"
        )
    if nvidia.installed():
        set_cache()  # before the driver starts, which reads it
    driver = nvidia.driver()
    if driver.problem:
        problems.append(driver.problem)
    elif device_id is not None and not 0 <= device_id < len(driver.gpus):
        problems.append(f"device_id is {device_id}, the driver shows GPUs 0 to {len(driver.gpus) - 1}")
    toolkit = own_toolkit()
    found = {**find(), **(in_toolkit(toolkit) if toolkit else {})}
    failed = load(found)
    if lost := [library for library, _ in failed if library.soname not in found]:
        names = ", ".join(library.soname for library in lost)
        words = "CUDA 11's libraries are not installed" if len(lost) == len(LIBRARIES) else f"{names} not found"
        problems.append(f"{words}; run: {pip_command(lost)}")
    for library, why in failed:
        if library.soname in found:
            problems.append(f"{library.soname} cannot be loaded ({why}); run: {reinstall(library)}")
    if problems:
        raise UserError(
            "device_target GPU is not available here: "
            + "; ".join(problems)
            + ". Everything looked at: python -m ms_ddpm.doctor --device_target GPU. Without a GPU: --device_target CPU"
        )
    if toolkit:
        environment(toolkit, dict.fromkeys(file.parent for file in found.values()))
    else:
        home = home_for(found)
        environment(home, [home / "lib64"])
    cache = Path(os.environ["CUDA_CACHE_PATH"])
    if any(gpu.translates for gpu in driver.gpus) and not any(cache.glob("*")):
        log.info(
            "The driver translates MindSpore's kernels for this GPU when they are first loaded, which takes minutes; "
            "it keeps them in %s",
            cache,
        )
