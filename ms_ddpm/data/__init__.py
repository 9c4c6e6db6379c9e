"""Images in, batches out: a data set of any kind -> (C, H, W) -> float32 (B, C, H, W) in [0, 1].

Arrays that are no pictures (latents) go the same way as float32, unchanged.

    source = open_images("digits", image_size=(8, 8), channels=1)
    train, validation = split(source, validation_images=100, seed=0)
    for images in iterate(Batches(train, 16, seed=0, start=step, count=1000 - step, flip=True)):
        ...

The order of the images is a function of (seed, batch number, batch size) and of nothing else, so a run
that stops may go on at any batch, on any number of worker threads, and see what it would have seen. All random numbers
come from `ms_ddpm.maths.random.stream`. Importing this module imports neither MindSpore nor Pillow.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from .. import registry
from ..config import Config, colours, image_sides
from ..errors import UserError, quoted
from ..maths.random import Stream, stream
from . import datasets as _datasets
from . import folders as _folders
from . import given
from .datasets import test_file
from .pipeline import iterate, to_dataset
from .sources import (
    ImageSource,
    array_source,
    as_bytes,
    as_float,
    channels_first,
    fitted_source,
    folder_source,
)

__all__ = [
    "Batches",
    "ImageSource",
    "array_source",
    "as_bytes",
    "as_float",
    "check_labels",
    "iterate",
    "open_configured",
    "open_images",
    "prepare",
    "split",
    "test_file",
    "to_dataset",
]

CACHE_BYTES = 1 << 30  # fitted images are kept in memory up to this many bytes
LABELS_FROM = ("files", "folders")


def open_images(
    dataset: str | Path, *, image_size: tuple[int, int], channels: int, background: str = "white",
    full_depth: bool = False, labels_from: str = "files",
) -> ImageSource:  # fmt: skip
    """The images of ``dataset`` at one size.

    Args:
        dataset: "digits" (scikit-learn's 1,797 digits, 8x8), "digits28" (the same drawn as 28x28), or the path of a
            folder of images (searched to the bottom), of MNIST idx files (gzipped or not), of CIFAR-10/100 files in the
            binary version (for these two the folder, one above it that torchvision made, or the file), or of an .npz
            file. A folder that is really called digits is given as ./digits.
        image_size: (H, W). Images of another size are scaled to cover it and cropped in the centre.
        channels: 1, 3 or 4. Image files are converted; arrays must have that many.
        background: what is seen through transparent pixels of image files with 1 or 3 channels: a colour's name or
            #rrggbb. With 4 channels they stay transparent.
        full_depth: keeps what image files of 16 bits hold, as float32; otherwise they are rounded to 8 bits.
        labels_from: "files": the labels that MNIST, CIFAR and .npz files bring; "folders": in a folder of images each
            folder is a class.

    Raises:
        UserError: for a path that is missing, empty, truncated or of another kind, for channels that do not match, and
            for images that are in no class folder.
    """
    height, width = image_size
    if min(height, width) < 1:
        raise UserError(f"image_size is {tuple(image_size)}, expected a height and a width of at least 1")
    if labels_from not in LABELS_FROM:
        raise UserError(f"labels_from is {quoted(labels_from)}, expected one of: {', '.join(LABELS_FROM)}")
    try:
        behind = colours.parse(background)
    except ValueError as error:
        raise UserError(f"background is {quoted(background)}, {error}") from None
    name, pixels = str(dataset), None
    if name in _datasets.DIGITS:
        pixels = _datasets.DIGITS[name]()
    try:
        if pixels is None:
            path = _existing(dataset)
            name, pixels = str(path), _datasets.read_pixels(path)
        if pixels is None:
            return folder_source(
                path, (height, width), channels, background=behind, full_depth=full_depth,
                class_folders=labels_from == "folders", keep_bytes=CACHE_BYTES,
            )  # fmt: skip
    except OSError as error:
        which = "" if error.filename in (None, name) else f" at {error.filename}"
        raise UserError(
            f"data set {name} cannot be read{which} ({error.strerror}); check the path and its rights"
        ) from None
    if labels_from == "folders":
        raise UserError(f"labels_from is folders, but {name} is no folder of images; set labels_from to files")
    images = pixels.images
    if not pixels.layout_known:
        images = channels_first(name, images, channels, (height, width), default=2)
    if images.shape[1] != channels:
        raise UserError(
            f"the images of {name} have {images.shape[1]} channel(s), but channels is {channels}; "
            f"set channels to {images.shape[1]}"
        )
    return fitted_source(name, images, pixels.labels, (height, width), CACHE_BYTES)


def _existing(dataset: str | Path) -> Path:
    try:
        path = Path(dataset).expanduser()
    except RuntimeError:  # ~somebody who is not known here
        path = Path(dataset)
    if not path.exists():
        raise UserError(f"data set {path} does not exist; expected {_datasets.EXPECTED}; check the path")
    return path


def open_configured(
    config: Config, dataset: str | Path | None = None, image_size: tuple[int, int] | None = None
) -> ImageSource:
    """`open_images` as a configuration says, or of another ``dataset`` or ``image_size`` with its other options.

    Raises:
        UserError: as `open_images`, and for another number of class folders than ``num_classes``.
    """
    return registry.of(config).open_images(config, dataset, image_size)


def open_of_any_system(
    config: Config, dataset: str | Path | None = None, image_size: tuple[int, int] | None = None, *,
    labels_from: str = "files", num_classes: int = 0,
) -> ImageSource:  # fmt: skip
    """`open_configured` by the keys that every system has; what some have beside them are arguments."""
    source = open_images(
        config.dataset if dataset is None else dataset,
        image_size=image_sides(config) if image_size is None else image_size, channels=config.channels,
        background=config.background, full_depth=config.full_depth, labels_from=labels_from,
    )  # fmt: skip
    if source.class_names is not None:
        _folders.check_classes(source.class_names, num_classes)
    return source


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


def prepare(dataset, cell, validation_images: int, seed: int) -> tuple[ImageSource, ImageSource | None]:
    """What ``cell`` trains on, and what is held out (None with ``validation_images`` 0).

    ``dataset`` is a source, or what `open_images` or `given.as_source` takes.

    Raises:
        UserError: as these and `split`, and where a conditional cell finds no labels, or some it does not know.
    """
    from ..trainable import fields_of

    conditional = "label" in fields_of(cell)
    if isinstance(dataset, (str, os.PathLike)):
        dataset = open_images(dataset, image_size=tuple(cell.image_size), channels=cell.channels)
    elif not isinstance(dataset, ImageSource):
        dataset = given.as_source(
            dataset, image_size=tuple(cell.image_size), channels=cell.channels, labelled=conditional,
            keep_bytes=CACHE_BYTES,
        )  # fmt: skip
    if conditional:
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

    With ``fields`` an item is a tuple of the columns of these names, see `ImageSource.column`.

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
                 flip: bool = False, rank: int = 0, world: int = 1,
                 fields: Sequence[str] | None = None):  # fmt: skip
        for name, value, least in (("batch_size", batch_size, 1), ("start", start, 0), ("count", count, 0)):
            if value < least:
                raise UserError(f"{name} is {value}, expected at least {least}")
        if not 0 <= rank < world:
            raise UserError(f"rank is {rank} of world {world}, expected 0 to world - 1")
        if not len(source):
            raise UserError("there are no images to make batches of; give a data set with at least one")
        self.source = source
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.count = count
        self.flip = flip
        self.rank = rank
        self.world = world
        self.fields = None if fields is None else tuple(fields)
        self._permutation = lru_cache(maxsize=2)(self._shuffle)  # a batch may need two epochs'

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> np.ndarray | tuple[np.ndarray, ...]:
        if not 0 <= item < self.count:
            raise IndexError(f"batch {item} of {self.count}")
        number = self.number(item)
        indices = self.indices(number)
        if self.fields is None:
            return self._images(number, indices)
        return tuple(
            self._images(number, indices) if name == "image" else self.source.column(name, indices)
            for name in self.fields
        )

    def _images(self, number: int, indices: Sequence[int]) -> np.ndarray:
        images = self.source.batch(indices)
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
