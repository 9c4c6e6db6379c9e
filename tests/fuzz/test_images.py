"""Damaged images and data sets by the thousand: an error in one line, a skip with a name and a reason, or pixels.

Memory stays what the header may claim and the machine can give; nothing but regular files is opened.
"""

import gzip
import io
import logging
import os
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest

from ms_ddpm import data
from ms_ddpm.data import datasets
from ms_ddpm.errors import UserError
from tests.conftest import ROOT
from tests.fuzz.damage import check_complaint, count, damaged, watched

Image = pytest.importorskip("PIL.Image")


def picture(mode="RGB", size=(23, 17)):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def animated(kind):
    frames = [picture("RGB", (9, 9)).rotate(90 * i) for i in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def with_exif():
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a text"
    return encoded(picture(), "JPEG", exif=exif)


SAMPLES = {
    "png": lambda: encoded(picture(), "PNG"),
    "png palette": lambda: encoded(picture().quantize(16), "PNG"),
    "png grey": lambda: encoded(picture("L"), "PNG"),
    "png alpha": lambda: encoded(picture("RGBA"), "PNG"),
    "png 16 bit": lambda: encoded(Image.fromarray(np.arange(300, dtype=np.uint16).reshape(15, 20) * 200), "PNG"),
    "png 16 bit colour": lambda: png(9, 7, depth=16, pixels=bytes(range(55)) * 7),
    "png 16 bit, a colour": lambda: png(
        9, 7, chunk(b"tRNS", bytes(range(1, 7))), depth=16, pixels=bytes(range(55)) * 7
    ),
    "png 1 bit": lambda: encoded(picture("1"), "PNG"),
    "png animated": lambda: animated("PNG"),
    "jpeg": lambda: encoded(picture(), "JPEG"),
    "jpeg progressive": lambda: encoded(picture(), "JPEG", progressive=True),
    "jpeg cmyk": lambda: encoded(picture("CMYK"), "JPEG"),
    "jpeg exif": with_exif,
    "webp": lambda: encoded(picture(), "WEBP"),
    "webp animated": lambda: animated("WEBP"),
    "webp lossless": lambda: encoded(picture("RGBA"), "WEBP", lossless=True),
    "tiff": lambda: encoded(picture(), "TIFF"),
    "tiff lzw": lambda: encoded(picture(), "TIFF", compression="tiff_lzw"),
    "tiff deflate": lambda: encoded(picture("L"), "TIFF", compression="tiff_adobe_deflate"),
    "tiff pages": lambda: animated("TIFF"),
    "bmp": lambda: encoded(picture(), "BMP"),
    "bmp palette": lambda: encoded(picture("P"), "BMP"),
    "gif": lambda: animated("GIF"),
}


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, *chunks, depth=8, colour=2, pixels=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(**changes):
    """A one-pixel TIFF whose tags are as given: name -> (number, type, count, value)."""
    tags = {
        "width": (256, 4, 1, 1), "height": (257, 4, 1, 1), "bits": (258, 3, 1, 8), "compression": (259, 3, 1, 1),
        "photo": (262, 3, 1, 1), "offset": (273, 4, 1, 8), "samples": (277, 3, 1, 1), "rows": (278, 4, 1, 1),
        "bytes": (279, 4, 1, 1), **changes,
    }  # fmt: skip
    body = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags.values()))
    return struct.pack("<2sHI", b"II", 42, 16) + b"\x7f" * 8 + struct.pack("<H", len(tags)) + body + bytes(4)


STRANGE = {
    "bomb": png(100_000, 100_000),
    "bomb with pixels": png(30_000, 30_000, pixels=bytes(10**6)),
    "nothing wide": png(0, 10),
    "largest numbers": png(2**31 - 1, 2**31 - 1),
    "beyond": png(2**32 - 1, 1),
    "long text": png(4, 4, chunk(b"tEXt", b"a\0" + b"x" * 10**6), pixels=bytes(13 * 4)),
    "text bomb": png(4, 4, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))), pixels=bytes(13 * 4)),
    "profile bomb": png(4, 4, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8))), pixels=bytes(13 * 4)),
    "exif garbage": png(4, 4, chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"), pixels=bytes(13 * 4)),
    "colour 7": png(4, 4, colour=7),
    "depth 99": png(4, 4, depth=99),
    "many chunks": png(4, 4, *[chunk(b"tEXt", b"a\0b")] * 5000, pixels=bytes(13 * 4)),
    "wide tiff": tiff(width=(256, 4, 1, 2**32 - 1)),
    "large tiff": tiff(width=(256, 4, 1, 100_000), height=(257, 4, 1, 100_000)),
    "many strips": tiff(offset=(273, 4, 2**31, 8), bytes=(279, 4, 2**31, 8)),
    "many samples": tiff(samples=(277, 3, 1, 65535)),
    "jpeg in tiff": tiff(compression=(259, 3, 1, 7)),
    "ring of tiffs": tiff()[:-4] + struct.pack("<I", 16),
    "empty": b"",
    "text": b"not an image\n",
    "pickle": b"\x80\x04\x95" + bytes(50),
    "gif of 65535": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + bytes(9),
    "bmp of 2^31": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
    "webp of nothing": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
}


