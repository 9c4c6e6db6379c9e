"""Reads data sets that are one or a few files into arrays. Nothing is unpickled here.

A data set file is somebody else's: lengths are checked against headers before pixels are believed, and every
complaint is a `UserError` that names the file. `READERS` is the list of what is understood.
"""

from __future__ import annotations

import gzip
import logging
import math
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..devices import memory
from ..errors import UserError, described
from ..storage import untrusted
from .reading import SUFFIXES

log = logging.getLogger("ms_ddpm")

EXPECTED = (
    f"a folder of images ({' '.join(SUFFIXES)}), MNIST idx files, CIFAR files of the binary version, "
    'an .npz file, "digits" or "digits28"'
)
IMAGE_NAMES = ("images", "arr_0", "x_train", "train_images", "image", "x", "data")  # in .npz files, best first
LABEL_NAMES = ("labels", "label", "y", "targets", "y_train", "train_labels", "arr_1")
_BELOW = (  # where torchvision and the archives unpack to
    "raw", "MNIST/raw", "FashionMNIST/raw", "KMNIST/raw", "QMNIST/raw", "cifar-10-batches-bin", "cifar-100-binary",
)  # fmt: skip
_CIFAR_PIXELS = 3 * 32 * 32
_CIFAR_BYTES = 1 << 30  # the largest file of the two sets has 154 MB


@dataclass(frozen=True)
class Pixels:
    """A data set that is one array.

    Attributes:
        images: uint8 or float32 in [0, 1], (N, C, H, W). With ``layout_known`` False also (N, H, W) or (N, H, W, C).
        labels: int32 (N,) or None.
        layout_known: whether the second axis is known to be the channels'.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    layout_known: bool = True


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
    """What the first reader that knows ``path`` makes of it; None: it may be a folder of images.

    Raises:
        UserError: for files that are damaged, and for a folder above several data sets.
    """
    place = _unpacked(path)
    for reader in READERS.values():
        pixels = reader(place)
        if pixels is not None:
            return pixels
    return None


def _unpacked(path: Path) -> Path:
    """``path``, or the one folder below it into which torchvision, or an archive, puts training files."""
    if not path.is_dir() or _training_file(path):
        return path
    found = [path / name for name in _BELOW if _training_file(path / name)]
    if len(found) > 1:
        names = ", ".join(str(folder.relative_to(path)) for folder in found)
        raise UserError(f"{path} holds several data sets: {names}; give the folder of one")
    return found[0] if found else path


def _training_file(folder: Path) -> Path | None:
    named = _first_file(folder, [*_idx_names("train"), "train.bin"])
    return named or next(folder.glob("data_batch_*.bin"), None)


def test_file(path: Path) -> Path | None:
    """The test images that belong to the MNIST or CIFAR files in ``path``, if there are any: to be opened by name."""
    return _first_file(_unpacked(path), [*_idx_names("t10k"), "test_batch.bin", "test.bin"]) if path.is_dir() else None


def _idx_names(part: str) -> list[str]:
    return [f"{part}-images{middle}{end}" for end in ("", ".gz") for middle in ("-idx3-ubyte", ".idx3-ubyte")]


def _first_file(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _say_what_is_read(folder: Path, read: str, left: Path | None) -> None:
    if left is not None:
        log.info("%s: these are the training images, %s; %s is left out (give it as the data set to take it)",
                 folder, read, left.name)  # fmt: skip


# ---- .npz --------------------------------------------------------------------------------------------------------


def _read_npz(path: Path) -> Pixels | None:
    """`images`, another of IMAGE_NAMES or the only array; perhaps labels under one of LABEL_NAMES."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return None

    def choose(names: list[str]) -> list[str]:
        images = npz_images_name(names)
        return [name for name in names if name == images or name in LABEL_NAMES]

    try:
        names, arrays = untrusted.read_npz(path, choose, copies=2)  # one of them with channels first
    except UserError:
        raise
    except Exception as error:  # of any type, see read_npz
        raise UserError(f"{path} cannot be read as an .npz file of plain arrays ({described(error)})") from None
    images = npz_images_name(names)
    if images is None:
        shown = ", ".join(name for name in names if name not in LABEL_NAMES[:2])
        raise UserError(f"{path} holds {shown[:300] or 'nothing'}; name the array of images `images`")
    found = _npz_images(path, arrays.pop(images))
    return Pixels(found, npz_labels(path, arrays, len(found)), layout_known=False)


