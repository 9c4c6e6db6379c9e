"""A training run in float64 numpy, written from what is documented and not from the Trainer: what must have happened.

The model is `probe.Probe`, whose gradient is known. Streams of random numbers are spelled out as seeds: changing one of
them changes every run of every user.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

ORDER, FLIP, DRAW, VALIDATION, SPLIT = 2, 3, 4, 5, 6  # second number of a stream's seed
CLASSES, SHAPE = 3, (1, 2, 3)
Arrays = dict[str, np.ndarray]


def stream(*names: int) -> np.random.Generator:
    """The stream of ``names``, the run's seed first."""
    return np.random.default_rng(np.random.SeedSequence(list(names)))


def turning(at: int) -> Callable[[int], float]:
    """Factors of the rate by which the loss falls up to step ``at`` and rises then: the best step is not the last."""
    return lambda step: 1 - 0.7 * step / at if step < at else -1 - 3 * step / at


@dataclass(frozen=True)
class Settings:
    """A run in which whatever can be confused differs.

    An epoch ends within a batch, what is held out is no whole number of batches, a batch may be bad, the rate changes,
    some gradients are clipped and others are not, the average is not the weights, the best step is not the last.
    """

    images: int = 19
    validation: int = 8
    batch: int = 3
    accumulate: int = 1
    steps: int = 12
    every: int = 4
    log_every: int = 3
    seed: int = 5
    lr: float = 0.08
    factor: Callable[[int], float] = turning(7)
    betas: tuple[float, float] = (0.7, 0.9)
    decay: float = 0.4
    max_norm: float = 0.9
    ema_decay: float = 0.55
    ema_every: int = 3
    ema_after: int = 1
    bad_share: float = 0.0  # of batches whose noise is infinite
    scaled: bool = False  # by a loss scale, as for float16
    epochs: int | None = None
    pictures: int = 4

    def pixels(self) -> np.ndarray:
        """uint8 (images, C, H, W)."""
        return np.random.default_rng(1).integers(0, 256, (self.images, *SHAPE)).astype(np.uint8)

    def labels(self) -> np.ndarray:
        """int32 (images,)."""
        return np.random.default_rng(2).integers(0, CLASSES, self.images).astype(np.int32)


def start_weights() -> Arrays:
    """What a new Probe begins with."""
    rng = np.random.default_rng(3)
    return {"w": rng.normal(1, 0.5, SHAPE).astype(np.float32), "c": rng.normal(0, 0.5, CLASSES).astype(np.float32)}


def draws(rng: np.random.Generator, shape: tuple[int, ...], training: bool, bad_share: float) -> tuple:
    """(noise, keep) of a batch: what `probe.Probe.draw` gives. ``keep`` stands for dropout: 1 but in training."""
    noise = rng.standard_normal(shape).astype(np.float32)
    if not training:
        return noise, np.float32(1)
    keep = np.float32(0.5 + rng.random())
    if rng.random() < bad_share:
        noise[0] = np.inf
    return noise, keep


def loss_and_gradient(weights: Arrays, x, labels, noise, keep) -> tuple[float, Arrays]:
    """Of mean (keep w x + c[label] - noise)^2."""
    error = keep * weights["w"] * x + weights["c"][labels].reshape(-1, 1, 1, 1) - noise.astype(np.float64)
    slope = 2 * error / error.size
    of_class = np.array([slope[labels == k].sum() for k in range(CLASSES)])
    return float((error**2).mean()), {"w": (slope * keep * x).sum(0), "c": of_class}


def copied(arrays: Arrays) -> Arrays:
    """A copy of each."""
    return {name: value.copy() for name, value in arrays.items()}


@dataclass
class Story:
    """What a run did, told by itself or by its twin."""

    steps: list[dict] = field(default_factory=list)  # of on_step
    log: list[dict] = field(default_factory=list)
    checkpoints: dict[int, dict] = field(default_factory=dict)
    pictures: dict[int, dict] = field(default_factory=dict)  # weights that drew them, number, seed; in their order
    best: int | None = None