def read_all(path, *, channels=3, image_size=(8, 8), caplog=None, **options):
    """The ImageSource of ``path`` after every item was asked for, or None where a line said why not."""
    with watched(path):
        try:
            source = data.open_images(path, image_size=image_size, channels=channels, **options)
            for index in range(len(source)):
                image = source.get(index)
                assert image.shape == (channels, *image_size)
                assert image.dtype == source.dtype
                assert source.dtype == np.uint8 or (image.min() >= 0 and image.max() <= 1)
        except UserError as error:
            check_complaint(error, path, "images", "channels")
            return None
    for name, reason in source.skipped.items():
        assert name.startswith(str(path))
        assert reason.isprintable()
        assert 3 < len(reason) < 600, reason
    return source


def logged_lines(caplog, source):
    """Every skip is one line of the log."""
    lines = [record.getMessage() for record in caplog.records]
    assert all(line.isprintable() for line in lines), [line for line in lines if not line.isprintable()]
    assert len([line for line in lines if line.startswith("skipped unreadable image")]) == len(source.skipped)


@pytest.fixture
def folder(tmp_path):
    """A folder with one good image, so that a skip is no error."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "good.png").write_bytes(SAMPLES["png"]())
    return folder


@pytest.mark.parametrize("kind", SAMPLES)
def test_undamaged_samples_are_read(folder, kind):
    (folder / "sample.png").write_bytes(SAMPLES[kind]())
    for channels in (1, 3, 4):
        for full_depth in (False, True):
            assert not read_all(folder, channels=channels, full_depth=full_depth).skipped


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", SAMPLES)
def test_mutated_images_are_read_or_skipped_by_name(folder, kind, caplog):
    content, wanted = SAMPLES[kind](), count(12, 2000)
    for first in range(0, wanted, 250):
        for seed in range(first, min(first + 250, wanted)):
            (folder / f"{seed:06d}.png").write_bytes(damaged(content, seed))
        caplog.clear()
        with caplog.at_level(logging.INFO, "ms_ddpm"):
            source = read_all(folder, channels=(1, 3, 4)[first // 250 % 3], full_depth=first % 500 > 0)
        logged_lines(caplog, source)
        for file in folder.glob("0*.png"):
            file.unlink()


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_images_are_skipped_by_name(folder, kind, caplog):
    (folder / "strange.png").write_bytes(STRANGE[kind])
    with caplog.at_level(logging.INFO, "ms_ddpm"):
        source = read_all(folder)
    logged_lines(caplog, source)
    readable = ("long text", "text bomb", "profile bomb", "exif garbage", "many chunks", "ring of tiffs")
    assert kind in readable or list(source.skipped) == [str(folder / "strange.png")]


def run_limited(code):
    """What ``code`` prints in a process of its own, and that process's largest memory in MiB."""
    text = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from ms_ddpm import data, images, runtime
from ms_ddpm.errors import UserError
def tried(call):
    try:
        found = call()
        print("read", getattr(found, "skipped", ""))
    except UserError as error:
        print("refused", error)
{code}
print(int(runtime.peak_rss_mb()))
"""
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    *lines, peak = result.stdout.splitlines()
    return lines, int(peak)


def gz_of_zeros(path, size, header=b""):
    """gzip files in a row are one gzip file."""
    path.write_bytes(gzip.compress(header) + gzip.compress(bytes(1 << 24)) * (size >> 24))


def test_archives_that_swell_do_not_fill_the_memory(tmp_path):
    """Files of a few MB that unpack to gigabytes: what a header does not announce is not unpacked."""
    size = 10 << 30
    idx = struct.pack(">BBBBIII", 0, 0, 8, 3, 10, 4, 4)
    gz_of_zeros(tmp_path / "train-images-idx3-ubyte.gz", size, idx)
    (tmp_path / "cifar").mkdir()
    os.link(tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "cifar" / "data_batch_1.bin")
    huge = struct.pack(">BBBBIII", 0, 0, 8, 3, 2**31, 2**10, 2**10)
    (tmp_path / "huge-idx3-ubyte").write_bytes(huge)
    with open(tmp_path / "sparse-idx3-ubyte", "wb") as file:
        file.write(idx)
        file.truncate(2**40)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10, 4, 4)})
        with archive.open("arr_0.npy", "w", force_zip64=True) as file:
            file.write(header.getvalue())
            for _ in range(20):
                file.write(bytes(1 << 24))
    with zipfile.ZipFile(tmp_path / "liar.npz", "w") as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**45, 8, 8)})
        archive.writestr("arr_0.npy", header.getvalue())
    names = ["train-images-idx3-ubyte.gz", "huge-idx3-ubyte", "sparse-idx3-ubyte", "bomb.npz", "liar.npz"]
    lines, peak = run_limited(f"""
