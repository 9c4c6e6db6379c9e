"""One image, from a file or an array, at one size and number of channels: (C, H, W), uint8 or float32 in [0, 1].

Two ways lead there. In 8 bits Pillow does everything. At full depth, for files of 16 bits and arrays of floats, values
are floats from the first byte on, and scaling is done on them.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..config.colours import WHITE, Colour

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's name for so many channels
LUMA = np.array([0.299, 0.587, 0.114])  # of Pillow's conversion to grey, ITU-R 601-2
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # by content; GIF because it often travels under .png
_LOW_BYTES = {  # Pillow's name of a layout of 16 bits -> that of the bytes which it drops from it
    f"{bands};16{order}": f"{bands};16{other}"
    for bands in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if sys.byteorder == "little" else "L"))
}
_GREY_SCALES = {"L;2": 85, "L;4": 17}  # what Pillow multiplies grey of 2 and 4 bits by
_open_lock = threading.Lock()


def fit(image, image_size: tuple[int, int]):
    """The centre of Pillow image ``image`` at ``image_size`` (H, W).

    The image is scaled with its aspect kept until it just covers the target (for a square one that is torchvision's
    rule: shorter side -> target, longer side -> int(target * long / short)), by Pillow's antialiased bilinear filter,
    up or down; then cropped as torchvision's CenterCrop does.

    Raises:
        ValueError: for an image so long and thin that the scaled one would be a decompression bomb.
    """
    from PIL import Image

    height, width = image_size
    old_width, old_height = image.size
    if width * old_height >= height * old_width:
        new_width, new_height = width, width * old_height // old_width
    else:
        new_width, new_height = height * old_width // old_height, height
    _check_pixels(new_width, new_height)
    image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
    left, top = round((new_width - width) / 2), round((new_height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def load_image(
    path: Path, image_size: tuple[int, int], channels: int, background: Colour = WHITE, full_depth: bool = False,
    on_frames: Callable[[int], None] | None = None,
) -> np.ndarray:  # fmt: skip
    """The image file ``path`` upright, converted to 1 (grey), 3 (RGB) or 4 (RGBA) channels and fitted: (C, H, W).

    Args:
        path: its first frame or page is read.
        image_size, channels: what is wanted.
        background: the colour seen through transparent pixels where there is no alpha channel to keep them.
        full_depth: gives float32 in [0, 1] that keeps what a file of 16 bits holds; otherwise uint8.
        on_frames: called with the number of frames or pages.

    Raises whatever Pillow raises, which for a damaged file may be an exception of any type.
    """
    image, layout = _read(path, on_frames=on_frames)
    keyed_16_bits = "transparency" in image.info and (layout in _LOW_BYTES or _is_16_bit_grey(image))
    if not (full_depth or keyed_16_bits):  # Pillow compares the colour of 16 bits with pixels of 8
        return from_picture(image, image_size, channels, background)
    colour, alpha = _exact_values(path, image, layout)
    values = fit_array(_channels_of(colour, alpha, channels, background), image_size)
    return values if full_depth else np.rint(values * 255).astype(np.uint8)


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of the upright image. Raises whatever Pillow raises."""
    width, height = _read(path)[0].size
    return height, width


def from_picture(image, image_size: tuple[int, int], channels: int, background: Colour = WHITE) -> np.ndarray:
    """A Pillow image converted and fitted as `load_image` does, uint8 (C, H, W)."""
    _check_pixels(*image.size)
    return _chw(fit(_convert(image, MODES[channels], background), image_size))


