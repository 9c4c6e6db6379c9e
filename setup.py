"""Packaging of ms_ddpm. Tools are configured in pyproject.toml; versions that were tested stand in constraints.txt.

The C++ kernels (ms_ddpm/ops/csrc) are built where there is a C++ compiler; without one everything else still installs.
Compiling needs oneDNN's headers: $ONEDNN_INCLUDE, those of an installed package onednn-devel, or, downloaded for the
build alone, that package's. MS_DDPM_BUILD_KERNELS=0 leaves the kernels out.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+?)"', (here / "ms_ddpm" / "__init__.py").read_text(encoding="utf-8"))[1]
PACKAGES = ("ms_ddpm", "torch_ref", "portparity", "parity_tests", "ms_ddpm_bench")
RECIPES = "ms_ddpm.configs"  # configs/ of the clone, inside the installed library
SOURCES = "ms_ddpm/ops/csrc"
ONEDNN_HEADERS = "onednn-devel>=2025,<2027"  # oneDNN 3.x; the functions used are the same in all of it
SOURCE_FILES = sorted(f"{SOURCES}/{path.name}" for path in (Path(__file__).parent / SOURCES).glob("*.*"))
FLAGS = ["-O3", "-std=c++17", "-fvisibility=hidden", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math",
         "-ffp-contract=fast"]  # fmt: skip
ISA_FLAGS = {
    "base": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}


class BuildKernels(build_ext):
    """Compiles simd.cpp once per instruction set; a failure costs the kernels, not the installation."""

    def run(self):
        try:
            super().run()
        except Exception as error:  # whatever a compiler, a download or a file system may come up with
            print(f"ms_ddpm: the C++ kernels were not built ({error}); CPU training takes two to three times as long")

    def headers(self):
        """Directory that holds oneapi/dnnl/dnnl.h."""
        for candidate in (os.environ.get("ONEDNN_INCLUDE"), Path(sys.prefix) / "include", "/usr/include"):
            if candidate and (Path(candidate) / "oneapi/dnnl/dnnl.h").exists():
                return str(candidate)
        folder = Path(self.build_temp).resolve() / "onednn-headers"
        if not list(folder.glob("*.whl")):
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*pip, "--dest", str(folder), ONEDNN_HEADERS], check=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if "/include/oneapi/" in name]
            archive.extractall(folder, names)
        return str(next(folder.glob("*/data/include")))

    def is_up_to_date(self, built, sources):
        """Whether the library ``built`` is newer than its ``sources``, and whole: a build may have been interrupted."""
        if self.force or not built.exists():
            return False
        if any(source.stat().st_mtime > built.stat().st_mtime for source in sources):
            return False
        return not subprocess.run(
            [sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", str(built)], capture_output=True
        ).returncode

    def build_extension(self, ext):
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        built = here / self.get_ext_filename(ext.name)  # where an editable installation has it
        if self.is_up_to_date(built, [here / "setup.py", *(here / name for name in ext.depends)]):
            shutil.copy2(built, target)
            return
        if sys.platform != "linux":
            raise RuntimeError("they are for Linux")
        x86 = platform.machine() in ("x86_64", "AMD64")
        include = self.headers()

        def compiled(source, folder="", flags=(), include_dirs=(), **macros):
            return self.compiler.compile(
                [f"{SOURCES}/{source}.cpp"], output_dir=str(Path(self.build_temp, folder)), depends=ext.depends,
                include_dirs=list(include_dirs), macros=list(macros.items()), extra_postargs=[*FLAGS, *flags],
            )  # fmt: skip

        with ThreadPoolExecutor(os.cpu_count()) as at_once:  # the longest first
            jobs = [
                at_once.submit(compiled, "simd", folder=isa, flags=ISA_FLAGS[isa], MSD_ISA=isa)
                for isa in (ISA_FLAGS if x86 else ["base"])
            ] + [
                at_once.submit(compiled, name, include_dirs=[include], MSD_X86=str(int(x86)))
                for name in ("kernels", "onednn", "pool")
            ]  # fmt: skip
        objects = [path for job in jobs for path in job.result()]
        # Beside the old file and then in its place: a process that has it loaded keeps what it has.
        self.compiler.link_shared_object(objects, f"{target}.new", libraries=["dl", "pthread"], target_lang="c++")
        os.replace(f"{target}.new", target)


digits = ["scikit-learn>=1.3", "scipy>=1.10"]
torch = ["torch>=2.1"]
tensorboard = ["tensorboardX>=2.6"]
# CUDA 11 for MindSpore's GPU plugin, 1.7 GB; the same list, with the reason, in ms_ddpm/devices/cuda_wheels.py
gpu = [
    f"{requirement}; sys_platform == 'linux' and platform_machine == 'x86_64'"
    for requirement in (
        "nvidia-cuda-runtime-cu11>=11.7,<12",
        "nvidia-cuda-nvrtc-cu11>=11.7,<12",
        "nvidia-cublas-cu11>=11.10,<12",
        "nvidia-curand-cu11>=10.2,<11",
        "nvidia-cufft-cu11>=10.7,<11",
        "nvidia-cusparse-cu11>=11.7,<12",
        "nvidia-cusolver-cu11>=11.4,<12",
        "nvidia-cudnn-cu11>=8.5,<9",
    )
]
PYTEST = "pytest>=8,<9.2"  # pytest-xdist 3.8 cannot tell 9.2 which tests belong together; they compile everything twice
toml = ["tomli; python_version < '3.11'"]  # for the harness, which needs no PyTorch where results are recorded
text2image = ["tokenizers>=0.20"]
parity = [*torch, *text2image]
peers = [*parity, "diffusers>=0.30", "transformers>=5", "peft>=0.17"]
docs = [
    "mkdocs-material>=9.6,<10",
    "mkdocs-static-i18n>=1.3,<2",
    "mkdocstrings[python]>=0.29",
    "jieba",
    "ruff",
]  # as in scripts/docs.sh; the tests build the site, too

setup(
    name="ms_ddpm",
    version=version,
    description="Diffusion models in MindSpore that compute what PyTorch computes",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.13",
    packages=[*find_packages(include=[f"{name}{dot}" for name in PACKAGES for dot in ("", ".*")]), RECIPES],
    package_dir={RECIPES: "configs"},
    ext_modules=[]
    if os.environ.get("MS_DDPM_BUILD_KERNELS") == "0"
    else [Extension("ms_ddpm.ops._kernels", sources=[], depends=SOURCE_FILES)],
    cmdclass={"build_ext": BuildKernels},
    package_data={
        "ms_ddpm": ["py.typed"],
        "portparity": ["py.typed"],
        RECIPES: ["*.yaml"],
        "parity_tests": ["tolerances.toml", "bundles/*/*", "bundles_long/*/*"],
    },
    entry_points={
        "console_scripts": ["ms-ddpm = ms_ddpm.cli.__main__:console", "portparity = portparity.cli:main"],
        "pytest11": ["portparity = portparity.pytest_plugin"],
    },
    install_requires=[
        "mindspore>=2.9,<2.12",
        "numpy>=1.26,<2",  # with numpy 2, MindSpore 2.10 raises in places
        "tqdm",
        "Pillow>=9.5",
        "matplotlib>=3.7",
        "PyYAML",
        "safetensors>=0.4",
    ]
    + toml,
    extras_require={
        "digits": digits,
        "gpu": gpu,
        "evaluation": [*digits, "torch-fidelity>=0.3"],
        "torch": torch,
        "parity": parity,
        "peers": peers,
        "text2image": text2image,
        "tensorboard": tensorboard,
        "docs": docs,
        "test": [*digits, *peers, *tensorboard, *docs, PYTEST, "pytest-xdist>=3.5", "hypothesis>=6.100"],
    },
)
