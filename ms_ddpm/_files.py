"""Reads data set files into uint8 arrays, and one image into one array. Nothing is unpickled here.

A data set file is somebody else's: lengths are checked against headers before pixels are believed, and every
complaint is a `UserError` that names the file. `READERS` is the list of what is understood.
"""

from __future__ import annotations

import gzip
import math
import os
import threading
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import memory, untrusted
from .errors import UserError, one_line

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's name for so many channels
EXPECTED = (
    f"a folder of images ({' '.join(SUFFIXES)}), MNIST idx files, CIFAR files of the binary version, "
    'an .npz file, "digits" or "digits28"'
)
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # by content; GIF because it often travels under .png
_CIFAR_PIXELS = 3 * 32 * 32
_CIFAR_BYTES = 1 << 30  # the largest file of the two sets has 154 MB
_open_lock = threading.Lock()


@dataclass(frozen=True)
class Pixels:
    """A data set that is one array: ``images`` uint8 (N, C, H, W), ``labels`` int32 (N,) or None."""

    images: np.ndarray
    labels: np.ndarray | None = None


# ---- one image ---------------------------------------------------------------------------------------------------


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


def load_image(path: Path, image_size: tuple[int, int], channels: int) -> np.ndarray:
    """The image file ``path`` upright, converted to 1 (grey), 3 (RGB) or 4 (RGBA) channels and fitted: uint8 (C, H, W).

    Raises whatever Pillow raises, which for a damaged file may be an exception of any type.
    """
    from PIL import ImageOps

    with _open(path) as image:
        _check_pixels(*image.size)
        image.load()
        upright = ImageOps.exif_transpose(image)
    return _chw(fit(_convert(upright, MODES[channels]), image_size))


def fit_array(array: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """uint8 (C, h, w) fitted to uint8 (C, H, W), see `fit`; channels without a Pillow mode are fitted one by one."""
    from PIL import Image

    if len(array) not in MODES:
        return np.concatenate([fit_array(plane[None], image_size) for plane in array])
    pixels = array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
    return _chw(fit(Image.fromarray(pixels), image_size))


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


def _convert(image, mode: str):
    if image.mode == "F":
        raise ValueError("floating-point pixels: their range is unknown")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _from_16_bit(image)
    if mode != "RGBA":
        image.info.pop("transparency", None)  # it would only make Pillow warn
    return image.convert(mode)


def _from_16_bit(image):
    """0..65535 -> 0..255; Pillow's own conversion cuts everything above 255 off."""
    from PIL import Image

    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError("32-bit integer pixels: their range is unknown")
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8))


def _chw(image) -> np.ndarray:
    array = np.asarray(image, dtype=np.uint8)
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


# ---- whole data sets ---------------------------------------------------------------------------------------------


def read_digits() -> Pixels:
    """scikit-learn's 1,797 digits, 8 x 8, 0..16 scaled to 0..255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError('data set "digits" needs scikit-learn; run: pip install ms_ddpm[digits]') from None
    digits = load_digits()
    return Pixels(np.rint(digits.images * 255 / 16).astype(np.uint8)[:, None], digits.target.astype(np.int32))


def read_digits28() -> Pixels:
    """The digits at the 28 x 28 of the networks made for MNIST: every pixel as 3 x 3, and a border of 2.

    `evaluation.digits_from_28` undoes it exactly; scaling with interpolation would not.
    """
    small = read_digits()
    return Pixels(np.pad(small.images.repeat(3, 2).repeat(3, 3), ((0, 0), (0, 0), (2, 2), (2, 2))), small.labels)


DIGITS = {"digits": read_digits, "digits28": read_digits28}


def read_pixels(path: Path) -> Pixels | None:
    """What the first reader that knows ``path`` makes of it; None: it may be a folder of images."""
    for reader in READERS.values():
        pixels = reader(path)
        if pixels is not None:
            return pixels
    return None


def image_paths(folder: Path) -> list[Path]:
    """The image files in ``folder`` and the folders below it, sorted by path. Hidden files are left out."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a data set; expected {EXPECTED}; give the folder, not one image")
    paths, waiting = [], [folder]
    while waiting:  # pathlib's rglob is recursive, and folders may be nested more deeply than Python's stack
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif Path(entry.name).suffix.lower() in SUFFIXES and entry.name[0] != "." and entry.is_file():
                    paths.append(Path(entry.path))
    if not paths:
        what = "has no images" if any(folder.iterdir()) else "is empty"
        raise UserError(f"folder {folder} {what}; expected {EXPECTED}; put images in it or give another folder")
    return sorted(paths)