def npz_images_name(names: Sequence[str]) -> str | None:
    """Which of the ``names`` of arrays is that of the images: the only one, or the first of IMAGE_NAMES."""
    others = [name for name in names if name not in LABEL_NAMES] or list(names)
    return others[0] if len(others) == 1 else next((name for name in IMAGE_NAMES if name in names), None)


def npz_labels(path: Path, arrays: dict[str, np.ndarray], count: int) -> np.ndarray | None:
    """The labels among ``arrays``, int32 (``count``,). Raises UserError for `labels` or `label` that are none.

    Under another of LABEL_NAMES may be anything: `arr_1` is what numpy calls the second of unnamed arrays.
    """
    for name in (name for name in LABEL_NAMES if name in arrays):
        labels = arrays[name]
        if labels.shape in ((count,), (count, 1)) and labels.dtype.kind in "iu":
            return labels.reshape(count).astype(np.int32)
        if name in ("labels", "label"):
            raise UserError(f"{path} has {name} {labels.shape} of type {labels.dtype}, expected {count} integers")
    return None


def _npz_images(path: Path, images: np.ndarray) -> np.ndarray:
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise UserError(f"{path} has images of shape {images.shape}, expected (N, H, W), (N, H, W, C) or (N, C, H, W)")
    if images.dtype.kind == "f":
        if not (images.min() >= 0 and images.max() <= 1):  # so written that a nan is refused
            raise UserError(f"{path} has float images outside [0, 1]; scale them, or save uint8")
        return images.astype(np.float32, copy=False)
    if images.dtype != np.uint8:
        raise UserError(f"{path} has images of type {images.dtype}, expected uint8 or floats in [0, 1]")
    return images


# ---- MNIST and its kin -------------------------------------------------------------------------------------------


def _read_idx(path: Path) -> Pixels | None:
    """The training images of a folder, or one images file, and the labels beside it if there."""
    images_path = path if "idx3-ubyte" in path.name and path.is_file() else None
    if path.is_dir():
        images_path = _first_file(path, _idx_names("train"))
    if images_path is None:
        return None
    if path.is_dir():
        _say_what_is_read(path, images_path.name, _first_file(path, _idx_names("t10k")))
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
        raise UserError(f"{path} is truncated or unreadable ({described(error)}); download it again") from None


# ---- CIFAR -------------------------------------------------------------------------------------------------------


def _read_cifar10(path: Path) -> Pixels | None:
    return _read_cifar(path, "data_batch_*.bin", "test_batch.bin", label_bytes=1)


def _read_cifar100(path: Path) -> Pixels | None:
    """Labels are the fine ones."""
    return _read_cifar(path, "train.bin", "test.bin", label_bytes=2)


def _read_cifar(path: Path, train: str, test: str, label_bytes: int) -> Pixels | None:
    """The training files of a folder, or one file of either kind."""
    one = path.match(train) or path.name == test
    files = sorted(path.glob(train)) if path.is_dir() else [path] if one else []
    if not files:
        return None
    if path.is_dir():
        _say_what_is_read(path, ", ".join(file.name for file in files), _first_file(path, [test]))
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
    files = {name for folder in folders if folder.is_dir() for name in os.listdir(folder)}
    pickled = "data_batch_1" in files or {"train", "meta"} <= files
    if pickled and (path.is_dir() or path.name.startswith(("data_batch_", "train", "test"))):
        raise UserError(
            f"{path} is the python version of CIFAR, which is pickled, and nothing is unpickled here; "
            "take the binary version (cifar-10-binary.tar.gz or cifar-100-binary.tar.gz)"
        )


# Tried in this order. A reader gives None for what is not its own and UserError for what is, and damaged.
READERS: dict[str, Callable[[Path], Pixels | None]] = {
    "npz": _read_npz,
    "MNIST": _read_idx,
    "CIFAR-10": _read_cifar10,
    "CIFAR-100": _read_cifar100,
    "pickled CIFAR": _refuse_pickled_cifar,
}