def fit_array(array: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """uint8 or float32 (C, h, w) fitted to (C, H, W) of the same type, see `fit`.

    Four channels are RGBA, whose colours count as much as they are opaque. Others are fitted one by one.
    """
    from PIL import Image

    if array.shape[1:] == tuple(image_size):
        return array
    if array.dtype != np.uint8:
        return _fit_floats(array, image_size)
    if len(array) not in MODES:
        return np.concatenate([fit_array(plane[None], image_size) for plane in array])
    pixels = array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
    return _chw(fit(Image.fromarray(pixels), image_size))


def _fit_floats(array: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    if len(array) == 4:
        array = np.concatenate([array[:3] * array[3:], array[3:]])
    planes = [np.asarray(fit(Image.fromarray(np.ascontiguousarray(plane)), image_size)) for plane in array]
    fitted = np.stack(planes).astype(np.float32)
    if len(fitted) == 4:
        np.divide(fitted[:3], fitted[3:], out=fitted[:3], where=fitted[3:] > 0)
    return np.clip(fitted, 0, 1)


# ---- opening -----------------------------------------------------------------------------------------------------


def _open(path: Path):
    """Image.open without its bomb warning: `_check_pixels` refuses what it would warn about."""
    from PIL import Image

    with _open_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=_FORMATS)


def _check_pixels(width: int, height: int) -> None:
    from PIL import Image

    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than Pillow's limit of {Image.MAX_IMAGE_PIXELS}")


def _read(path: Path, read_as: str | None = None, on_frames: Callable[[int], None] | None = None) -> tuple:
    """(the first frame upright, Pillow's name for the layout of its bytes); ``read_as`` is put in that one's place."""
    from PIL import ImageOps

    with _open(path) as image:
        _check_pixels(*image.size)
        layout = _layout(image.tile)
        if read_as is not None:
            image.tile = [(*tile[:3], _with_layout(tile[3], read_as)) for tile in image.tile]
        image.load()
        if layout in _GREY_SCALES and isinstance(image.info.get("transparency"), int):
            image.info["transparency"] *= _GREY_SCALES[layout]  # Pillow scales the pixels alone (13.0)
        upright = ImageOps.exif_transpose(image)
        if on_frames is not None:
            on_frames(_frames(image))
        return upright, layout


def _layout(tiles: list) -> str:
    """Pillow's "raw mode" of an image that is not loaded yet; empty where it has several or none."""
    found = {_layout_of(tile[3]) for tile in tiles}
    return found.pop() if len(found) == 1 else ""


def _layout_of(arguments) -> str:
    first = arguments if isinstance(arguments, str) or not arguments else arguments[0]
    return first if isinstance(first, str) else ""


def _with_layout(arguments, layout: str):
    return layout if isinstance(arguments, str) else (layout, *arguments[1:])


def _frames(image) -> int:
    """How many frames or pages a file has, from its open image; 1 where its end is damaged."""
    try:
        return image.n_frames if getattr(image, "is_animated", False) else 1
    except Exception:  # Pillow looks through the whole file for them, with exceptions of any type
        return 1


# ---- 8 bits ------------------------------------------------------------------------------------------------------


def _convert(image, mode: str, background: Colour):
    if image.mode == "F":
        raise ValueError("floating-point pixels: their range is unknown")
    if _is_16_bit_grey(image):
        image = _from_16_bit(image)
    if mode != "RGBA" and _is_transparent(image):
        image = _flattened(image, background)
    return image.convert(mode)


def _is_16_bit_grey(image) -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


def _grey_of_16_bits(image) -> np.ndarray:
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError("32-bit integer pixels: their range is unknown")
    return grey


def _from_16_bit(image):
    """0..65535 -> 0..255; Pillow's own conversion cuts everything above 255 off."""
    from PIL import Image

    return Image.fromarray(((_grey_of_16_bits(image) + 128) // 257).astype(np.uint8))


def _is_transparent(image) -> bool:
    """Whether some pixels may be: by a channel of their own, by palette, or as one colour that is named."""
    palette = getattr(image, "palette", None)
    alpha_in_palette = image.mode == "P" and palette is not None and palette.mode.endswith("A")
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or alpha_in_palette or "transparency" in image.info


def _flattened(image, background: Colour):
    """What is seen of ``image`` before ``background``: RGB. What is hidden under alpha 0 stays hidden."""
    from PIL import Image

    whole = image.convert("RGBA")
    return Image.composite(whole.convert("RGB"), Image.new("RGB", whole.size, background), whole.getchannel("A"))


def _chw(image) -> np.ndarray:
    array = np.asarray(image, dtype=np.uint8)
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


# ---- full depth --------------------------------------------------------------------------------------------------


def _exact_values(path: Path, image, layout: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(colour (H, W, 1 or 3), alpha (H, W, 1) or None), float32 in [0, 1], of a file whose 8 bits ``image`` holds.

    Pillow has no mode for colour of 16 bits: it keeps the high byte of each value. Read a second time, in the other
    byte order, it keeps the low ones. Of grey with alpha, four bytes a pixel, it gives all when asked for RGBA.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels: their range is unknown")
    key = image.info.get("transparency")
    if _is_16_bit_grey(image):
        values, depth = _grey_of_16_bits(image)[..., None], 65535
    elif layout == "LA;16B":
        parts = np.asarray(_read(path, "RGBA")[0], np.uint16)
        values, depth, key = 256 * parts[..., ::2] + parts[..., 1::2], 65535, None
    elif layout in _LOW_BYTES:
        values, depth = 256 * np.asarray(image, np.uint16) + np.asarray(_read(path, _LOW_BYTES[layout])[0]), 65535
    else:
        grey, transparent = image.mode in ("1", "L", "LA", "La"), _is_transparent(image)
        mode = ("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB")
        values, depth, key = np.asarray(image.convert("RGBA" if mode == "LA" else mode)), 255, None
        values = values[..., [0, 3]] if mode == "LA" else values.reshape(*values.shape[:2], -1)
    bands = values.shape[-1]
    exact = np.divide(values, depth, dtype=np.float32)
    if key is not None and bands in (1, 3):
        return exact, (values != np.asarray(key)).any(axis=-1, keepdims=True).astype(np.float32)
    return (exact[..., :-1], exact[..., -1:]) if bands in (2, 4) else (exact, None)


def _channels_of(colour: np.ndarray, alpha: np.ndarray | None, channels: int, background: Colour) -> np.ndarray:
    """`_exact_values` as float32 (``channels``, H, W), before ``background`` unless there is an alpha channel."""
    behind = np.array(background) / 255
    if channels == 1:
        behind = LUMA @ behind
        colour = colour if colour.shape[-1] == 1 else (colour @ LUMA)[..., None]
    else:
        colour = np.broadcast_to(colour, (*colour.shape[:2], 3))
    if channels == 4:
        colour = np.concatenate([colour, np.ones_like(colour[..., :1]) if alpha is None else alpha], axis=-1)
    elif alpha is not None:
        colour = colour * alpha + behind * (1 - alpha)
    return np.ascontiguousarray(colour.transpose(2, 0, 1), np.float32)