def _read_npz(path: Path) -> Pixels | None:
    """`images`, `arr_0` or the only array: uint8, or floats in [0, 1], (N, H, W) or (N, H, W, C); perhaps `labels`."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return None

    def choose(names: list[str]) -> list[str]:
        others = [name for name in names if name != "labels"]
        known = {"images", "arr_0", "labels", *(others if len(others) == 1 else ())}
        return [name for name in names if name in known]

    try:
        names, arrays = untrusted.read_npz(path, choose, copies=2)  # one of them with channels first
    except UserError:
        raise
    except Exception as error:  # of any type, see read_npz
        raise UserError(f"{path} cannot be read as an .npz file of plain arrays ({_one_line(error)})") from None
    others = [name for name in names if name != "labels"]
    if len(others) == 1:
        arrays["images"] = arrays[others[0]]
    images = arrays.get("images", arrays.get("arr_0"))
    if images is None:
        raise UserError(f"{path} holds {', '.join(others[:10]) or 'nothing'}; name the array of images `images`")
    return Pixels(_npz_images(path, images), _npz_labels(path, arrays.get("labels"), len(images)))


def _npz_images(path: Path, images: np.ndarray) -> np.ndarray:
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise UserError(f"{path} has images of shape {images.shape}, expected (N, H, W) or (N, H, W, C)")
    if images.dtype.kind == "f":
        if not (images.min() >= 0 and images.max() <= 1):  # so written that a nan is refused
            raise UserError(f"{path} has float images outside [0, 1]; scale them, or save uint8")
        images = np.rint(images.astype(np.float32) * 255).astype(np.uint8)
    if images.dtype != np.uint8:
        raise UserError(f"{path} has images of type {images.dtype}, expected uint8 or floats in [0, 1]")
    nhwc = images[..., None] if images.ndim == 3 else images
    return np.ascontiguousarray(nhwc.transpose(0, 3, 1, 2))


def _npz_labels(path: Path, labels: np.ndarray | None, count: int) -> np.ndarray | None:
    if labels is None:
        return None
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UserError(f"{path} has labels {labels.shape} of type {labels.dtype}, expected {count} integers")
    return labels.astype(np.int32)


def _read_idx(path: Path) -> Pixels | None:
    """MNIST and its kin: the training images of a folder, or one images file, and the labels beside it if there."""
    names = [f"train-images{middle}{end}" for end in ("", ".gz") for middle in ("-idx3-ubyte", ".idx3-ubyte")]
    candidates = [path / name for name in names] if path.is_dir() else [path] if "idx3-ubyte" in path.name else []
    images_path = next((p for p in candidates if p.is_file()), None)
    if images_path is None:
        return None
    images = _idx_array(images_path, 3)
    if 0 in images.shape:
        raise UserError(f"{images_path} holds no pixels: its header says {images.shape}; download it again")
    return Pixels(images[:, None], _idx_labels(images_path, len(images)))


def _idx_labels(images_path: Path, count: int) -> np.ndarray | None:
    name = images_path.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    path = next((p for p in (images_path.with_name(name), images_path.with_name(name + ".gz")) if p.is_file()), None)
    if path is None:
        return None
    labels = _idx_array(path, 1)
    if len(labels) != count:
        raise UserError(f"{path} has {len(labels)} labels for the {count} images of {images_path.name}")
    return labels.astype(np.int32)


def _idx_array(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes of an idx file: 0, 0, 8 (unsigned byte), number of dimensions; big-endian sizes; values."""
    start = 4 + 4 * dimensions
    header = _bytes(path, start)
    if header[:4] != bytes([0, 0, 8, dimensions]) or len(header) < start:
        raise UserError(f"{path} is not an idx file of bytes with {dimensions} dimensions; download it again")
    shape = tuple(int(size) for size in np.frombuffer(header[4:], dtype=">u4"))
    memory.require(math.prod(shape), f"{path}, whose header says {shape},", "if that is not so, download it again")
    data = _bytes(path, start + math.prod(shape) + 1)
    if len(data) - start != math.prod(shape):
        more = len(data) - start > math.prod(shape)
        raise UserError(
            f"{path} is truncated or damaged: its header says {shape}, {math.prod(shape)} bytes, "
            f"but {'more' if more else len(data) - start} follow; download it again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def _bytes(path: Path, limit: int) -> bytearray:
    """The first ``limit`` bytes of ``path``, unzipped where it is gzip by its first bytes."""
    try:
        untrusted.check_regular(path)
        with open(path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        data = bytearray()
        with gzip.open(path) if zipped else open(path, "rb") as file:
            # Piece by piece: Python takes memory for all that is asked for, there or not.
            while len(data) < limit and (piece := file.read(min(limit - len(data), 1 << 24))):
                data += piece
        return data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is truncated or unreadable ({_one_line(error)}); download it again") from None


def _read_cifar10(path: Path) -> Pixels | None:
    return _read_cifar(path, "data_batch_*.bin", "cifar-10-batches-bin", label_bytes=1)


def _read_cifar100(path: Path) -> Pixels | None:
    """Labels are the fine ones."""
    return _read_cifar(path, "train.bin", "cifar-100-binary", label_bytes=2)


def _read_cifar(path: Path, pattern: str, subfolder: str, label_bytes: int) -> Pixels | None:
    if path.is_dir():
        files = sorted(path.glob(pattern)) or sorted((path / subfolder).glob(pattern))
    else:
        files = [path] if path.match(pattern) else []
    if not files:
        return None
    records = np.concatenate([_cifar_records(file, label_bytes + _CIFAR_PIXELS) for file in files])
    images = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    return Pixels(np.ascontiguousarray(images), records[:, label_bytes - 1].astype(np.int32))


def _cifar_records(path: Path, record: int) -> np.ndarray:
    data = _bytes(path, _CIFAR_BYTES + 1)
    if len(data) > _CIFAR_BYTES:
        raise UserError(f"{path} holds more than {_CIFAR_BYTES} bytes, which no CIFAR file does; download it again")
    if not data or len(data) % record:
        raise UserError(
            f"{path} is truncated or not a CIFAR file: {len(data)} bytes are not whole records of {record}; "
            "download it again"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, record)


def _refuse_pickled_cifar(path: Path) -> None:
    """The python version of CIFAR is a pickle, and unpickling runs whatever code the file brings."""
    folders = [path, path / "cifar-10-batches-py", path / "cifar-100-python"] if path.is_dir() else [path.parent]
    files = {file.name for folder in folders if folder.is_dir() for file in folder.iterdir() if file.is_file()}
    pickled = "data_batch_1" in files or {"train", "meta"} <= files
    if pickled and (path.is_dir() or path.name.startswith(("data_batch_", "train", "test"))):
        raise UserError(
            f"{path} is the python version of CIFAR, which is pickled, and nothing is unpickled here; "
            "take the binary version (cifar-10-binary.tar.gz or cifar-100-binary.tar.gz)"
        )


def _one_line(error: BaseException) -> str:
    """The type and the first line of what ``error`` says."""
    lines = str(error).strip().splitlines()
    return one_line(f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__)


READERS: dict[str, Callable[[Path], Pixels | None]] = {
    "npz": _read_npz,
    "MNIST": _read_idx,
    "CIFAR-10": _read_cifar10,
    "CIFAR-100": _read_cifar100,
    "pickled CIFAR": _refuse_pickled_cifar,
}
