"""Leads the comparison: every side trains and samples in turn; what came of it is one dictionary and the samples."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ms_ddpm.config import Config, to_dict
from ms_ddpm.errors import UserError
from ms_ddpm.systems import sizes
from portparity.backends import installed
from portparity.errors import NothingRan
from portparity.verdict import AGREE, DIFFER

from . import judge, sides, words
from .workers import Worker

TURN = 10  # steps, after which the other side computes
TURN_BYTES = 64 << 20  # of a tape; large images take shorter turns
CHAIN = 8  # images whose whole chain is judged


@dataclass
class Comparison:
    """What `compare` found: plain values for compare.json, and the samples of both sides (num, C, H, W) in [0, 1]."""

    results: dict
    samples: dict[str, np.ndarray] = field(repr=False)


def turn_length(config: Config) -> int:
    """How many steps a turn has."""
    height, width = sizes.image_sides(config)
    images = config.train_batch_size * config.gradient_accumulate_every
    return max(1, min(TURN, TURN_BYTES // (8 * images * config.channels * height * width)))


def check_frameworks() -> None:
    """Raises NothingRan where PyTorch or MindSpore is not installed."""
    for name, package in (("PyTorch", "torch"), ("MindSpore", "mindspore")):
        if not installed(package):
            raise NothingRan(f"{name} is not installed, so there is nothing to compare with; pip install {package}")


class _Comparing:
    """The processes of one comparison and what they have told so far."""

    def __init__(self, config: Config, steps: int, folder: Path, stack: ExitStack, spoil: str | None):
        self.config = config
        self.steps = steps
        self.folder = folder
        self.stack = stack
        self.plain = to_dict(config)
        spoilt = {"spoil": [spoil, steps // 2]} if spoil else {}
        self.workers = {"mindspore": self._start("mindspore")}
        self.size = self.workers["mindspore"].ask("start", weights=self.path("first"))
        self.no_kernels = self.size.pop("no_kernels")
        for name, options in (("torch", spoilt), ("yardstick", {})):
            self.workers[name] = self._start(name, **options)
            self.workers[name].ask("start", weights=self.path("first"))
        empty = {"loss": [], "grad_norm": [], "seconds": []}
        self.told: dict[str, dict] = {name: {key: [] for key in empty} for name in ("mindspore", "torch")}
        self.yardstick: dict[str, dict] = {}

    def _start(self, name: str, **options: Any) -> Worker:
        worker = Worker(name, self.plain, self.folder, **options)
        self.stack.callback(worker.end)
        return worker

    def path(self, name: str) -> str:
        """A file of arrays in the working folder."""
        return str(self.folder / f"{name}.safetensors")

    def train(self, bar: tqdm) -> None:
        """All steps in turns. Who comes first alternates, so that neither always computes after the yardstick."""
        turn = turn_length(self.config)
        for number, first in enumerate(range(0, self.steps, turn)):
            count = min(turn, self.steps - first)
            self.workers["mindspore"].ask("tape", path=self.path("tape"), first=first, count=count)
            for name in ("mindspore", "torch")[:: 1 if number % 2 == 0 else -1]:
                bar.set_description(f"training, {judge.NAMES[name]}")
                told = self.workers[name].ask("train", path=self.path("tape"), first=first, count=count)
                for key, values in told.items():
                    self.told[name][key] += values
            bar.set_description("training, PyTorch’s other runs")
            told = self.workers["yardstick"].ask("train", path=self.path("tape"), first=first, count=count)
            for run, curves in told.items():
                for key, values in curves.items():
                    self.yardstick.setdefault(run, {}).setdefault(key, []).extend(values)
            bar.set_postfix(loss=f"{self.told['mindspore']['loss'][-1]:.4f}", refresh=False)
            bar.update(count)
        self.workers["mindspore"].ask("finish", weights=self.path("last"), averaged=self.path("averaged"))

    def sample(self, num: int, seed: int) -> dict[str, np.ndarray]:
        """Samples of both sides' own averaged weights, from the same noise."""
        found = {}
        for name in ("mindspore", "torch"):
            told = self.workers[name].ask("sample", path=self.path("samples"), num=num, seed=seed)
            found[name] = sides.read(self.path("samples"))["samples"]
            self.told[name] |= {"sampling_seconds": told.pop("seconds"), "memory": told}
        return found

    def chains(self, num: int, seed: int) -> list[dict]:
        """The verdicts on chains of equal weights, MindSpore's averaged ones."""
        made = {}
        options = {"path": self.path("chain"), "weights": self.path("averaged"), "num": num, "seed": seed}
        for name in ("mindspore", "torch", "yardstick"):
            self.workers[name].ask("chain", **options)
            made[name] = sides.read(self.path("chain"))
        return judge.chains(made["mindspore"]["chain"], made["torch"]["chain"], made["yardstick"])

    def layers(self) -> list[dict]:
        """Every layer of both networks, with the weights that MindSpore has come to."""
        for worker in self.workers.values():
            worker.end()  # their memory is of use
        last = sides.read(self.path("last"))
        usable = all(np.isfinite(value).all() for value in last.values())
        worker = self._start("layers")
        return worker.ask("look", weights=self.path("last" if usable else "first"), tape=self.path("tape"))["layers"]


