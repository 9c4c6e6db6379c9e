"""`ImageSource`: images of one shape, by number, from wherever they come; and the sources of folders and arrays.

What else can be a data set becomes one of these: `data.open_images` for files, `given` for what a program has.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..config.colours import WHITE, Colour
from ..errors import UserError, described, one_line, quoted
from . import datasets as _datasets
from . import folders as _folders
from . import reading as _files

log = logging.getLogger("ms_ddpm")

_UNSEEN, _READY, _UNREADABLE = 0, 1, 2


class Store:
    """Every image by number, made when first asked for and kept where they all fit into ``keep_bytes``.

    Args:
        name: what messages call the data set; of files, the path.
        shape: (C, H, W) of every image.
        names: of the images, for messages.
        load: index -> array of ``shape`` and ``dtype``. A `UserError` of it is raised; any other exception means that
            the image is unreadable.
        pixels: all images (N, C, H, W), where they are there already.
        dtype: uint8 or float32.
        keep_bytes: 0 keeps nothing.
        class_names: of the classes by number, where they have names.
        root: of names that are files: the folder that was given.
    """

    def __init__(self, name: str, shape: Sequence[int], names: Sequence, load: Callable[[int], np.ndarray], *,
                 pixels: np.ndarray | None = None, dtype: type = np.uint8, keep_bytes: int = 0,
                 class_names: Sequence[str] | None = None, root: Path | None = None):  # fmt: skip
        self.name = name
        self.shape = tuple(shape)
        self.names = names
        self.load = load
        self.class_names = class_names
        self.root = root
        self.is_array = pixels is not None
        self.skipped: dict[str, str] = {}
        self.state = np.full(len(names), _UNSEEN if pixels is None else _READY, np.uint8)
        self.dtype = np.dtype(dtype if pixels is None else pixels.dtype)
        if pixels is None and len(names) * math.prod(self.shape) * self.dtype.itemsize <= keep_bytes:
            pixels = np.empty((len(names), *self.shape), self.dtype)
        self.pixels = pixels
        self._lock = threading.Lock()

    def read(self, index: int) -> np.ndarray | None:
        """Image ``index`` (C, H, W), not to be written to; None for an unreadable one."""
        if self.state[index] == _READY:
            return self.pixels[index]
        if self.state[index] == _UNREADABLE:
            return None
        try:
            image = self.load(index)
        except UserError:
            raise
        except Exception as error:  # Pillow's decoders raise exceptions of any type on damaged files
            self._skip(index, error)
            return None
        if self.pixels is not None:
            self.pixels[index] = image
            self.state[index] = _READY  # after the pixels: another thread may be reading
        return image

    def readable(self, indices: np.ndarray) -> np.ndarray:
        """The places in ``indices`` of images that are not known to be unreadable."""
        return np.flatnonzero(self.state[indices] != _UNREADABLE)

    def _skip(self, index: int, error: Exception) -> None:
        with self._lock:
            if self.state[index] == _UNREADABLE:
                return
            self.state[index] = _UNREADABLE
            name, reason = str(self.names[index]), described(error)
            self.skipped[name] = reason
            log.warning(
                "skipped unreadable image %s (%s); %d skipped so far", one_line(name), reason, len(self.skipped)
            )


class ImageSource:
    """Images of one shape, by number; safe to read from several threads. Made by `data.open_images`.

    Attributes:
        shape: (C, H, W).
        labels: int32 (N,), or None where the data set has none.
        skipped: path -> reason, of the files found unreadable so far (shared by all subsets).
        columns: name -> (N, ...), what else belongs to each image: tokens of a caption, say.
        identity: by what a checkpoint knows the data set, where that is not its images; see `ms_ddpm.data.identity`.
        origin: the source that this is a `subset` of, or None.
    """

    def __init__(
        self, store: Store, labels: np.ndarray | None = None, indices: np.ndarray | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
    ):  # fmt: skip
        self._store = store
        self._indices = np.arange(len(store.names)) if indices is None else indices
        self.labels = labels
        self.columns = dict(columns or {})
        self.identity: dict | None = None
        self.origin: ImageSource | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self._store.shape

    @property
    def dtype(self) -> np.dtype:
        """uint8, or float32 for values that training gets as they are: images in [0, 1], latents."""
        return self._store.dtype

    @property
    def name(self) -> str:
        """What the data set is called; of files, the path."""
        return self._store.name

    @property
    def names(self) -> list[str]:
        """Of every image what it is called within the data set: the file's path in the folder, or its number."""
        root = self._store.root
        names = [str(self._store.names[index]) for index in self._indices]
        return names if root is None else [Path(name).relative_to(root).as_posix() for name in names]

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes 0, 1, ... where they have any: those of the folders."""
        return self._store.class_names

    @property
    def skipped(self) -> dict[str, str]:
        """Unreadable images met so far: path -> reason."""
        return self._store.skipped

    def __len__(self) -> int:
        return len(self._indices)

    def get(self, index: int) -> np.ndarray:
        """Image ``index``, (C, H, W), a copy. In place of an unreadable one: the next readable one, cyclically.

        Raises:
            UserError: when no image is readable.
        """
        return self._read(index).copy()

    def batch(self, indices: Sequence[int]) -> np.ndarray:
        """Images ``indices``, (B, C, H, W) of the source's `dtype`; unreadable ones replaced as in `get`."""
        out = np.empty((len(indices), *self.shape), self.dtype)
        for row, index in zip(out, indices, strict=True):
            row[:] = self._read(index)
        return out

    def column(self, name: str, indices: Sequence[int]) -> np.ndarray:
        """Of the images ``indices`` what training gets of the column ``name``: "image", "label", or one of `columns`.

        Raises UserError for a column that the data set does not have.
        """
        if name == "image":
            return as_float(self.batch(indices))
        column = self.labels if name == "label" else self.columns.get(name)
        if column is None:
            known = ", ".join(["image", *(["label"] if self.labels is not None else []), *self.columns])
            raise UserError(
                f"the data set {self.name} has no column {quoted(name)}, which the model takes; it has {known}"
            )
        return column[np.asarray(indices)]

    def subset(self, indices: Sequence[int]) -> ImageSource:
        """The images ``indices`` in that order. Pixels are shared; replacements come from within the subset."""
        indices = np.asarray(indices, dtype=np.int64)
        labels = None if self.labels is None else self.labels[indices]
        columns = {name: column[indices] for name, column in self.columns.items()}
        found = ImageSource(self._store, labels, self._indices[indices], columns)
        found.origin = self
        return found

    @property
    def is_array(self) -> bool:
        """Whether the images lie in memory as they are, and cost nothing to look at."""
        return self._store.is_array

    def files(self) -> dict[str, Path] | None:
        """The image files by their names below the data set's folder; None for images that are no files."""
        if self._store.root is None:
            return None
        paths = (Path(self._store.names[index]) for index in self._indices)
        return dict(zip(self.names, paths, strict=True))

    def _read(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        image = self._store.read(int(self._indices[index]))
        while image is None:  # every turn finds one more unreadable, and none is looked at twice
            readable = self._store.readable(self._indices)
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


def as_float(images: np.ndarray) -> np.ndarray:
    """What training gets of a source's batch: uint8 in [0, 1], float32 unchanged."""
    return np.divide(images, 255, dtype=np.float32) if images.dtype == np.uint8 else images


def as_bytes(images: np.ndarray) -> np.ndarray:
    """What evaluators and pictures get of a source's batch: uint8 unchanged, float32 in [0, 1] as the nearest one."""
    return images if images.dtype == np.uint8 else np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def array_source(
    name: str, arrays: np.ndarray, labels: np.ndarray | None = None, class_names: Sequence[str] | None = None
) -> ImageSource:
    """``arrays`` as a source: uint8 images, or float32 values that training gets as they are.

    Args:
        name: what messages call it.
        arrays: (N, C, H, W) uint8 or float32.
        labels: (N,) integers, or None.
        class_names: of the classes 0, 1, ..., where they have any.

    Raises:
        UserError: for arrays of another type or shape, none, and labels of another number.
    """
    if arrays.ndim != 4:
        raise UserError(f"{name} is {arrays.dtype} {arrays.shape}, expected uint8 or float32 (N, C, H, W)")
    return values_source(name, arrays, labels, class_names)


def values_source(
    name: str, arrays: np.ndarray, labels: np.ndarray | None = None, class_names: Sequence[str] | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
) -> ImageSource:  # fmt: skip
    """`array_source` of values of any shape (N, ...), vectors say, with other ``columns`` beside them, (N, ...) each.

    A model takes a column by its name; see `trainable.Trainable.batch_fields`.
    """
    if arrays.ndim < 2 or arrays.dtype not in (np.uint8, np.float32) or not arrays.size:
        raise UserError(f"{name} is {arrays.dtype} {arrays.shape}, expected uint8 or float32 (N, C, H, W)")
    for column, values in (columns or {}).items():
        if len(values) != len(arrays):
            raise UserError(f"{name} has {len(arrays)} arrays, but {len(values)} values in the column {column}")
    if labels is not None and labels.shape != arrays.shape[:1]:
        raise UserError(f"{name} has {len(arrays)} arrays, but labels of shape {labels.shape}")
    store = Store(name, arrays.shape[1:], range(len(arrays)), lambda index: arrays[index], pixels=arrays,
                  class_names=class_names)  # fmt: skip
    return ImageSource(store, None if labels is None else labels.astype(np.int32), None, columns)


def fitted_source(
    name: str, arrays: np.ndarray, labels: np.ndarray | None, image_size: tuple[int, int], keep_bytes: int
) -> ImageSource:
    """`array_source` of images (N, C, h, w) of any size, fitted to ``image_size`` (H, W)."""
    if arrays.shape[2:] == tuple(image_size):
        return array_source(name, arrays, labels)
    shape = (arrays.shape[1], *image_size)
    store = Store(name, shape, range(len(arrays)), lambda index: _files.fit_array(arrays[index], image_size),
                  dtype=arrays.dtype.type, keep_bytes=keep_bytes)  # fmt: skip
    return ImageSource(store, labels)


def channel_axis(
    shape: Sequence[int], channels: int, image_size: tuple[int, int], name: str, default: int | None = None
) -> int:
    """Which axis of images of ``shape`` (3 sizes) is the channels': 0 (C, H, W) or 2 (H, W, C).

    Args:
        shape: of one image.
        channels, image_size: what the images are for; where both axes have ``channels``, the sides decide.
        name: what messages call the data set.
        default: the answer where nothing decides.

    Raises:
        UserError: where neither axis, or both, fit and there is no ``default``.
    """
    fitting = [axis for axis in (0, 2) if shape[axis] == channels]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        found = next((shape[axis] for axis in (2, 0) if shape[axis] in _files.MODES), shape[2])
        raise UserError(
            f"the images of {name} have {found} channel(s), but channels is {channels}; set channels to {found} (one "
            f"image is {tuple(shape)}, expected (H, W, {channels}) or ({channels}, H, W))"
        )
    sides = {0: tuple(shape[1:]), 2: tuple(shape[:2])}
    exact = [axis for axis in fitting if sides[axis] == tuple(image_size)]
    if len(exact) == 1:
        return exact[0]
    if default is not None:
        return default
    raise UserError(
        f"one image of {name} is {tuple(shape)}, which may be ({channels}, H, W) or (H, W, {channels}); give images of "
        f"the model's size {tuple(image_size)}, or a data.array_source, which takes (N, C, H, W)"
    )


def channels_first(
    name: str, images: np.ndarray, channels: int, image_size: tuple[int, int], default: int | None = None
) -> np.ndarray:
    """Images (N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W). Raises UserError as `channel_axis`."""
    if images.ndim == 3:
        images = images[..., None]
    axis = channel_axis(images.shape[1:], channels, image_size, name, default)
    return np.ascontiguousarray(images if axis == 0 else images.transpose(0, 3, 1, 2))


def folder_source(
    folder: Path, image_size: tuple[int, int], channels: int, *, background: Colour = WHITE, full_depth: bool = False,
    class_folders: bool = False, keep_bytes: int = 0,
) -> ImageSource:  # fmt: skip
    """The images in a folder; see `data.open_images`. One line of the log says what was left out.

    Raises:
        UserError: for a folder without images, channels that Pillow does not have, images in no class folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a data set; expected {_datasets.EXPECTED}; give the folder, not one image")
    paths, left_out = _folders.image_paths(folder)
    if not paths:
        what = "has no images" if any(folder.iterdir()) else "is empty"
        what += f" (left out: {left_out})" if left_out.kinds else ""
        tests = _datasets.test_file(folder)
        advice = f"to take {tests.name} give that file" if tests else "put images in it or give another folder"
        raise UserError(f"folder {folder} {what}; expected {_datasets.EXPECTED}; {advice}")
    if channels not in _files.MODES:
        raise UserError(f"channels is {channels}, expected 1 (grey), 3 (RGB) or 4 (RGBA) for a folder of images")
    class_names, labels = _folders.classes(folder, paths) if class_folders else (None, None)
    if left_out.kinds:
        log.warning("left out of %s: %s", folder, left_out)
    frames = _folders.Frames(folder, len(paths))

    def load(index: int) -> np.ndarray:
        return _files.load_image(
            paths[index], image_size=image_size, channels=channels, background=background, full_depth=full_depth,
            on_frames=frames.counter(index, paths[index]),
        )  # fmt: skip

    dtype = np.float32 if full_depth else np.uint8
    store = Store(str(folder), (channels, *image_size), list(map(str, paths)), load, dtype=dtype,
                  keep_bytes=keep_bytes, class_names=class_names, root=folder)  # fmt: skip
    return ImageSource(store, labels)
