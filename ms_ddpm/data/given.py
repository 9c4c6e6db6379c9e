"""Data sets that a program gives: an array, a list of arrays, or a data set as PyTorch knows them.

What matters of an object is whether it can be indexed and whether it turns into a numpy array; no framework is
imported.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from ..config.colours import WHITE, Colour
from ..errors import UserError, described
from . import reading as _files
from .sources import ImageSource, Store, channel_axis, channels_first, fitted_source

EXPECTED = "a path, an array of images, a list of them, a data set with __len__ and __getitem__, or a data.ImageSource"


def as_source(
    dataset: Any, *, image_size: tuple[int, int], channels: int, labelled: bool = False, background: Colour = WHITE,
    keep_bytes: int = 0,
) -> ImageSource:  # fmt: skip
    """``dataset`` as a source of images (C, H, W).

    Args:
        dataset: an array of images, (N, H, W), (N, H, W, C) or (N, C, H, W), uint8 or floats in [0, 1]; with classes
            the pair (images, classes); or anything with ``__len__`` and ``__getitem__``, a list among others, whose
            items are images or pairs (image, class). Such an image is an array or tensor without the axis N, or a
            Pillow image, and is asked for again whenever it is needed, by one thread at a time.
        image_size: (H, W). Images of another size are scaled to cover it and cropped in the centre.
        channels: C, which tells the axis of the channels. Pillow images are converted.
        labelled: whether classes are wanted. Those of a data set are read at once, and with them every item.
        background: what is seen through transparent pixels of Pillow images.
        keep_bytes: arrays of another size are kept as fitted, where they all fit into so many bytes.

    Raises:
        UserError: for another object, arrays of another type or range, an axis of channels that cannot be told, and an
            item that cannot be read or is no image, which is named. The last two also come from the source later.
    """
    name = f"the {type(dataset).__name__} given"
    try:
        images, labels = _arrays(dataset)
    except Exception as error:  # a tensor that needs a gradient, or is on a device
        raise UserError(f"{name} does not become a numpy array ({described(error)}); give it as one") from error
    if images is not None:
        if images.ndim not in (3, 4) or not images.size:
            raise UserError(f"{name} has shape {images.shape}, expected images (N, H, W), (N, H, W, C) or (N, C, H, W)")
        images = channels_first(name, _checked(images, name), channels, image_size)
        return fitted_source(name, images, labels, image_size, keep_bytes)
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise UserError(f"the data set is a {type(dataset).__name__}, expected {EXPECTED}")
    items = _Items(dataset, name, image_size, channels, background)
    store = Store(name, (channels, *image_size), range(len(dataset)), items.image, dtype=items.dtype)
    labels = np.array([items.label(i) for i in range(len(dataset))], np.int32) if labelled else None
    return ImageSource(store, labels)


def _as_array(value: Any) -> np.ndarray | None:
    """``value`` as a numpy array where it is one, or a tensor of whatever framework; otherwise None."""
    if isinstance(value, np.ndarray):
        return value
    for method in ("asnumpy", "numpy"):  # MindSpore's, PyTorch's
        if callable(getattr(value, method, None)):
            return np.asarray(getattr(value, method)())
    return None


def _arrays(dataset: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(images, classes int32 or None) of an array or a pair of them; (None, None) where ``dataset`` is neither."""
    if isinstance(dataset, tuple) and len(dataset) == 2:
        images, labels = _as_array(dataset[0]), _as_array(dataset[1])
        if images is not None and labels is not None:
            whole_numbers = labels.ndim == 1 and labels.dtype.kind in "iu"
            if whole_numbers and images.ndim > 2 and len(images) == len(labels):
                return images, labels.astype(np.int32)
        return None, None
    return _as_array(dataset), None


def _checked(images: np.ndarray, name: str) -> np.ndarray:
    """uint8 as it is, floats in [0, 1] as float32."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise UserError(f"{name} is of type {images.dtype}, expected uint8 or floats in [0, 1]")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # so written that a nan is refused
        raise UserError(
            f"{name} has values from {low:g} to {high:g}, expected floats in [0, 1], or uint8; "
            "the model normalises by itself: leave Normalize out"
        )
    return images.astype(np.float32, copy=False)


class _Items:
    """The items of ``dataset``, one at a time: an object made for a process of its own may not bear two threads."""

    def __init__(self, dataset: Any, name: str, image_size: tuple[int, int], channels: int, background: Colour):
        if not len(dataset):
            raise UserError(f"{name} is empty, expected at least one image")
        self.dataset = dataset
        self.name = name
        self.image_size = image_size
        self.channels = channels
        self.background = background
        self._lock = threading.Lock()
        self.dtype: type = np.uint8
        self.dtype = self._fitted(0).dtype.type

    def _item(self, index: int) -> Any:
        try:
            with self._lock:
                return self.dataset[index]
        except Exception as error:
            raise UserError(f"item {index} of {self.name} cannot be read ({described(error)})") from error

    def image(self, index: int) -> np.ndarray:
        """Image ``index``, (C, H, W), of the type of item 0."""
        image = self._fitted(index)
        if image.dtype == self.dtype:
            return image
        if self.dtype == np.uint8:
            raise UserError(f"item {index} of {self.name} holds floats, item 0 bytes; give all of one type")
        return np.divide(image, 255, dtype=np.float32)

    def _fitted(self, index: int) -> np.ndarray:
        from PIL import Image

        item, name = self._item(index), f"item {index} of {self.name}"
        image = item[0] if isinstance(item, (tuple, list)) and len(item) == 2 else item
        try:
            if isinstance(image, Image.Image):
                return _files.from_picture(image, self.image_size, self.channels, self.background)
            pixels = _as_array(image)
            if pixels is None or pixels.ndim not in (2, 3) or not pixels.size:
                shape = "" if pixels is None else f" of shape {pixels.shape}"
                raise UserError(
                    f"{name} is a {type(image).__name__}{shape}, expected an image: an array or tensor (H, W), "
                    "(H, W, C) or (C, H, W), or a Pillow image; or the pair of an image and its class"
                )
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            axis = channel_axis(pixels.shape, self.channels, self.image_size, name)
            return _files.fit_array(_checked(np.moveaxis(pixels, axis, 0), name), self.image_size)
        except UserError:
            raise
        except Exception as error:  # of Pillow, or of a tensor that does not become an array
            raise UserError(f"{name} cannot be made an image ({described(error)})") from error

    def label(self, index: int) -> int:
        """The class of item ``index``."""
        item = self._item(index)
        label = item[1] if isinstance(item, (tuple, list)) and len(item) == 2 else None
        value = _as_array(label) if _as_array(label) is not None else np.asarray(label)
        if value.size != 1 or value.dtype.kind not in "iu":
            raise UserError(
                f"item {index} of {self.name} has no class that is a whole number, which a model of num_classes above "
                "0 needs; give pairs (image, class)"
            )
        return int(value.reshape(()))
