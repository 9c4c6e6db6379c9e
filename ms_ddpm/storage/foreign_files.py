"""What a file of weights is, told by how it begins, whatever it is called."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

TORCH, SAFETENSORS, MINDSPORE, PICKLE = "torch", "safetensors", "mindspore", "pickle"
HEAD = 4096  # bytes that are looked at
LEGACY_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the number that torch.save wrote before 1.6, pickled
_BEGINNINGS = (
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"BZh", "a bzip2 file; unpack it first"),
    (b"\xfd7zXZ\x00", "an xz file; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"Rar!", "a rar archive; unpack it first"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras?)"),
    (b"GGUF", "a GGUF file (llama.cpp)"),
    (b"\x93NUMPY", "a .npy file, which has one array and no names"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run: git lfs pull"),
)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A protobuf number at ``at``: (its value, where it ends). Raises IndexError at the end of the data."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def is_mindspore(head: bytes) -> bool:
    """Whether ``head`` begins a MindSpore checkpoint: protobuf, a list of (name, tensor)."""
    try:
        if head[0] != 0x0A:  # field 1 of the file: a value
            return False
        size, at = _varint(head, 1)
        if head[at] != 0x0A:  # field 1 of the value: its name
            return False
        length, at = _varint(head, at + 1)
        name, after = head[at : at + length], head[at + length]
    except IndexError:
        return False
    return 0 < length < min(size, 1000) and after == 0x12 and name.decode("utf-8", "replace").isprintable()


def kind_of(path: str | Path) -> tuple[str, str]:
    """(kind, words) of a file that exists: one of the constants above and what to call it, or "" and what it is.

    ("", "") where nothing is recognised. Raises OSError where it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if not head:
        return "", "an empty file"
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if is_mindspore(head):
        return MINDSPORE, "a MindSpore checkpoint"
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return SAFETENSORS, "a safetensors file"
    if re.match(rb"\x80[\x02-\x05]", head):
        return (TORCH, "a PyTorch file") if LEGACY_TORCH in head[:20] else (PICKLE, "a pickle of Python objects")
    for beginning, words in _BEGINNINGS:
        if head.startswith(beginning):
            return "", words
    if head[257:262] == b"ustar":
        return "", "a tar archive; unpack it first"
    if re.match(rb"\s*<(!doctype|html)", head, re.IGNORECASE):
        return "", "a web page (a download that went wrong?)"
    return "", ""


def _zip_kind(path: str | Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "", "a damaged zip archive (a PyTorch file cut short?)"
    if any(name.endswith("/data.pkl") for name in names):
        scripted = any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names)
        return ("", "a TorchScript program, not weights") if scripted else (TORCH, "a PyTorch file")
    if names and all(name.endswith(".npy") for name in names):
        return "", "a .npz file of numpy arrays"
    return "", "a zip archive that is no PyTorch file; unpack it first"
