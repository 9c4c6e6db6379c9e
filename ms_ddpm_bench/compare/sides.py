"""What both sides share: how a recipe is read for PyTorch, the tape of inputs, sampling noise, and memory."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from ms_ddpm.config import Config
from ms_ddpm.errors import UserError
from ms_ddpm.maths.random import noise_tape
from ms_ddpm.systems import sizes

Arrays = Mapping[str, np.ndarray]
WEIGHT, AVERAGE = "weight.", "average."
BATCH = 128  # images that are sampled at a time


def arguments_of(kind: type, config: Config) -> dict[str, Any]:
    """The recipe's values for the constructor of PyTorch's ``kind``: names are the same everywhere."""
    names = inspect.signature(kind.__init__).parameters
    found = {name: getattr(config, name) for name in names if name != "self" and hasattr(config, name)}
    return found | ({"image_size": sizes.image_sides(config)} if "image_size" in found else {})


def optimizer_arguments(config: Config) -> dict[str, Any]:
    """Learning rate, betas and, where the recipe says so, weight decay."""
    decay = {} if config.weight_decay is None else {"weight_decay": config.weight_decay}
    return {"lr": config.train_lr, "betas": tuple(config.adam_betas), **decay}


def check(config: Config) -> None:
    """Raises UserError for a recipe that cannot be compared step by step."""
    if config.dropout:
        raise UserError(
            f"dropout is {config.dropout:g}: each framework would draw masks of its own, so step by step nothing "
            "could be compared; add --dropout 0"
        )
    if config.amp_level != "O0":
        raise UserError(f"amp_level is {config.amp_level!r}; the comparison is of float32, add --amp_level O0")
    sizes.check_training(config)


def tapes(config: Config, num: int, seed: int) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """(images, noise tape) of every batch of ``num`` samples; the last is filled up, as one graph serves all."""
    size = min(num, BATCH)
    for first in range(0, num, size):
        yield size, noise_tape(seed, (size, config.channels, *sizes.image_sides(config)), first)


def write(path: str | Path, arrays: Arrays) -> None:
    """Arrays into a file that holds nothing else."""
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, path)


def read(path: str | Path) -> dict[str, np.ndarray]:
    """What `write` wrote."""
    return load_file(path)


def memory() -> dict[str, float]:
    """Resident memory of this process now and at its peak, in MiB.

    From /proc: the system call's peak of a child begins with what its parent had.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
        return {"now": int(found["VmRSS"].split()[0]) / 1024, "peak": int(found["VmHWM"].split()[0]) / 1024}
    except (OSError, KeyError):
        from ms_ddpm.devices.runtime import peak_rss_mb

        return {"now": peak_rss_mb(), "peak": peak_rss_mb()}
