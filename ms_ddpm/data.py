"""Images in, batches out: any of six kinds of data set -> uint8 (C, H, W) -> float32 (B, C, H, W) in [0, 1].

Arrays that are no pictures (latents) go the same way as float32, unchanged.

    source = open_images("digits", image_size=(8, 8), channels=1)
    train, validation = split(source, validation_images=100, seed=0)
    for images in iterate(Batches(train, 16, seed=0, start=step, count=1000 - step, flip=True)):
        ...

The order of the images is a function of (seed, batch number, batch size) and of nothing else, so a run
that stops may go on at any batch, on any number of worker threads, and see what it would have seen. All random numbers
come from `ms_ddpm.random.stream`. Importing this module imports neither MindSpore nor Pillow.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from . import _files
from .errors import UserError, one_line, quoted
from .pipeline import iterate, to_dataset
from .random import Stream, stream

__all__ = [
    "Batches",
    "ImageSource",
    "array_source",
    "as_float",
    "check_labels",
    "iterate",
    "open_images",
    "prepare",
    "split",
    "to_dataset",
]

log = logging.getLogger("ms_ddpm")

CACHE_BYTES = 1 << 30  # fitted images are kept in memory up to this many bytes
_UNSEEN, _READY, _UNREADABLE = 0, 1, 2


def open_images(dataset: str | Path, *, image_size: tuple[int, int], channels: int) -> ImageSource:
    """The images of ``dataset`` at one size.

    Args:
        dataset: "digits" (scikit-learn's 1,797 digits, 8x8), "digits28" (the same drawn as 28x28), or the path of a
            folder of images (searched to the bottom), of MNIST idx files (gzipped or not), of CIFAR-10/100 files in the
            binary version (for these two the folder or the file), or of an .npz file. A folder that is really called
            digits is given as ./digits.
        image_size: (H, W). Images of another size are scaled to cover it and cropped in the centre.
        channels: 1, 3 or 4. Image files are converted; arrays must have that many.

    Raises:
        UserError: for a path that is missing, empty, truncated or of another kind, and for channels that do not match.
    """
    height, width = image_size
    if min(height, width) < 1:
        raise UserError(f"image_size is {tuple(image_size)}, expected a height and a width of at least 1")
    if str(dataset) in _files.DIGITS:
        return _array_source(str(dataset), _files.DIGITS[str(dataset)](), (height, width), channels)
    try:
        path = Path(dataset).expanduser()
    except RuntimeError:  # ~somebody who is not known here
        path = Path(dataset)
    try:
        if not path.exists():
            raise UserError(f"data set {path} does not exist; expected {_files.EXPECTED}; check the path")
        pixels = _files.read_pixels(path)
        if pixels is not None:
            return _array_source(str(path), pixels, (height, width), channels)
        return _folder_source(_files.image_paths(path), (height, width), channels, root=path)
    except OSError as error:
        raise UserError(f"data set {path} cannot be read ({error.strerror}); check the path and its rights") from None


def _folder_source(
    paths: list[Path], image_size: tuple[int, int], channels: int, root: Path | None = None
) -> ImageSource:
    if channels not in _files.MODES:
        raise UserError(f"channels is {channels}, expected 1 (grey), 3 (RGB) or 4 (RGBA) for a folder of images")
    load = partial(_files.load_image, image_size=image_size, channels=channels)
    store = _Store((channels, *image_size), list(map(str, paths)), lambda index: load(paths[index]))
    store.root = root
    return ImageSource(store)


def _array_source(name: str, pixels: _files.Pixels, image_size: tuple[int, int], channels: int) -> ImageSource:
    images = pixels.images
    if images.shape[1] != channels:
        raise UserError(
            f"the images of {name} have {images.shape[1]} channel(s), but channels is {channels}; "
            f"set channels to {images.shape[1]}"
        )
    names = range(len(images))
    if images.shape[2:] == image_size:
        store = _Store(images.shape[1:], names, lambda index: images[index], pixels=images)
    else:
        store = _Store((channels, *image_size), names, lambda index: _files.fit_array(images[index], image_size))
    return ImageSource(store, pixels.labels)


def array_source(name: str, arrays: np.ndarray, labels: np.ndarray | None = None) -> ImageSource:
    """``arrays`` as a source: uint8 images, or float32 values that training gets as they are.

    Args:
        name: what messages call it.
        arrays: (N, C, H, W) uint8 or float32.
        labels: (N,) integers, or None.

    Raises:
        UserError: for arrays of another type or shape, none, and labels of another number.
    """
    if arrays.ndim != 4 or arrays.dtype not in (np.uint8, np.float32) or not arrays.size:
        raise UserError(f"{name} is {arrays.dtype} {arrays.shape}, expected uint8 or float32 (N, C, H, W)")
    if labels is not None and labels.shape != arrays.shape[:1]:
        raise UserError(f"{name} has {len(arrays)} arrays, but labels of shape {labels.shape}")
    store = _Store(arrays.shape[1:], range(len(arrays)), lambda index: arrays[index], pixels=arrays)
    return ImageSource(store, None if labels is None else labels.astype(np.int32))


def as_float(images: np.ndarray) -> np.ndarray:
    """What training gets of a source's batch: uint8 in [0, 1], float32 unchanged."""
    return np.divide(images, 255, dtype=np.float32) if images.dtype == np.uint8 else images


class _Store:
    """Every image by number, made when first asked for and kept where they all fit into `CACHE_BYTES`."""

    def __init__(self, shape, names: Sequence, load: Callable[[int], np.ndarray], pixels: np.ndarray | None = None):
        self.shape = tuple(shape)
        self.names = names
        self.root: Path | None = None  # of names that are files: the folder that was given
        self.is_array = pixels is not None
        self.load = load
        self.skipped: dict[str, str] = {}
        self.state = np.full(len(names), _UNSEEN if pixels is None else _READY, np.uint8)
        if pixels is None and len(names) * math.prod(self.shape) <= CACHE_BYTES:
            pixels = np.empty((len(names), *self.shape), np.uint8)
        self.pixels = pixels
        self.dtype = np.uint8 if pixels is None else pixels.dtype
        self._lock = threading.Lock()

    def read(self, index: int) -> np.ndarray | None:
        """uint8 (C, H, W), not to be written to; None for an unreadable image."""
        if self.state[index] == _READY:
            return self.pixels[index]
        if self.state[index] == _UNREADABLE:
            return None
        try:
            image = self.load(index)
        except Exception as error:  # Pillow's decoders raise exceptions of any type on damaged files
            self._skip(index, error)
            return None
        if self.pixels is not None:
            self.pixels[index] = image
            self.state[index] = _READY  # after the pixels: another thread may be reading
        return image

    def _skip(self, index: int, error: Exception) -> None:
        with self._lock:
            if self.state[index] == _UNREADABLE:
                return
            self.state[index] = _UNREADABLE
            name, reason = str(self.names[index]), _files._one_line(error)
            self.skipped[name] = reason
            log.warning(
                "skipped unreadable image %s (%s); %d skipped so far", one_line(name), reason, len(self.skipped)
            )


class ImageSource:
    """Images of one shape, by number; safe to read from several threads. Made by `open_images`.

    Attributes:
        shape: (C, H, W).
        labels: int32 (N,), or None where the files have none.
        skipped: path -> reason, of the files found unreadable so far (shared by all subsets).
        identity: by what a checkpoint knows the data set, where that is not its images; see `ms_ddpm.data_identity`.
        origin: the source that this is a `subset` of, or None.
    """

    def __init__(self, store: _Store, labels: np.ndarray | None = None, indices: np.ndarray | None = None):
        self._store = store
        self._indices = np.arange(len(store.names)) if indices is None else indices
        self.labels = labels
        self.identity: dict | None = None
        self.origin: ImageSource | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self._store.shape

    @property
    def skipped(self) -> dict[str, str]:
        """Unreadable images met so far: path -> reason."""
        return self._store.skipped

    def __len__(self) -> int:
        return len(self._indices)

    def get(self, index: int) -> np.ndarray:
        """Image ``index``, uint8 (C, H, W), a copy. In place of an unreadable one: the next readable one, cyclically.

        Raises:
            UserError: when no image is readable.
        """
        return self._read(index).copy()

    def batch(self, indices: Sequence[int]) -> np.ndarray:
        """Images ``indices``, uint8 (or the array's type) (B, C, H, W); unreadable ones replaced as in `get`."""
        out = np.empty((len(indices), *self.shape), self._store.dtype)
        for row, index in zip(out, indices, strict=True):
            row[:] = self._read(index)
        return out

    def subset(self, indices: Sequence[int]) -> ImageSource:
        """The images ``indices`` in that order. Pixels are shared; replacements come from within the subset."""
        indices = np.asarray(indices, dtype=np.int64)
        found = ImageSource(self._store, None if self.labels is None else self.labels[indices], self._indices[indices])
        found.origin = self
        return found

    @property
    def is_array(self) -> bool:
        """Whether the images lie in memory as they are, and cost nothing to look at."""
        return self._store.is_array

    def repeats(self) -> bool:
        """Whether an image that is made twice is the same one: not so where it is changed by chance each time."""
        try:
            first, second = (self._store.load(int(self._indices[0])) for _ in range(2))
        except Exception:  # of any type: the image is unreadable, which is said when it is needed
            return False
        return np.array_equal(first, second)

    def files(self) -> dict[str, Path] | None:
        """The image files by their names below the data set's folder; None for images that are no files."""
        root = self._store.root
        if root is None:
            return None
        paths = (Path(self._store.names[index]) for index in self._indices)
        return {path.relative_to(root).as_posix(): path for path in paths}

    def _read(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        image = self._store.read(int(self._indices[index]))
        while image is None:  # every turn finds one more unreadable, and none is looked at twice
            readable = np.flatnonzero(self._store.state[self._indices] != _UNREADABLE)
            if not len(readable):
                break
            place = readable[np.searchsorted(readable, index) % len(readable)]
            image = self._store.read(int(self._indices[place]))
        if image is not None:
            return image
        first, reason = next(iter(self.skipped.items()))
        raise UserError(
            f"none of the {len(self)} images can be read; the first is {first} ({reason}); check the data set"
        )


def split(source: ImageSource, validation_images: int, seed: int) -> tuple[ImageSource, ImageSource]:
    """``source`` in two by chance: the images to train on, and ``validation_images`` others (0: an empty source).

    Raises:
        UserError: for a negative number, and where no image would be left to train on.
    """
    if not 0 <= validation_images < len(source):
        raise UserError(
            f"validation_images is {validation_images} of {len(source)} images, expected 0 to {len(source) - 1}: "
            "at least one must be left to train on"
        )
    order = stream(seed, Stream.SPLIT).permutation(len(source))
    return source.subset(order[validation_images:]), source.subset(order[:validation_images])


def prepare(
    dataset: ImageSource | str | Path, cell, validation_images: int, seed: int
) -> tuple[ImageSource, ImageSource | None]:
    """What ``cell`` trains on, and what is held out (None with ``validation_images`` 0).

    ``dataset`` is a source, or what `open_images` takes.

    Raises:
        UserError: as `open_images` and `split`, and where a conditional cell finds no labels, or some it does not know.
    """
    if isinstance(dataset, (str, os.PathLike)):
        dataset = open_images(dataset, image_size=tuple(cell.image_size), channels=cell.channels)
    if getattr(cell, "conditional", False):
        if dataset.labels is None:
            raise UserError("the data set has no labels, which a model of num_classes above 0 needs; set num_classes 0")
        check_labels(dataset.labels, cell.num_classes)
    return split(dataset, validation_images, seed) if validation_images else (dataset, None)


def check_labels(labels: np.ndarray, num_classes: int) -> None:
    """Raises UserError for the first of ``labels`` that is not one of the classes 0 to ``num_classes`` - 1."""
    unknown = labels[(labels < 0) | (labels >= num_classes)]
    if len(unknown):
        raise UserError(
            f"class {quoted(int(unknown[0]))} does not exist; the model has num_classes {num_classes}, "
            f"0 to {num_classes - 1}"
        )


class Batches(Sequence):
    """The batches ``start`` to ``start + count - 1`` of an endless run over ``source``, in any order of asking.

    Item i is batch number start + i * world + rank of the run: float32 (B, C, H, W) in [0, 1]. The whole set is
    shuffled anew every epoch. Image j of batch m is at position p = m * B + j of the run, that is image p % N of epoch
    p // N: every image once an epoch, no image twice among the ranks, no batch cut short at an epoch's end, and none
    skipped or seen twice when a run goes on with another number of processes.

    Args:
        batch_size: B, images per batch.
        seed: of the order and of the flips.
        start: number of the first batch of rank 0; a resumed run gives how many all ranks have had.
        count: how many batches this rank gets.
        flip: mirror each image left to right with probability 1/2.
        rank, world: which of how many processes this is; they take turns.

    Raises:
        UserError: for an empty source and for numbers out of range.
    """

    def __init__(self, source: ImageSource, batch_size: int, *, seed: int, start: int = 0, count: int,
                 flip: bool = False, rank: int = 0, world: int = 1):  # fmt: skip
        for name, value, least in (("batch_size", batch_size, 1), ("start", start, 0), ("count", count, 0)):
            if value < least:
                raise UserError(f"{name} is {value}, expected at least {least}")
        if not 0 <= rank < world:
            raise UserError(f"rank is {rank} of world {world}, expected 0 to world - 1")
        if not len(source):
            raise UserError("there are no images to make batches of; give a data set with at least one")
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.start, self.count, self.flip = start, count, flip
        self.rank, self.world = rank, world
        self._permutation = lru_cache(maxsize=2)(self._shuffle)  # a batch may need two epochs'

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> np.ndarray:
        if not 0 <= item < self.count:
            raise IndexError(f"batch {item} of {self.count}")
        number = self.number(item)
        images = self.source.batch(self.indices(number))
        if self.flip:
            chosen = stream(self.seed, Stream.FLIP, number, 0).random(self.batch_size) < 0.5
            images[chosen] = images[chosen, ..., ::-1]
        return as_float(images)

    def number(self, item: int) -> int:
        """Which batch of the run item ``item`` is; the streams of its random numbers are named by it."""
        return self.start + int(item) * self.world + self.rank

    def indices(self, number: int) -> list[int]:
        """The numbers in the source of the images of batch ``number``, [B]."""
        first = number * self.batch_size
        places = (divmod(p, len(self.source)) for p in range(first, first + self.batch_size))
        return [int(self._permutation(epoch)[place]) for epoch, place in places]

    def _shuffle(self, epoch: int) -> np.ndarray:
        return stream(self.seed, Stream.ORDER, epoch).permutation(len(self.source))
