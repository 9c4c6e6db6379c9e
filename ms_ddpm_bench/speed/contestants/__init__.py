"""Who is measured: a table of names, each a module and the environment that its process gets.

A module has ``start(threads)``, which imports its framework, and ``Contestant(workload, weights, names, **arguments)``
with ``load()``, ``train()``, ``denoise()`` and ``sample()``; for guided networks ``Guided``, which has all but
``train()``. Nothing here imports a framework: the modules do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from ms_ddpm.errors import UserError

REFERENCE = "torch"  # ratios are times this one
AS_IT_IS = "ours"  # this library with all it has


@dataclass(frozen=True)
class Entry:
    """One contestant.

    Attributes:
        name: on the command line and in JSON.
        title: in tables.
        module: in this package.
        about: one line that says what it is.
        arguments: of the module's ``Contestant``.
        environment: variables of its process.
        most_steps: timed steps at most (None: as many as asked for).
        sizes: the names of the sizes where it runs by default (None: all).
        what: what it is asked to do (a stock sample would be 50 denoising steps of seconds each).
        guided: whether it has the guided networks too.
    """

    name: str
    title: str
    module: str
    about: str
    arguments: Mapping = field(default_factory=dict)
    environment: Mapping = field(default_factory=dict)
    most_steps: int | None = None
    sizes: tuple[str, ...] | None = None
    what: tuple[str, ...] = ("train", "denoise", "sample")
    guided: bool = True


KERNELS = "MS_DDPM_KERNELS"
CONTESTANTS = {
    entry.name: entry
    for entry in (
        Entry(AS_IT_IS, "ms_ddpm", "ours", "this library on MindSpore, as it is"),
        Entry(
            "ours-no-kernels", "ms_ddpm without kernels", "ours", "the same with its C++ kernels off",
            environment={KERNELS: "0"},
        ),
        Entry(
            "stock", "stock MindSpore", "stock",
            "the same network in MindSpore's stock operators, oneDNN and threads as MindSpore sets them",
            environment={KERNELS: "0", "MS_DDPM_ONEDNN_ISA": "keep", "MS_DEV_HOST_BLOCKING_RUN": "0"},
            most_steps=3, sizes=("dim32",), what=("train", "denoise"), guided=False,
        ),
        Entry("torch", "PyTorch", "pytorch", "torch_ref, eager, with torch.optim.Adam"),
        Entry(
            "torch-compile", "torch.compile", "pytorch", "the same with its network through torch.compile",
            arguments={"compiled": True},
        ),
    )
}  # fmt: skip
DEFAULT = ("ours", "torch", "torch-compile", "stock")
# What a user's shell may have set and what would then be measured instead.
_CLEARED = (
    "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MS_DDPM_ONEDNN_ISA", "MS_DEV_HOST_BLOCKING_RUN", KERNELS,
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
)  # fmt: skip


def find(names: list[str] | tuple[str, ...]) -> list[Entry]:
    """The entries of ``names``, each once. Raises UserError for one that does not exist."""
    for name in names:
        if name not in CONTESTANTS:
            raise UserError(f"contestant is {name!r}, expected one of: {', '.join(CONTESTANTS)}")
    return [CONTESTANTS[name] for name in dict.fromkeys(names)]


def environment(entry: Entry, threads: int, scratch: str) -> dict[str, str]:
    """The environment of a contestant's process: the user's without what changes speed, plus its own.

    ``scratch``: an empty directory, so that nothing compiled in an earlier run shortens the first step.
    """
    kept = {key: value for key, value in os.environ.items() if key not in _CLEARED}
    numbers = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    caches = {"TORCHINDUCTOR_CACHE_DIR": scratch, "TORCHINDUCTOR_COMPILE_THREADS": str(threads)}
    return kept | numbers | caches | {"GLOG_v": kept.get("GLOG_v", "3")} | dict(entry.environment)