class Twin:
    """One run of `Settings`; `run` tells it."""

    def __init__(self, settings: Settings):
        s = self.settings = settings
        pixels, labels = s.pixels(), s.labels()
        order = stream(s.seed, SPLIT).permutation(s.images) if s.validation else np.arange(s.images)
        self.held_out = pixels[order[: s.validation]] / 255.0, labels[order[: s.validation]]
        self.train = pixels[order[s.validation :]] / 255.0, labels[order[s.validation :]]
        self.weights = {name: value.astype(np.float64) for name, value in start_weights().items()}
        self.average = copied(self.weights)
        self.moments = {key: {n: np.zeros_like(v) for n, v in self.weights.items()} for key in ("m", "v")}
        self.updates = 0
        self.calls = 0
        self.skipped = 0
        self.scale = 2.0**16 if s.scaled else 1.0
        self.good_steps = 0
        self.best_loss = math.inf
        self.story = Story()

    def batch(self, number: int) -> tuple:
        """Batch ``number`` of the run: images, labels and draws."""
        s, (pixels, labels) = self.settings, self.train
        chosen = []
        for place in range(number * s.batch, (number + 1) * s.batch):
            epoch, row = divmod(place, len(pixels))
            chosen.append(stream(s.seed, ORDER, epoch).permutation(len(pixels))[row])
        x = pixels[chosen].copy()
        mirrored = stream(s.seed, FLIP, number, 0).random(s.batch) < 0.5
        x[mirrored] = x[mirrored][..., ::-1]
        return x, labels[chosen], *draws(stream(s.seed, DRAW, number), x.shape, training=True, bad_share=s.bad_share)

    def validation_loss(self, weights: Arrays) -> float:
        """Mean over whole batches of what is held out, with draws of its own and without dropout."""
        s, (pixels, labels) = self.settings, self.held_out
        losses = []
        for i in range(len(pixels) // s.batch):
            rows = slice(i * s.batch, (i + 1) * s.batch)
            drawn = draws(stream(s.seed, VALIDATION, i), pixels[rows].shape, training=False, bad_share=0)
            losses.append(loss_and_gradient(weights, pixels[rows], labels[rows], *drawn)[0])
        return float(np.mean(losses))

    def update(self, lr: float, gradient: Arrays) -> None:
        """AdamW: PyTorch's, the decay by the step's own rate."""
        s = self.settings
        self.updates += 1
        for name, w in self.weights.items():
            g, m, v = gradient[name], self.moments["m"][name], self.moments["v"][name]
            m += (1 - s.betas[0]) * (g - m)
            v += (1 - s.betas[1]) * (g * g - v)
            w *= 1 - lr * s.decay
            corrected = np.sqrt(v / (1 - s.betas[1] ** self.updates)) + 1e-8
            w -= lr / (1 - s.betas[0] ** self.updates) * m / corrected

    def average_weights(self) -> None:
        """ema-pytorch's schedule."""
        s = self.settings
        self.calls += 1
        if (self.calls - 1) % s.ema_every:
            return
        n = self.calls - s.ema_after - 1
        decay = 0.0 if n <= 0 else min(s.ema_decay, 1 - (1 + n) ** (-2 / 3))
        for name, w in self.weights.items():
            self.average[name] = decay * self.average[name] + (1 - decay) * w

    def kept(self, epoch_losses: list[float]) -> dict:
        """What a checkpoint of now holds."""
        return {
            "model": copied(self.weights), "ema": copied(self.average), "exp_avg": copied(self.moments["m"]),
            "exp_avg_sq": copied(self.moments["v"]), "updates": self.updates, "calls": self.calls,
            "skipped": self.skipped, "best_loss": self.best_loss, "best_step": self.story.best,
            "epoch_losses": [sum(epoch_losses), len(epoch_losses)], "scale": self.scale,
            "good_steps": self.good_steps,
        }  # fmt: skip

    def run(self) -> Story:
        """The whole run."""
        s = self.settings
        per_epoch = math.ceil(len(self.train[0]) / (s.batch * s.accumulate))
        steps, every = (s.epochs * per_epoch, per_epoch) if s.epochs else (s.steps, s.every)
        shown, of_epoch = [], []
        self.story.checkpoints[0] = self.kept(of_epoch)
        for step in range(1, steps + 1):
            lr = s.lr * s.factor(step - 1)
            found = [
                loss_and_gradient(self.weights, *self.batch((step - 1) * s.accumulate + i)) for i in range(s.accumulate)
            ]
            loss = float(np.mean([value for value, _ in found]))
            gradient = {name: np.mean([g[name] for _, g in found], axis=0) for name in self.weights}
            norm = math.sqrt(sum((g * g).sum() for g in gradient.values()))
            if math.isfinite(loss) and math.isfinite(norm):
                factor = min(1.0, s.max_norm / (norm + 1e-6))
                self.update(lr, {name: g * factor for name, g in gradient.items()})
                self.average_weights()
                self.good_steps += s.scaled
                shown.append(loss)
                if s.epochs:
                    of_epoch.append(loss)
            else:
                self.skipped += 1
                self.scale, self.good_steps = (self.scale / 2 if s.scaled else 1.0), 0
            record = {"step": step, "loss": loss, "lr": lr, "grad_norm": norm}
            self.story.steps.append(dict(record))
            due = step % every == 0 or step == steps
            if step % s.log_every == 0 or due:
                record["loss"] = float(np.mean(shown)) if shown else loss
                record["skipped_steps"] = self.skipped
                shown = []
                if due:
                    self._checkpoint(record, step, per_epoch, of_epoch)
                self.story.log.append(record)
        return self.story

    def _checkpoint(self, record: dict, step: int, per_epoch: int, of_epoch: list[float]) -> None:
        s = self.settings
        judged = math.nan
        if s.epochs:
            record |= {"epoch": step // per_epoch, "epoch_loss": float(np.mean(of_epoch))}
            judged = record["epoch_loss"]
            of_epoch.clear()
        if s.validation:
            judged = record["validation_loss"] = self.validation_loss(self.average)
        if judged < self.best_loss:
            self.best_loss, self.story.best = judged, step
        self.story.checkpoints[step] = self.kept(of_epoch)
        self.story.pictures[step] = {**copied(self.average), "num": s.pictures, "seed": s.seed}
