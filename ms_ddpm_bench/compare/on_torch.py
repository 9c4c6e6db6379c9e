"""PyTorch's side: `torch_ref` on the batches that MindSpore's side wrote down. The yardstick: its other runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch

import torch_ref
from ms_ddpm import lr_schedules
from ms_ddpm.config import Config
from portparity.arrays import perturbed
from portparity.on_torch import DTYPES, load, tensor
from torch_ref import optim
from torch_ref.train import train_step

from . import sides

OPTIMIZERS = {"adam": optim.Adam, "adamw": optim.AdamW}
SPOILT = 1e-3  # how much the weights are moved by --spoil weights, relatively


@contextmanager
def _kernels(onednn: bool) -> Iterator[None]:
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(onednn)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


class TorchSide:
    """One training run in PyTorch.

    Args:
        config: the recipe.
        dtype: "float32", or "float64" for the yardstick's truth.
        onednn: False takes PyTorch's own convolution kernels.
        moved: not None: every input and weight is moved by one unit in the last place, by this seed.
        spoil: (what, step): "noise" or "weights" are wrong from that step on, to see that it is noticed.
    """

    def __init__(
        self, config: Config, *, dtype: str = "float32", onednn: bool = True, moved: int | None = None,
        spoil: tuple[str, int] | None = None,
    ):  # fmt: skip
        torch.set_num_threads(config.threads or os.cpu_count() or 1)
        self.imported = sides.memory()["now"]
        self.config = config
        self.dtype = dtype
        self.onednn = onednn
        self.moved = moved
        self.spoil = spoil
        unet = torch_ref.Unet(**sides.arguments_of(torch_ref.Unet, config))
        arguments = sides.arguments_of(torch_ref.GaussianDiffusion, config)
        self.diffusion = torch_ref.GaussianDiffusion(unet.to(DTYPES[dtype]), **arguments, dtype=DTYPES[dtype])
        self.rate = lr_schedules.lr_schedule(
            config.lr_schedule, base_lr=config.train_lr, total_steps=config.train_num_steps,
            warmup_steps=config.warmup_steps,
        )  # fmt: skip

    def _inputs(self, arrays: sides.Arrays, number: int) -> sides.Arrays:
        """The arrays as this run sees them."""
        if self.moved is None:
            return arrays
        return perturbed(lambda inputs: inputs, 100_000 * (self.moved + 1) + number)(arrays)

    def start(self, weights: str) -> Mapping:
        """Takes the initial weights."""
        load(self.diffusion.model, self._inputs(sides.read(weights), 0), self.dtype)
        trained = [p for p in self.diffusion.parameters() if p.requires_grad]
        self.optimizer = OPTIMIZERS[self.config.optimizer](trained, **sides.optimizer_arguments(self.config))
        self.average = torch_ref.EMA(
            self.diffusion, beta=self.config.ema_decay, update_every=self.config.ema_update_every
        )
        return {}

    def _batches(self, tape: sides.Arrays, step: int) -> list[tuple]:
        n, found = self.config.gradient_accumulate_every, []
        for i in range(step * n, step * n + n):
            offset = tensor(tape["offset_noise"][i], self.dtype) if "offset_noise" in tape else None
            img, t, noise = (tensor(tape[name][i], self.dtype) for name in ("img", "t", "noise"))
            found.append((img, t, noise, bool(tape["self_cond"][i]), offset))
        return found

    def _spoilt(self, tape: sides.Arrays, number: int, at: int) -> sides.Arrays:
        """The tape with other noise from step ``number`` on, or the same, and other weights at that step."""
        what, step = self.spoil or ("", 0)
        if not what or number < step:
            return tape
        rng = np.random.default_rng(number)
        if what == "weights" and number == step:
            with torch.no_grad():
                for p in self.diffusion.model.parameters():
                    p.mul_(1 + SPOILT * tensor(rng.standard_normal(p.shape), self.dtype))
        if what == "noise":
            n, noise = self.config.gradient_accumulate_every, tape["noise"].copy()
            noise[at * n : at * n + n] = rng.standard_normal(noise[at * n : at * n + n].shape)
            return {**tape, "noise": noise}
        return tape

    def train(self, path: str, first: int, count: int) -> Mapping:
        """``count`` steps on a tape: loss, gradient norm and seconds of each."""
        tape = self._inputs(sides.read(path), first + 1)
        losses, norms, seconds = [], [], []
        with _kernels(self.onednn):
            for step in range(count):
                tape = self._spoilt(tape, first + step, step)
                self.optimizer.lr = self.rate(first + step)
                began = time.perf_counter()
                batches = self._batches(tape, step)
                loss, norm = train_step(self.diffusion, self.optimizer, batches, self.config.max_grad_norm)
                self.average.update()
                seconds.append(time.perf_counter() - began)
                losses.append(float(loss))
                norms.append(float(norm))
        return {"loss": losses, "grad_norm": norms, "seconds": seconds}

    def sample(self, path: str, num: int, seed: int) -> Mapping:
        """Writes ``num`` samples of the averaged weights, made from the noise of ``seed``."""
        if self.spoil and self.spoil[0] == "noise":
            seed += 1
        found, began = [], time.perf_counter()
        with self.average.swapped(), torch.no_grad(), _kernels(self.onednn):
            for size, tape in sides.tapes(self.config, num, seed):
                found.append(self.diffusion.sample(size, noise=tape).numpy())
        seconds = time.perf_counter() - began
        sides.write(path, {"samples": np.concatenate(found)[:num]})
        return {"seconds": seconds, **self.memory()}

    def chain(self, path: str, weights: str, num: int, seed: int) -> Mapping:
        """Writes the whole chain of ``num`` samples of the given weights: (steps + 1, B, C, H, W)."""
        load(self.diffusion.model, self._inputs(sides.read(weights), 0), self.dtype)
        (size, tape), *_ = sides.tapes(self.config, num, seed)
        if self.moved is not None:
            tape = (self._inputs({"x": x}, number)["x"] for number, x in enumerate(tape, start=1))
        with torch.no_grad(), _kernels(self.onednn):
            images = self.diffusion.sample(size, noise=tape, return_all_timesteps=True)
        sides.write(path, {"chain": images.transpose(0, 1).contiguous().numpy()})
        return {}

    def memory(self) -> Mapping:
        """Peak memory, and what it is above the framework's import, in MiB."""
        peak = sides.memory()["peak"]
        return {"peak_mb": peak, "above_import_mb": peak - self.imported}


RUNS = {  # what the envelope is drawn from: float64, and how far PyTorch's own correct float32 runs stray from it
    "float64": {"dtype": "float64"},
    "other kernels": {"onednn": False},
    "moved by one ulp": {"moved": 0},
    "other kernels, moved": {"onednn": False, "moved": 1},
}


class Yardstick:
    """PyTorch's other runs, one beside the other."""

    def __init__(self, config: Config):
        self.runs = {name: TorchSide(config, **options) for name, options in RUNS.items()}

    def start(self, weights: str) -> Mapping:
        """All runs take the initial weights."""
        return {name: run.start(weights) for name, run in self.runs.items()}

    def train(self, path: str, first: int, count: int) -> Mapping:
        """``count`` steps of every run: {run: loss, gradient norm, seconds}."""
        return {name: run.train(path, first, count) for name, run in self.runs.items()}

    def chain(self, path: str, weights: str, num: int, seed: int) -> Mapping:
        """Every run's chain, under its name."""
        found = {}
        for name, run in self.runs.items():
            run.chain(path, weights, num, seed)
            found[name] = sides.read(path)["chain"]
        sides.write(path, found)
        return {}
