"""A data set of an autoencoder's latents, kept in one file with their statistics and the autoencoder's fingerprint.

The score article (docs/systems.md) only prints the latents' mean and variance and diffuses them as they are. A
variance-exploding SDE counts on data that its largest noise drowns, and its network on inputs of one size, so here they
are normalised (Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix G, with one number for all channels;
here one per channel).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ... import data
from ...devices import memory
from ...errors import UserError, quoted, reason_of, require_positive
from ...storage.files import write_atomically
from ...storage.untrusted import read_npz

NAMES = ("latents", "labels", "mean", "std", "scalar_mean", "scalar_std", "autoencoder", "images", "digest")
DIGESTED = 2000  # images
STATISTICS_TOLERANCE = 1e-4
FILE = "latents.npz"  # in a run's output directory


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation (biased) of latents, per channel (C,) and of all values; float64."""

    mean: np.ndarray
    std: np.ndarray
    scalar_mean: float
    scalar_std: float

    @classmethod
    def of(cls, latents: np.ndarray) -> Statistics:
        """Those of latents (N, C, H, W). Raises UserError where a channel is constant or not finite."""
        axes = (0, 2, 3)
        for channel in np.flatnonzero(~np.isfinite(latents).all(axes)):
            raise UserError(f"channel {channel} of the latents is not finite: the autoencoder diverged; train it anew")
        mean, std = latents.mean(axes, dtype=np.float64), latents.std(axes, dtype=np.float64)
        for channel, deviation in enumerate(std):
            if deviation < 1e-6:
                raise UserError(
                    f"channel {channel} of the latents is constant: the autoencoder has not learned to use it; "
                    "train it for longer"
                )
        scalars = float(latents.mean(dtype=np.float64)), float(latents.std(dtype=np.float64))
        return cls(mean, std, *scalars)

    def close_to(self, other: Statistics) -> bool:
        """Whether both are of one set of numbers, but for the order of their sums."""
        own, theirs = (np.append(s.mean, [*s.std, s.scalar_mean, s.scalar_std]) for s in (self, other))
        size = np.append(other.std, [*other.std, other.scalar_std, other.scalar_std])
        return own.shape == theirs.shape and bool(np.all(np.abs(own - theirs) <= STATISTICS_TOLERANCE * size))


@dataclass(frozen=True)
class Latents:
    """Latents as the encoder gave them, not normalised.

    Attributes:
        values: (N, C, H, W) float32.
        labels: (N,) int32, or None.
        statistics: of ``values``.
        autoencoder: `autoencoder.fingerprint` of what encoded them.
        images: name of the data set they were encoded from.
        digest: `digest_of` that data set.
    """

    values: np.ndarray
    labels: np.ndarray | None
    statistics: Statistics
    autoencoder: str
    images: str
    digest: str

    def source(self, class_names: Sequence[str] | None = None) -> data.ImageSource:
        """What the Trainer reads: the latents as they are, with their labels, and what the classes are called.

        They are known by their images: encoded anew on another machine, they may differ in the last digits.
        """
        source = data.array_source(f"latents of {self.images}", self.values, self.labels, class_names)
        source.identity = {"images": len(source), "shape": list(source.shape), "digest of the images": self.digest}
        return source


def digest_of(source: data.ImageSource) -> str:
    """SHA-256 of a data set's size and labels, and of up to 2,000 of its images, evenly chosen."""
    count = len(source)
    total = hashlib.sha256(f"{count} {source.shape} {'no ' if source.labels is None else ''}labels\n".encode())
    for index in np.linspace(0, count - 1, min(count, DIGESTED)).round().astype(int):
        total.update(source.get(index).tobytes())
    if source.labels is not None:
        total.update(np.asarray(source.labels, np.int32).tobytes())
    return total.hexdigest()


def encode(autoencoder, source: data.ImageSource, name: str, batch_size: int = 256) -> Latents:
    """The latents of every image of ``source`` by an `autoencoder.ImageAutoencoder`.

    Args:
        autoencoder: encodes; its ``image_size`` and ``channels`` are the images'.
        source: images.
        name: what the data set is called, ``config.dataset``.
        batch_size: images encoded at a time.

    Raises:
        UserError: for images of another size, latents that are constant or not finite, and a batch size below 1.
    """
    from ..autoencoder.image_autoencoder import fingerprint

    require_positive(batch_size=batch_size)
    shape = (len(source), *autoencoder.latent_shape)
    memory.require(4 * int(np.prod(shape)), f"the latents of {name}", "take a smaller data set")
    values = np.empty(shape, np.float32)
    for first in range(0, len(source), batch_size):
        indices = range(first, min(first + batch_size, len(source)))
        values[first : indices.stop] = autoencoder.encode(source.batch(indices), batch_size=batch_size)
    labels = None if source.labels is None else np.asarray(source.labels, np.int32)
    return Latents(values, labels, Statistics.of(values), fingerprint(autoencoder.net), str(name), digest_of(source))