folder = Path({str(tmp_path)!r})
for name in {names!r}:
    tried(lambda: data.open_images(folder / name, image_size=(4, 4), channels=1))
tried(lambda: images.load_npz(folder / "bomb.npz"))
tried(lambda: images.load_npz(folder / "liar.npz"))
""")
    said = dict(zip([*names, "bomb", "liar"], lines, strict=True))
    assert "truncated or damaged" in said["train-images-idx3-ubyte.gz"]
    assert "of memory" in said["huge-idx3-ubyte"]
    assert "truncated or damaged" in said["sparse-idx3-ubyte"]
    assert said["liar.npz"].startswith("refused")
    assert said["liar"].startswith("refused")
    assert peak < 250, (peak, lines)
    if count(0, 1):
        lines, peak = run_limited(f"""
tried(lambda: data.open_images({str(tmp_path / "cifar")!r}, image_size=(32, 32), channels=3))
""")
        assert "no CIFAR file does" in lines[0]
        assert peak < 3000


def test_the_memory_that_is_left_decides(tmp_path, monkeypatch):
    from ms_ddpm import images
    from ms_ddpm.devices import memory

    np.savez_compressed(tmp_path / "s.npz", arr_0=np.zeros((1000, 64, 64, 1), np.uint8))
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 1000, 64, 64)
    (tmp_path / "x-idx3-ubyte").write_bytes(header + bytes(1000 * 64 * 64))
    assert len(images.load_npz(tmp_path / "s.npz")) == 1000
    monkeypatch.setattr(memory, "available", lambda: 2.0**21)
    for name in ("s.npz", "x-idx3-ubyte"):
        with pytest.raises(UserError, match=r"of memory, 2 MiB are available"):
            data.open_images(tmp_path / name, image_size=(64, 64), channels=1)
    with pytest.raises(UserError, match=r"of memory, 2 MiB are available"):
        images.load_npz(tmp_path / "s.npz")


# ---- data sets that are one file ------------------------------------------------------------------------------------


def idx_file():
    return struct.pack(">BBBBIII", 0, 0, 8, 3, 6, 8, 8) + bytes(range(64)) * 6


def npz_file(compress=False, **arrays):
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **arrays)
    return buffer.getvalue()


DATA_SETS = {
    "train-images-idx3-ubyte": (1, idx_file),
    "train-images-idx3-ubyte.gz": (1, lambda: gzip.compress(idx_file())),
    "data_batch_1.bin": (3, lambda: bytes(range(256)) * 12 + b"\1"),
    "train.bin": (3, lambda: bytes(range(256)) * 12 + b"\1\2"),
    "a.npz": (1, lambda: npz_file(images=np.zeros((5, 8, 8), np.uint8), labels=np.arange(5))),
    "b.npz": (3, lambda: npz_file(True, arr_0=np.random.default_rng(0).random((5, 8, 8, 3), dtype=np.float32))),
}


def test_every_format_has_an_example_here_and_a_row_in_the_docs(tmp_path):
    """A reader that is added comes with both: what is not damaged here was never seen with a damaged file."""
    read = set()
    for name, (_, make) in DATA_SETS.items():
        (tmp_path / name).write_bytes(make())
        read |= {kind for kind, reader in datasets.READERS.items() if reader(tmp_path / name) is not None}
    assert read == set(datasets.READERS) - {"pickled CIFAR"}  # which is refused
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert [kind for kind in read if kind not in page] == []


@pytest.mark.parametrize("name", DATA_SETS)
def test_mutated_data_sets(tmp_path, name):
    channels, make = DATA_SETS[name]
    path, content = tmp_path / name, make()
    path.write_bytes(content)
    assert len(read_all(path, channels=channels)) >= 1
    for seed in range(count(60, 4000)):
        path.write_bytes(damaged(content, seed))
        read_all(path if seed % 3 or name.endswith("npz") else tmp_path, channels=channels)


def npz_headers():
    base = {"descr": "|u1", "fortran_order": False, "shape": (5, 8, 8)}
    for change in (
        {"descr": "|O"}, {"descr": "|V0"}, {"descr": "<U9"}, {"descr": "<M8[ns]"}, {"descr": "<c16"},
        {"descr": [("a", "<f4")]}, {"descr": "|u1" * 100}, {"descr": None}, {"descr": "<f2"}, {"descr": "|b1"},
        {"shape": (2**62, 8, 8)}, {"shape": (-1, 8, 8)}, {"shape": (2**32, 2**32, 2**32)}, {"shape": (0, 8, 8)},
        {"shape": ()}, {"shape": "x"}, {"shape": (5, 8.0, 8)}, {"shape": [5, 8, 8]}, {"shape": (1,) * 70},
        {"shape": (True, 8, 8)}, {"fortran_order": True}, {"fortran_order": 3}, {"more": 1}, {"shape": (10**30,)},
    ):  # fmt: skip
        yield repr(change)[:40], repr({**base, **change}).encode()
    for text in (
        b"",
        b"{",
        b"[" * 5000,
        b"__import__('os').mkdir('x')",
        b"{}" * 6000,
        b"\xff" * 100,
        b"(" * 200,
        b"1+" * 4000,
    ):
        yield repr(text[:20]), text


@pytest.mark.parametrize("header", [pytest.param(text, id=name) for name, text in npz_headers()])
def test_npz_headers_that_lie(tmp_path, header):
    """Object arrays are pickles, which are not unpickled."""
    for version in (1, 2, 3, 9):
        size = struct.pack("<H" if version == 1 else "<I", len(header) + 1)
        member = b"\x93NUMPY" + bytes([version, 0]) + size + header + b"\n" + bytes(5 * 8 * 8)
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("images.npy", member)
        source = read_all(tmp_path / "x.npz", channels=1)
        assert source is None or source.shape == (1, 8, 8)
    assert sorted(os.listdir(tmp_path)) == ["x.npz"]


def test_npz_members_with_tricks_in_their_names(tmp_path):
    good = npz_file(x=np.zeros((5, 8, 8), np.uint8))
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        member = archive.read("x.npy")
    for name in (
        "../../images.npy",
        "/etc/images.npy",
        "a\nb\x1b[31m.npy",
        "images.npy/",
        "x" * 60000 + ".npy",
        "images",
        ".npy",
    ):
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr(name, member)
        read_all(tmp_path / "x.npz", channels=1)
        with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
            archive.writestr("other\n.npy", member)
            archive.writestr("third.npy", member)
        assert read_all(tmp_path / "x.npz", channels=1) is None or name == "images"
    assert sorted(os.listdir(tmp_path)) == ["x.npz"]


# ---- folders --------------------------------------------------------------------------------------------------------


def test_names_from_hell_stay_one_line_in_the_log(tmp_path, caplog):
    names = [
        b"a\nb.png", b"a\rb.png", b"\x1b[31mred.png", b"\xff\xfe.png", b"x" * 250 + b".png", b" .png", b"%s%n.png",
        "\u202egnp.png".encode(), "\U0001d518.PNG".encode(), b"-rf.png", b"$(true).png", b"\xf0\x28.jpg",
    ]  # fmt: skip
    for name in names:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(b"no image")
    (tmp_path / "zz.png").write_bytes(SAMPLES["png"]())
    with caplog.at_level(logging.INFO, "ms_ddpm"):
        source = read_all(tmp_path)
    assert len(source.skipped) == len(names)
    logged_lines(caplog, source)
    (tmp_path / "zz.png").unlink()
    assert read_all(tmp_path) is None


def test_loops_of_links_and_deep_nests_end(folder):
    os.symlink(folder, folder / "again")
    os.symlink("..", folder / "up")
    assert len(read_all(folder)) == 1
    here = os.getcwd()
    try:
        os.chdir(folder)
        for _ in range(1500):  # a path name ends at 4096 bytes
            os.mkdir("d")
            os.chdir("d")
        os.chdir(here)
        assert len(read_all(folder)) == 1
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-rf", folder / "d"], check=True)  # deeper than Python's own rmtree can go


def test_a_thousand_broken_files_among_few_good_ones(folder, caplog):
    for i in range(count(300, 5000)):
        (folder / f"{i}.jpg").write_bytes(b"\xff\xd8\xff" + bytes([i % 256]) * (i % 50))
    with caplog.at_level(logging.INFO, "ms_ddpm"):
        source = read_all(folder)
    assert len(source.skipped) == len(source) - 1
    logged_lines(caplog, source)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read_is_named(folder):
    (folder / "closed").mkdir(mode=0)
    read_all(folder)