def quality(samples: np.ndarray, config: Config) -> dict:
    """scripts/evaluate.py's figures, or {"missing": why there are none}."""
    from ms_ddpm import evaluation, images, origin

    try:
        pixels = images.to_uint8(samples)
        origin.check_size(config.dataset, pixels.shape[1:], "what was drawn")
        return evaluation.evaluate(pixels, None, config.dataset, background=config.background)
    except UserError as error:
        return {"missing": str(error)}


def difference(samples: Mapping[str, np.ndarray]) -> dict:
    """How far the samples of both sides are apart, in units of the pixels' range [0, 1]."""
    apart = np.abs(np.clip(samples["mindspore"], 0, 1).astype(np.float64) - np.clip(samples["torch"], 0, 1))
    return {"largest": float(apart.max()), "mean": float(apart.mean()), "images": len(apart)}


def compare(
    config: Config, *, steps: int, num_samples: int, look_at_layers: bool = True, spoil: str | None = None,
    progress: bool = True, environment: Callable[[], Mapping] = dict,
) -> Comparison:  # fmt: skip
    """Trains and samples in both frameworks, and judges.

    Args:
        config: the recipe; its seed makes weights, order, times, noise and sampling noise.
        steps: optimizer steps.
        num_samples: images that each side draws with its own averaged weights.
        look_at_layers: compare every layer with the weights of the end, too.
        spoil: "noise" or "weights": PyTorch's are wrong from the middle on, to see that it is noticed.
        progress: show progress bars.
        environment: what is said of the machine; called in the end.

    Raises:
        NothingRan: a framework is missing. UserError: a recipe that cannot be compared. HarnessError: a process died.
    """
    check_frameworks()
    sides.check(config)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="compare-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        bar = tqdm(total=steps, desc="starting", unit="step", disable=not progress, dynamic_ncols=True)
        stack.callback(bar.close)
        work = _Comparing(config, steps, Path(folder), stack, spoil)
        if line := words.without_kernels(work.no_kernels, config.device_target):
            tqdm.write(line, file=sys.stderr)
        work.train(bar)
        bar.set_description("sampling both")
        samples = work.sample(num_samples, config.seed)
        bar.set_description("judging the chains")
        checks = judge.curves(work.told, work.yardstick) + work.chains(min(CHAIN, num_samples), config.seed)
        layers = []
        if look_at_layers:
            bar.set_description("looking at the layers")
            layers = work.layers()
        bar.set_description("compared")
    for name, told in work.told.items():
        told["quality"] = quality(samples[name], config)
    results = {
        "format": 1,
        "verdict": AGREE if all(check["verdict"] == AGREE for check in checks) else DIFFER,
        "steps": steps,
        "seed": config.seed,
        "spoilt": spoil,
        "turn": turn_length(config),
        "size": work.size,
        "no_kernels": work.no_kernels,
        "sides": work.told,
        "yardstick": work.yardstick,
        "checks": checks,
        "samples": difference(samples),
        "layers": layers,
        "config": to_dict(config),
        "environment": {**environment(), "cores": os.cpu_count()},
        "seconds": time.perf_counter() - began,
    }
    return Comparison(results, samples)