def write(path: str | Path, latents: Latents) -> None:
    """Writes ``latents`` to an .npz file, whole or not at all. Raises UserError where it cannot."""
    s = latents.statistics
    arrays = {
        "latents": latents.values, "mean": s.mean, "std": s.std, "scalar_mean": np.float64(s.scalar_mean),
        "scalar_std": np.float64(s.scalar_std), "autoencoder": _as_bytes(latents.autoencoder),
        "images": _as_bytes(latents.images), "digest": _as_bytes(latents.digest),
        **({} if latents.labels is None else {"labels": latents.labels}),
    }  # fmt: skip
    whole = io.BytesIO()
    np.savez(whole, **arrays)
    write_atomically(path, whole.getbuffer())


def _as_bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def read(path: str | Path) -> Latents:
    """What `write` wrote. Nothing is unpickled.

    Raises:
        UserError: no such file, another kind of file, or a damaged one.
    """
    path = Path(path)
    try:
        _, arrays = read_npz(path, lambda names: [name for name in NAMES if name in names])
        latents = _checked(arrays)
    except FileNotFoundError:
        raise UserError(f"no file {path}; expected latents, which train.py makes for the system latent") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # numpy's and zipfile's exceptions for damaged files are of a dozen types
        raise UserError(f"{path} holds no latents: {reason_of(error)}; delete it, and train.py makes it anew") from None
    return latents


def _checked(arrays: dict[str, np.ndarray]) -> Latents:
    """The arrays of a file as `Latents`. Raises ValueError where they are none."""
    missing = [name for name in NAMES if name not in arrays and name != "labels"]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    values, labels = arrays["latents"], arrays.get("labels")
    if values.dtype != np.float32 or values.ndim != 4 or not values.size:
        raise ValueError(f"its latents are {values.dtype} {values.shape}, expected float32 (N, C, H, W)")
    if labels is not None and (labels.dtype != np.int32 or labels.shape != values.shape[:1]):
        raise ValueError(f"its labels are {labels.dtype} {labels.shape}, expected int32 ({len(values)},)")
    for name, shape in (
        ("mean", values.shape[1:2]),
        ("std", values.shape[1:2]),
        ("scalar_mean", ()),
        ("scalar_std", ()),
    ):
        if arrays[name].dtype != np.float64 or arrays[name].shape != shape:
            raise ValueError(f"its {name} is {arrays[name].dtype} {arrays[name].shape}, expected float64 {shape}")
    stated = Statistics(arrays["mean"], arrays["std"], float(arrays["scalar_mean"]), float(arrays["scalar_std"]))
    if not stated.close_to(Statistics.of(values)):
        raise ValueError("its statistics are not those of its latents")
    words = {name: arrays[name] for name in ("autoencoder", "images", "digest")}
    for name, word in words.items():
        if word.dtype != np.uint8 or word.ndim != 1:
            raise ValueError(f"its {name} is {word.dtype} {word.shape}, expected text")
    return Latents(values, labels, stated, *(word.tobytes().decode() for word in words.values()))


def check_origin(latents: Latents, path: str | Path, autoencoder: str, images: str, digest: str) -> None:
    """Raises UserError where ``latents`` are not by the ``autoencoder`` (a fingerprint) of the images of ``digest``.

    ``images`` is what messages call these: a data set may go by another name than it did.
    """
    if latents.autoencoder != autoencoder:
        raise UserError(
            f"{path} holds latents of another autoencoder (its fingerprint is {latents.autoencoder[:12]}, that of the "
            f"one given {autoencoder[:12]}); give that autoencoder, or delete the file and train anew"
        )
    if latents.digest != digest:
        raise UserError(
            f"{path} holds latents of other images or labels (of the data set {quoted(latents.images)}) than those of "
            f"the data set {quoted(str(images))} now; give the former, or delete the file and train anew, or go on all "
            "the same with --accept_changes data"
        )


def prepare(path: str | Path, autoencoder, source: data.ImageSource, name: str, *, renew: bool = False) -> Latents:
    """The latents in ``path`` where it exists, otherwise those of ``source``; nothing is written.

    With ``renew`` those in a file of other images are passed over.

    Raises:
        UserError: as `encode` and `read`, and for a file of another autoencoder or data set.
    """
    from ..autoencoder.image_autoencoder import fingerprint

    path = Path(path)
    if not path.exists():
        return encode(autoencoder, source, name)
    latents, digest = read(path), digest_of(source)
    if renew and latents.digest != digest:
        return encode(autoencoder, source, name)
    check_origin(latents, path, fingerprint(autoencoder.net), name, digest)
    return latents
