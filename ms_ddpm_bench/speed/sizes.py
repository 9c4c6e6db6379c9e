"""What is computed: networks, batches, and the inputs, which numpy makes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from ms_ddpm.errors import UserError

WHAT = {
    "train": "training step",
    "denoise": "denoising step",
    "sample": "DDIM sample",
}
LAYOUTS = {
    "rms": {"norm": "rms", "downsample": "unshuffle"},
    "group": {"norm": "group", "downsample": "conv"},
}
SAMPLE_BATCH = 16
TIMESTEPS = 1000
LEARNING_RATE, BETAS, MAX_GRAD_NORM = 1e-4, (0.9, 0.99), 1.0
_SPELLING = re.compile(r"(\d+):(\d+(?:,\d+)*)@(\d+)")


@dataclass(frozen=True)
class Size:
    """A network of width ``dim`` on images of ``side`` x ``side``, one channel.

    With ``guided`` it is Stable Diffusion's on latents of four, told what to draw; a sample is a chain under guidance,
    of which every step calls it on twice the batch.
    """

    dim: int
    mults: tuple[int, ...]
    side: int
    guided: bool = False

    def __str__(self) -> str:
        kind = "Stable Diffusion, " if self.guided else ""
        return f"{kind}dim {self.dim} ({','.join(map(str, self.mults))}) @ {self.side}x{self.side}"


SIZES = {
    "dim16": Size(16, (1, 2), 8),
    "dim32": Size(32, (1, 2, 4), 32),
    "dim64": Size(64, (1, 2, 4, 8), 64),
}
GUIDED = {"text2image": Size(32, (1, 2), 8, guided=True)}  # by name alone; not in the table unless asked for
GUIDANCE, WORDS, TEXT_DIM = 3.0, 16, 64
BETAS_OF_STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BATCHES = (1, 16, 64)
LARGEST_SIDE_OF_64 = 32  # a batch of 64 only up to here, unless it is asked for


@dataclass(frozen=True)
class Workload:
    """One size at one batch. ``series`` is "" in the table, else the axis that varies: batch, resolution or width."""

    size: Size
    batch: int
    what: tuple[str, ...]
    layout: str = "rms"
    ddim_steps: int = 50
    seed: int = 0
    series: str = ""

    def __str__(self) -> str:
        return f"{self.size}, batch {self.batch}"

    def as_json(self) -> dict:
        """As `from_json` reads it."""
        found = asdict(self)
        return {**found, "what": list(self.what), "size": {**found["size"], "mults": list(self.size.mults)}}

    @classmethod
    def from_json(cls, found: Mapping) -> Workload:
        """What `as_json` gave."""
        size = found["size"]
        size = Size(size["dim"], tuple(size["mults"]), size["side"], size.get("guided", False))
        return cls(**{**found, "size": size, "what": tuple(found["what"])})

    def unet(self) -> dict:
        """The arguments of both sides' ``Unet``."""
        return {"dim": self.size.dim, "dim_mults": self.size.mults, "channels": 1, **LAYOUTS[self.layout]}

    def widths(self) -> tuple[int, ...]:
        """Of a guided network, from the latents inwards."""
        return tuple(self.size.dim * factor for factor in self.size.mults)

    def shape(self) -> tuple[int, int, int, int]:
        """(B, C, H, W)."""
        return (self.batch, 4 if self.size.guided else 1, self.size.side, self.size.side)


def read_size(text: str) -> Size:
    """A size by its name or as DIM:MULTS@SIDE, as in 16:1,2@8. Raises UserError."""
    if text in SIZES or text in GUIDED:
        return SIZES[text] if text in SIZES else GUIDED[text]
    match = _SPELLING.fullmatch(text)
    if not match:
        raise UserError(
            f"size is {text!r}, expected one of {', '.join(SIZES | GUIDED)}, or DIM:MULTS@SIDE such as 16:1,2@8"
        )
    size = Size(int(match[1]), tuple(map(int, match[2].split(","))), int(match[3]))
    factor = 2 ** (len(size.mults) - 1)
    if size.dim < 8 or size.dim % 8 or 0 in size.mults:
        raise UserError(f"size {text} has dim {size.dim}, expected a multiple of 8, and factors of at least 1")
    if size.side < 1 or size.side % factor:
        raise UserError(f"size {text} has sides of {size.side}, expected a multiple of {factor}")
    return size


def table(
    sizes: Sequence[Size], batches: Sequence[int] | None, what: Sequence[str], **options: object
) -> list[Workload]:
    """The workloads of the table; with ``batches`` None the usual ones, 64 only up to 32x32.

    A sample is drawn at batch 16 alone, or, where that is not among the batches, at each of them. Guided networks are
    not trained here.
    """
    found = []
    for size in sizes:
        usual = [b for b in BATCHES if b < 64 or size.side <= LARGEST_SIDE_OF_64]
        chosen = usual if batches is None else list(dict.fromkeys(batches))
        for batch in chosen:
            samples = batch == SAMPLE_BATCH or SAMPLE_BATCH not in chosen
            kinds = tuple(kind for kind in WHAT if kind in what and (kind != "sample" or samples))
            kinds = tuple(kind for kind in kinds if kind != "train" or not size.guided)
            if kinds:
                found.append(Workload(size, batch, kinds, **options))
    return found


MIDDLE = Size(16, (1, 2, 4), 16)  # of every series, at batch 16
GROWTH = {
    "batch": [(MIDDLE, batch) for batch in (1, 4, 16, 64)],
    "resolution": [(replace(MIDDLE, side=side), 16) for side in (8, 16, 32, 64)],
    "width": [(replace(MIDDLE, dim=dim), 16) for dim in (8, 16, 32, 64)],
}


def growth(what: Iterable[str], **options: object) -> list[Workload]:
    """The workloads that show how cost grows with batch, resolution and width: one axis each, the others held."""
    kinds = tuple(kind for kind in ("train", "denoise") if kind in what)
    return [
        Workload(size, batch, kinds, series=axis, **options)
        for axis, points in GROWTH.items()
        for size, batch in points
        if kinds
    ]


def axis_value(workload: Workload) -> int:
    """Where a workload stands on the axis of its series."""
    return {"batch": workload.batch, "resolution": workload.size.side, "width": workload.size.dim}[workload.series]


def training_inputs(workload: Workload) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """img in [0, 1], t and noise of one batch."""
    rng = np.random.default_rng([workload.seed, 1])
    img = rng.random(workload.shape(), dtype=np.float32)
    t = rng.integers(0, TIMESTEPS, workload.batch, dtype=np.int32)
    return img, t, rng.standard_normal(workload.shape(), dtype=np.float32)


def denoising_inputs(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """x and t of one call of the network."""
    rng = np.random.default_rng([workload.seed, 2])
    x = rng.standard_normal(workload.shape(), dtype=np.float32)
    return x, rng.integers(0, TIMESTEPS, workload.batch, dtype=np.int32)


def words(workload: Workload) -> np.ndarray:
    """What a guided network is told: (2 B, words, width), for the halves without and with a prompt."""
    rng = np.random.default_rng([workload.seed, 4])
    return rng.standard_normal((2 * workload.batch, WORDS, TEXT_DIM), dtype=np.float32)


def tape(workload: Workload) -> list[np.ndarray]:
    """The noise of one sample: x_T, and an array a step."""
    rng = np.random.default_rng([workload.seed, 3])
    return [rng.standard_normal(workload.shape(), dtype=np.float32) for _ in range(workload.ddim_steps)]
