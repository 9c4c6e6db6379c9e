"""MindSpore's side: `ms_ddpm` as scripts/train.py runs it, on batches that it also writes down for the others."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from ms_ddpm import runtime
from ms_ddpm.config import Config

from . import sides


class MindSporeSide:
    """One training run in MindSpore.

    Args:
        config: the recipe; its seed makes weights, batches, times and noise.
    """

    def __init__(self, config: Config):
        self.config = config
        runtime.setup(
            config.device_target, mode=config.mode, threads=config.threads, device_id=config.device_id,
            seed=config.seed, matmul_precision=config.matmul_precision,
        )  # fmt: skip
        self.imported = sides.memory()["now"]
        from ms_ddpm import EMA, convert, data, lr_schedules, recipes
        from ms_ddpm.training.amp import DynamicLossScale
        from ms_ddpm.training.optim import OPTIMIZERS
        from ms_ddpm.training.train_step import TrainStep

        source = data.open_configured(config)
        self.images, _ = data.split(source, config.validation_images, config.seed)
        self.diffusion = recipes.build_diffusion(config).set_train(True)
        self.names = convert.torch_names(self.diffusion.model)
        self.optimizer = OPTIMIZERS[config.optimizer](
            self.diffusion.trainable_params(), **sides.optimizer_arguments(config)
        )
        self.average = EMA(self.diffusion, beta=config.ema_decay, update_every=config.ema_update_every)
        self.update = TrainStep(
            self.diffusion, self.optimizer, DynamicLossScale(enabled=False), max_grad_norm=config.max_grad_norm,
            accumulate=config.gradient_accumulate_every,
        )  # fmt: skip
        self.rate = lr_schedules.lr_schedule(
            config.lr_schedule, base_lr=config.train_lr, total_steps=config.train_num_steps,
            warmup_steps=config.warmup_steps,
        )  # fmt: skip

    def start(self, weights: str) -> Mapping:
        """Writes the initial weights, by PyTorch's names; says how large everything is, and why without kernels."""
        from ms_ddpm.ops import kernels

        sides.write(weights, self.weights())
        parameters = sum(p.size for p in self.diffusion.trainable_params())
        shape = list(self.images.shape)
        return {"parameters": parameters, "images": len(self.images), "shape": shape, "no_kernels": kernels.why_not()}

    def weights(self) -> dict[str, np.ndarray]:
        """All weights, by PyTorch's names."""
        values = dict(self.diffusion.model.parameters_and_names())
        return {sides.WEIGHT + theirs: values[ours].asnumpy().copy() for ours, theirs in self.names.items()}

    def averaged(self) -> dict[str, np.ndarray]:
        """The averaged weights, by PyTorch's names; those that are not trained as they are."""
        average = self.average.state()
        found = {sides.WEIGHT + self.names[name.removeprefix("model.")]: value for name, value in average.items()}
        return self.weights() | found

    def tape(self, path: str, first: int, count: int) -> Mapping:
        """Writes images, times and noise of optimizer steps ``first`` to ``first + count - 1``."""
        from ms_ddpm import data
        from ms_ddpm.maths.random import Stream, stream

        config, n = self.config, self.config.gradient_accumulate_every
        options = {"seed": config.seed, "start": first * n, "count": count * n, "flip": config.flip}
        batches = data.Batches(self.images, config.train_batch_size, **options)
        rows: dict[str, list] = {name: [] for name in ("img", "t", "noise", "self_cond", "offset_noise")}
        for number, images in enumerate(batches, start=first * n):
            draws = self.diffusion.draw(stream(config.seed, Stream.DRAW, number), (images,))
            for row, value in zip(rows.values(), (images, *draws), strict=False):
                row.append(value)
        kept = {name: np.stack(row) for name, row in rows.items() if row[0] is not None}
        sides.write(path, {name: v.astype(np.uint8) if v.dtype == bool else v for name, v in kept.items()})
        return {}

    def train(self, path: str, first: int, count: int) -> Mapping:
        """``count`` steps on a tape: loss, gradient norm and seconds of each."""
        tape, n = sides.read(path), self.config.gradient_accumulate_every
        losses, norms, seconds = [], [], []
        for step in range(count):
            rows = range(step * n, step * n + n)
            batches = [
                (tape["img"][i], tape["t"][i], tape["noise"][i], bool(tape["self_cond"][i]),
                 tape["offset_noise"][i] if "offset_noise" in tape else None)
                for i in rows
            ]  # fmt: skip
            began = time.perf_counter()
            loss, norm, applied, *_ = self.update(self.rate(first + step), batches)
            if applied:
                self.average.update()
            seconds.append(time.perf_counter() - began)
            losses.append(loss)
            norms.append(norm)
        return {"loss": losses, "grad_norm": norms, "seconds": seconds}

    def finish(self, weights: str, averaged: str) -> Mapping:
        """Writes the weights and the averaged weights of the end."""
        sides.write(weights, self.weights())
        sides.write(averaged, self.averaged())
        return {}

    def sample(self, path: str, num: int, seed: int) -> Mapping:
        """Writes ``num`` samples of the averaged weights, made from the noise of ``seed``."""
        from ms_ddpm import samplers

        sampler = samplers.SAMPLERS[samplers.default_sampler(self.diffusion)]
        self.diffusion.set_train(False)
        found, began = [], time.perf_counter()
        with self.average.swapped():
            for size, tape in sides.tapes(self.config, num, seed):
                found.append(sampler(self.diffusion, size, noise=tape, progress=False).asnumpy())
        seconds = time.perf_counter() - began
        sides.write(path, {"samples": np.concatenate(found)[:num]})
        return {"seconds": seconds, **self.memory()}

    def chain(self, path: str, weights: str, num: int, seed: int) -> Mapping:
        """Writes the whole chain of ``num`` samples of the given weights: (steps + 1, B, C, H, W)."""
        from ms_ddpm import convert, samplers

        named = {name.removeprefix(sides.WEIGHT): value for name, value in sides.read(weights).items()}
        convert.from_torch(self.diffusion.model, named)
        self.diffusion.set_train(False)
        (size, tape), *_ = sides.tapes(self.config, num, seed)
        sampler = samplers.SAMPLERS[samplers.default_sampler(self.diffusion)]
        images = sampler(self.diffusion, size, noise=tape, progress=False, return_all_timesteps=True)
        sides.write(path, {"chain": np.swapaxes(images.asnumpy(), 0, 1)})
        return {}

    def memory(self) -> Mapping:
        """Peak memory, and what it is above the framework's import, in MiB."""
        peak = sides.memory()["peak"]
        return {"peak_mb": peak, "above_import_mb": peak - self.imported}
