"""Data sets, their order and the pipeline: what is read, what is refused, and what a resumed or sharded run sees."""

from __future__ import annotations

import gzip
import logging
import pickle
import struct
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from time import sleep, time

import numpy as np
import pytest
from PIL import Image

from ms_ddpm import data
from ms_ddpm.data import Batches, iterate, open_images, pipeline, split, to_dataset
from ms_ddpm.data import reading as _files
from ms_ddpm.errors import UserError
from ms_ddpm.maths.random import Stream, stream


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def noise(rng, *shape):
    return rng.integers(0, 256, shape, dtype=np.uint8)


def save_folder(folder, rng, count, size=(8, 8)):
    folder.mkdir(exist_ok=True)
    for i in range(count):
        Image.fromarray(noise(rng, *size, 3)).save(folder / f"{i:03}.png")
    return folder


def numbered(path, count):
    """An .npz whose image i is full of the value i."""
    np.savez(path, images=np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 2, 2)))
    return open_images(path, image_size=(2, 2), channels=1)


def seen(batches):
    """The numbers of the images of each batch over a `numbered` source."""
    return [np.rint(batch[:, 0, 0, 0] * 255).astype(int).tolist() for batch in batches]


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def complaint(call, *words):
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message
    return message


def opened(path, size=(8, 8), channels=3):
    return open_images(str(path), image_size=size, channels=channels)


# ---- folders -----------------------------------------------------------------------------------------------------


def test_import_needs_neither_mindspore_nor_pillow_nor_sklearn():
    code = "import sys, ms_ddpm.data; print([m for m in ('mindspore', 'PIL', 'sklearn') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_flat_and_nested_folders_are_found_in_sorted_order(tmp_path):
    for name, value in {"b.PNG": 1, "c/d/e.bmp": 3, "c/a.tiff": 2, "a.webp": 0, "z.TIF": 4}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("L", (8, 8), value * 50)
        image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._b.PNG").write_bytes(b"what macOS leaves behind")
    source = opened(tmp_path, channels=1)
    assert len(source) == 5
    assert [int(source.get(i).mean()) for i in range(5)] == [0, 50, 100, 150, 200]
    assert source.labels is None
    assert source.skipped == {}


@pytest.mark.parametrize("size", [(37, 23), (23, 37), (16, 16), (5, 9), (300, 20)])  # down, up, and both
def test_fitting_is_pillows_resize_of_the_shorter_side_and_a_centre_crop(tmp_path, rng, size):
    image = Image.fromarray(noise(rng, *size, 3))
    image.save(tmp_path / "a.png")
    width, height = image.size
    short = min(width, height)
    resized = image.resize((int(16 * width / short), int(16 * height / short)), Image.BILINEAR)
    left, top = round((resized.width - 16) / 2), round((resized.height - 16) / 2)
    expected = np.asarray(resized.crop((left, top, left + 16, top + 16))).transpose(2, 0, 1)
    np.testing.assert_array_equal(opened(tmp_path, (16, 16)).get(0), expected)


@pytest.mark.parametrize(("target", "resized"), [((8, 20), (20, 10)), ((20, 8), (40, 20)), ((10, 20), (20, 10))])
def test_both_sides_of_a_target_that_is_not_square_are_covered(tmp_path, rng, target, resized):
    image = Image.fromarray(noise(rng, 30, 60))
    image.save(tmp_path / "a.png")
    big = np.asarray(image.resize(resized, Image.BILINEAR))
    top, left = round((big.shape[0] - target[0]) / 2), round((big.shape[1] - target[1]) / 2)
    source = opened(tmp_path, target, 1)
    assert source.shape == (1, *target)
    np.testing.assert_array_equal(source.get(0)[0], big[top : top + target[0], left : left + target[1]])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1", "CMYK"])
@pytest.mark.parametrize(("channels", "target"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_every_mode_is_converted_as_pillow_does(tmp_path, rng, mode, channels, target):
    image = Image.fromarray(noise(rng, 8, 8, 4), "RGBA").convert("RGB" if mode in ("P", "CMYK") else "RGBA")
    image = image.convert(mode)
    image.save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    if mode in ("RGBA", "LA") and channels < 4:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    expected = np.asarray(image.convert(target)).reshape(8, 8, channels).transpose(2, 0, 1).astype(int)
    found = opened(tmp_path, channels=channels).get(0)
    assert np.abs(found - expected).max() <= (1 if mode in ("RGBA", "LA") and channels < 4 else 0)  # alpha's rounding


@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert opened(tmp_path).get(0)[:, 0, 0].tolist() == [132, 137, 142]  # (c * 128 + 255 * 127) / 255
    assert opened(tmp_path, channels=4).get(0)[:, 0, 0].tolist() == [10, 20, 30, 128]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, suffix):
    values = np.array([0, 257, 128 * 257, 65535, 300, 30000, 257 * 7 + 128, 257 * 7 + 129], np.uint16)
    Image.fromarray(np.tile(values, (8, 1))).save(tmp_path / f"a.{suffix}")
    assert opened(tmp_path, channels=1).get(0)[0, 0].tolist() == [0, 1, 128, 255, 1, 117, 7, 8]


def test_exif_orientation_is_applied(tmp_path, rng):
    image = Image.fromarray(noise(rng, 8, 16, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 270 degrees
    image.save(tmp_path / "a.png", exif=exif)
    expected = np.asarray(image.transpose(Image.ROTATE_270)).transpose(2, 0, 1)
    np.testing.assert_array_equal(opened(tmp_path, (16, 8)).get(0), expected)


def test_jpeg_is_decoded_as_pillow_does(tmp_path, rng):
    Image.fromarray(noise(rng, 8, 8, 3)).save(tmp_path / "a.JPG", "JPEG")
    with Image.open(tmp_path / "a.JPG") as image:
        np.testing.assert_array_equal(opened(tmp_path).get(0), np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize(("cache_bytes", "decoded"), [(2 * 3 * 8 * 8, 1), (2 * 3 * 8 * 8 - 1, 3)])
def test_a_folder_image_is_decoded_once_when_the_set_fits_the_cache(tmp_path, rng, monkeypatch, cache_bytes, decoded):
    save_folder(tmp_path, rng, 2)
    load, calls = _files.load_image, []
    monkeypatch.setattr(data, "CACHE_BYTES", cache_bytes)
    monkeypatch.setattr(_files, "load_image", lambda *a, **k: calls.append(a) or load(*a, **k))
    source = opened(tmp_path)
    assert calls == []
    first, *others = (source.get(0) for _ in range(3))
    assert len(calls) == decoded
    assert all((first == other).all() for other in others)


def test_an_image_handed_out_is_a_copy(tmp_path, rng):
    source = opened(save_folder(tmp_path, rng, 1))
    before = source.get(0)
    source.get(0)[:] = 0
    source.batch([0])[:] = 0
    np.testing.assert_array_equal(source.get(0), before)


def test_threads_see_the_same_images_and_name_a_bad_one_once(tmp_path, rng, caplog, monkeypatch):
    save_folder(tmp_path, rng, 12)
    (tmp_path / "000.png").write_bytes(b"broken")
    expected = opened(tmp_path).batch(range(12))
    caplog.clear()
    load, barrier = _files.load_image, threading.Barrier(4)

    def at_once(path, **options):
        if path.name == "000.png":
            barrier.wait(5)
        return load(path, **options)

    monkeypatch.setattr(_files, "load_image", at_once)
    source = opened(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: source.batch(range(12)), range(4)))
    assert all((images == expected).all() for images in found)
    assert [record.getMessage().endswith("; 1 skipped so far") for record in caplog.records] == [True]


# ---- unreadable images -------------------------------------------------------------------------------------------


def test_an_unreadable_image_is_named_once_and_the_next_readable_one_takes_its_place(tmp_path, rng, caplog):
    save_folder(tmp_path, rng, 5)
    good = opened(tmp_path).batch(range(5))
    whole = (tmp_path / "001.png").read_bytes()
    (tmp_path / "001.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "004.png").write_bytes(b"")
    source = opened(tmp_path)
    with caplog.at_level(logging.WARNING, "ms_ddpm"):
        for _ in range(2):
            np.testing.assert_array_equal(source.batch(range(5)), good[[0, 2, 2, 3, 0]])
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith(f"skipped unreadable image {tmp_path / '001.png'} (")
    assert messages[0].endswith("; 1 skipped so far")
    assert messages[1].endswith("; 2 skipped so far")
    assert set(source.skipped) == {str(tmp_path / "001.png"), str(tmp_path / "004.png")}


def test_the_replacement_comes_from_the_same_subset(tmp_path, rng):
    save_folder(tmp_path, rng, 4)
    good = opened(tmp_path).batch(range(4))
    (tmp_path / "002.png").write_bytes(b"broken")
    np.testing.assert_array_equal(opened(tmp_path).subset([0, 2]).get(1), good[0])


def test_a_folder_of_nothing_but_unreadable_images_is_an_error(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"broken")
    complaint(lambda: opened(tmp_path).get(1), "none of the 2 images", tmp_path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("factor", [1.5, 3])  # Pillow warns above its limit, and refuses above twice its limit
def test_a_decompression_bomb_is_an_unreadable_image(tmp_path, rng, monkeypatch, factor):
    save_folder(tmp_path, rng, 1, (20, 20))
    save_folder(tmp_path, rng, 2, (4, 4))
    Image.fromarray(noise(rng, 20, 20)).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(400 / factor))
    source = opened(tmp_path, (4, 4))
    np.testing.assert_array_equal(source.get(2), source.get(0))
    assert list(source.skipped) == [str(tmp_path / "big.png")]


def test_a_line_that_would_be_scaled_to_a_bomb_is_an_unreadable_image(tmp_path, rng):
    save_folder(tmp_path, rng, 1)
    Image.new("L", (60_000, 1)).save(tmp_path / "line.png")
    source = opened(tmp_path, (64, 64), 1)
    source.get(1)
    assert "pixels are more than" in source.skipped[str(tmp_path / "line.png")]


def test_floating_point_images_are_skipped_rather_than_guessed(tmp_path, rng):
    save_folder(tmp_path, rng, 1)
    Image.fromarray(rng.random((8, 8), dtype=np.float32)).save(tmp_path / "f.tiff")
    source = opened(tmp_path)
    source.get(1)
    assert "range is unknown" in source.skipped[str(tmp_path / "f.tiff")]


@pytest.mark.parametrize("error", [SyntaxError("x"), struct.error("x"), EOFError(), MemoryError(), ZeroDivisionError()])
def test_any_exception_of_a_decoder_means_unreadable(tmp_path, rng, monkeypatch, error):
    save_folder(tmp_path, rng, 2)
    load = _files.load_image

    def failing(path, **options):
        if path.name == "000.png":
            raise error
        return load(path, **options)

    monkeypatch.setattr(_files, "load_image", failing)
    source = opened(tmp_path)
    np.testing.assert_array_equal(source.get(0), source.get(1))
    assert source.skipped[str(tmp_path / "000.png")].startswith(type(error).__name__)


# ---- digits, MNIST, CIFAR, npz -----------------------------------------------------------------------------------


def test_digits_are_scaled_to_the_full_range():
    from sklearn.datasets import load_digits

    source = opened("digits", channels=1)
    assert len(source) == 1797
    assert source.shape == (1, 8, 8)
    table = [round(value * 255 / 16) for value in range(17)]
    expected = [[table[int(v)] for v in row] for row in load_digits().images[5]]
    assert source.get(5)[0].tolist() == expected
    assert source.labels.dtype == np.int32
    assert source.labels[:3].tolist() == [0, 1, 2]


def test_digits_of_another_size_are_fitted_by_pillow():
    small, large = opened("digits", channels=1).get(3), opened("digits", (32, 32), 1).get(3)
    expected = Image.fromarray(small[0]).resize((32, 32), Image.BILINEAR)
    np.testing.assert_array_equal(large[0], np.asarray(expected))


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    complaint(lambda: opened("digits", channels=1), "pip install ms_ddpm[digits]")


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images.idx3-ubyte"])
@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("whole_folder", [True, False])
def test_mnist_files_are_read_with_their_labels(tmp_path, rng, name, end, whole_folder):
    images, labels = noise(rng, 6, 8, 8), np.arange(6, dtype=np.uint8)
    pack = gzip.compress if end else bytes
    (tmp_path / (name + end)).write_bytes(pack(idx(images)))
    (tmp_path / name.replace("images", "labels").replace("idx3", "idx1")).write_bytes(idx(labels))
    source = opened(tmp_path if whole_folder else tmp_path / (name + end), channels=1)
    np.testing.assert_array_equal(source.batch(range(6)), images[:, None])
    assert source.labels.tolist() == labels.tolist()
    assert source.subset([4, 2]).labels.tolist() == [4, 2]


def test_mnist_without_labels_is_read(tmp_path, rng):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(noise(rng, 2, 8, 8)))
    assert opened(tmp_path, channels=1).labels is None


def test_damaged_mnist_files_are_named(tmp_path, rng):
    file, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    whole = idx(noise(rng, 6, 8, 8))
    packed = gzip.compress(whole)
    for content in (whole[:-1], whole + b"x", whole[:10], b"", idx(noise(rng, 6)), packed[:-20], b"\x1f\x8b" + whole):
        file.write_bytes(content)
        complaint(lambda: opened(tmp_path, channels=1), file, "download it again")
    file.write_bytes(idx(np.empty((0, 8, 8), np.uint8)))
    complaint(lambda: opened(tmp_path, channels=1), file, "no pixels")
    file.write_bytes(whole)
    labels.write_bytes(idx(noise(rng, 5)))
    complaint(lambda: opened(tmp_path, channels=1), labels, "5 labels for the 6 images")


@pytest.mark.parametrize("subfolder", ["", "sub"])
@pytest.mark.parametrize(("files", "sub", "label_bytes"), [
    (["data_batch_1.bin", "data_batch_2.bin"], "cifar-10-batches-bin", 1), (["train.bin"], "cifar-100-binary", 2),
])  # fmt: skip
def test_binary_cifar_is_read(tmp_path, rng, subfolder, files, sub, label_bytes):
    folder = tmp_path / (sub if subfolder else "")
    folder.mkdir(exist_ok=True)
    images, labels = noise(rng, len(files), 3, 3, 32, 32), noise(rng, len(files), 3, label_bytes)
    for file, pixels, label in zip(files, images, labels, strict=True):
        records = [bytes(one_label) + image.tobytes() for one_label, image in zip(label, pixels, strict=True)]
        (folder / file).write_bytes(b"".join(records))
    (folder / "test_batch.bin").write_bytes(b"not looked at")
    source = opened(tmp_path, (32, 32))
    np.testing.assert_array_equal(source.batch(range(len(source))), images.reshape(-1, 3, 32, 32))
    assert source.labels.tolist() == labels[..., -1].ravel().tolist()  # CIFAR-100: coarse, fine
    np.testing.assert_array_equal(opened(folder / files[0], (32, 32)).get(0), images[0, 0])


@pytest.mark.parametrize("file", ["data_batch_1.bin", "train.bin"])
def test_truncated_cifar_is_named(tmp_path, file):
    (tmp_path / file).write_bytes(bytes(3074 * 3073 - 1))
    complaint(lambda: opened(tmp_path, (32, 32)), tmp_path / file, "not whole records")


@pytest.mark.parametrize(("names", "sub"), [(["data_batch_1"], "cifar-10-batches-py"),
                                            (["train", "meta"], "cifar-100-python")])  # fmt: skip
def test_pickled_cifar_is_refused_and_not_unpickled(tmp_path, names, sub):
    (tmp_path / sub).mkdir()
    for name in names:
        (tmp_path / sub / name).write_bytes(pickle.dumps({b"data": 0}))
    for path in (tmp_path, tmp_path / sub, tmp_path / sub / names[0]):
        complaint(lambda path=path: opened(path, (32, 32)), path, "nothing is unpickled here; take the binary version")


@pytest.mark.parametrize("name", ["images", "arr_0", "whatever"])
def test_npz_arrays_are_read(tmp_path, rng, name):
    images = noise(rng, 4, 8, 8, 3)
    np.savez(tmp_path / "a.npz", **{name: images, "labels": np.arange(4)})
    source = opened(tmp_path / "a.npz")
    np.testing.assert_array_equal(source.batch(range(4)), images.transpose(0, 3, 1, 2))
    assert source.labels.dtype == np.int32
    assert source.labels.tolist() == [0, 1, 2, 3]


def test_npz_floats_in_0_1_stay_what_they_are(tmp_path, rng):
    images = rng.random((4, 8, 8))
    for dtype in (np.float16, np.float32, np.float64):
        np.savez(tmp_path / "a.npz", images.astype(dtype))
        source = opened(tmp_path / "a.npz", channels=1)
        np.testing.assert_array_equal(source.batch(range(4))[:, 0], images.astype(dtype).astype(np.float32))
        batch = Batches(source, 4, seed=0, count=1, flip=True)[0]
        assert np.isin(batch, images.astype(dtype).astype(np.float32)).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_npz_images_of_another_size_are_fitted(tmp_path, rng, channels):
    np.savez(tmp_path / "a.npz", noise(rng, 2, 8, 16, channels))
    assert opened(tmp_path / "a.npz", (4, 4), channels).batch([0, 1]).shape == (2, channels, 4, 4)


@pytest.mark.parametrize(("arrays", "words"), [
    ({"images": np.full((2, 8, 8), 1.5)}, "outside [0, 1]"),
    ({"images": np.full((2, 8, 8), np.nan)}, "outside [0, 1]"),
    ({"images": np.zeros((2, 8, 8), np.int64)}, "int64"),
    ({"images": np.zeros((8, 8), np.uint8)}, "(8, 8)"),
    ({"images": np.zeros((0, 8, 8), np.uint8)}, "(0, 8, 8)"),
    ({"images": np.array([{}], dtype=object)}, "plain arrays"),
    ({"a": np.zeros(1), "b": np.zeros(1)}, "a, b"),
    ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros(3, int)}, "labels (3,)"),
])  # fmt: skip
def test_npz_with_the_wrong_contents_is_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    complaint(lambda: opened(tmp_path / "a.npz", channels=1), tmp_path / "a.npz", words)


def test_damaged_npz_files_are_named(tmp_path, rng):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, images=noise(rng, 4, 8, 8))
    whole = file.read_bytes()
    for content in (whole[:-30], b"", pickle.dumps([1]), whole[:80] + b"\xff" * 40 + whole[120:]):
        file.write_bytes(content)
        complaint(lambda: opened(file, channels=1), file)


# ---- refusals ----------------------------------------------------------------------------------------------------


def test_a_path_that_is_no_data_set_is_refused_in_one_line(tmp_path, rng):
    for path, words in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "is empty"), ("x" * 5000, "cannot be")):
        complaint(lambda path=path: opened(path), str(path)[:150], words)
    (tmp_path / "notes.txt").write_text("hello")
    complaint(lambda: opened(tmp_path), tmp_path, "has no images", ".png", ".npz")
    complaint(lambda: opened(tmp_path / "notes.txt"), "notes.txt", "is not a data set")
    complaint(lambda: opened(save_folder(tmp_path / "f", rng, 1) / "000.png"), "000.png", "give the folder")


def test_channels_that_do_not_match_are_refused_with_both_numbers(tmp_path, rng):
    np.savez(tmp_path / "a.npz", noise(rng, 1, 8, 8, 4))
    complaint(lambda: opened("digits"), "digits", "1 channel", "channels is 3")
    complaint(lambda: opened(tmp_path / "a.npz"), "a.npz", "4 channel", "channels is 3")
    complaint(lambda: opened(save_folder(tmp_path / "f", rng, 1), channels=2), "channels is 2")
    complaint(lambda: opened(tmp_path / "f", size=(0, 8)), "image_size", "(0, 8)")


# ---- order -------------------------------------------------------------------------------------------------------


def test_split_is_the_seeds_permutation(tmp_path):
    source = numbered(tmp_path / "a.npz", 20)
    train, validation = split(source, 5, seed=3)
    order = stream(3, Stream.SPLIT).permutation(20).tolist()
    assert validation.batch(range(5))[:, 0, 0, 0].tolist() == order[:5]
    assert train.batch(range(15))[:, 0, 0, 0].tolist() == order[5:]
    assert len(split(source, 0, seed=3)[1]) == 0
    for wrong in (20, 21, -1):
        complaint(lambda wrong=wrong: split(source, wrong, seed=3), "validation_images", wrong, 20)


def test_every_image_is_seen_once_an_epoch_and_batches_straddle_epochs(tmp_path):
    source = numbered(tmp_path / "a.npz", 10)
    run = list(chain(*seen(Batches(source, 4, seed=0, count=15))))
    epochs = [run[i : i + 10] for i in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs == [stream(0, Stream.ORDER, epoch).permutation(10).tolist() for epoch in range(6)]


def test_a_batch_may_be_larger_than_the_data_set(tmp_path):
    (batch,) = seen(Batches(numbered(tmp_path / "a.npz", 3), 10, seed=0, count=1))
    assert sorted(batch[:9]) == sorted([0, 1, 2] * 3)


@pytest.mark.parametrize("world", [2, 3])
def test_shards_share_no_image_and_together_are_the_epoch(tmp_path, world):
    source = numbered(tmp_path / "a.npz", 4 * world * 3)
    ranks = [seen(Batches(source, 4, seed=1, count=6, rank=r, world=world)) for r in range(world)]
    for epoch in range(2):
        images = chain(*(chain(*rank[3 * epoch : 3 * epoch + 3]) for rank in ranks))
        assert Counter(images) == Counter(range(len(source)))
    one = seen(Batches(source, 4 * world, seed=1, count=6))
    assert one == [list(chain(*(rank[number] for rank in ranks))) for number in range(6)]


def test_a_run_that_goes_on_with_other_workers_skips_and_repeats_no_image(tmp_path):
    source = numbered(tmp_path / "a.npz", 100)
    alone = seen(Batches(source, 4, seed=1, count=24, flip=True))
    two = [seen(Batches(source, 4, seed=1, count=3, flip=True, rank=r, world=2)) for r in range(2)]
    three = [seen(Batches(source, 4, seed=1, start=6, count=6, flip=True, rank=r, world=3)) for r in range(3)]
    assert [batch for turn in zip(*two, strict=True) for batch in turn] == alone[:6]
    assert [batch for turn in zip(*three, strict=True) for batch in turn] == alone[6:]


@pytest.mark.parametrize("start", [1, 2, 7, 1000])
def test_a_run_resumed_at_any_batch_sees_identical_batches(start):
    options = {"seed": 5, "flip": True, "rank": 1, "world": 2}
    source = opened("digits", channels=1)
    whole, resumed = Batches(source, 96, count=start + 3, **options), Batches(
        opened("digits", channels=1), 96, start=2 * start, count=3, **options
    )  # fmt: skip
    for item in (2, 0, 1):
        np.testing.assert_array_equal(resumed[item], whole[start + item])


def test_another_seed_is_another_order(tmp_path):
    source = numbered(tmp_path / "a.npz", 50)
    assert seen(Batches(source, 50, seed=0, count=1)) != seen(Batches(source, 50, seed=1, count=1))


def test_flips_mirror_half_of_the_images_as_their_stream_says(tmp_path):
    images = np.tile(np.arange(6, dtype=np.uint8) * 50, (40, 2, 1))
    np.savez(tmp_path / "a.npz", images)
    source = opened(tmp_path / "a.npz", (2, 6), 1)
    plain = Batches(source, 200, seed=0, count=2, rank=1, world=2)[1]
    flipped = Batches(source, 200, seed=0, count=2, rank=1, world=2, flip=True)[1]
    chosen = stream(0, Stream.FLIP, 3, 0).random(200) < 0.5
    np.testing.assert_array_equal(flipped[chosen], plain[chosen][..., ::-1])
    np.testing.assert_array_equal(flipped[~chosen], plain[~chosen])
    assert 70 < chosen.sum() < 130


def test_batches_are_float32_from_0_to_1(tmp_path):
    np.savez(tmp_path / "a.npz", np.array([[[0, 51, 255]]], np.uint8))
    batch = Batches(opened(tmp_path / "a.npz", (1, 3), 1), 2, seed=0, count=1)[0]
    assert batch.dtype == np.float32
    assert batch.shape == (2, 1, 1, 3)
    assert batch[0, 0, 0].tolist() == [0, np.float32(51) / np.float32(255), 1]


def test_batches_out_of_range_are_refused(tmp_path):
    source = numbered(tmp_path / "a.npz", 3)
    for wrong in ({"batch_size": 0}, {"rank": 2, "world": 2}, {"rank": -1}, {"world": 0}, {"start": -1}, {"count": -1}):
        name = "rank" if "world" in wrong else next(iter(wrong))
        complaint(
            lambda wrong=wrong: Batches(source, **{"batch_size": 2, "seed": 0, "count": 1, **wrong}), f"{name} is"
        )
    complaint(lambda: Batches(source.subset([]), 1, seed=0, count=1), "no images")
    with pytest.raises(IndexError):
        Batches(source, 2, seed=0, count=1)[1]


# ---- the pipeline ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_changes_nothing(tmp_path, rng, workers):
    source = opened(save_folder(tmp_path, rng, 20))
    batches = Batches(source, 3, seed=0, start=4, count=30, flip=True)
    through = list(iterate(batches, workers))  # kept beyond the end of the pipeline
    assert len(through) == 30
    for item, images in enumerate(through):
        np.testing.assert_array_equal(images, batches[item])


@pytest.mark.parametrize("workers", [1, 2])
def test_the_dataset_has_one_column_in_order_and_may_be_read_twice(tmp_path, workers):
    batches = Batches(numbered(tmp_path / "a.npz", 9), 2, seed=0, count=9)
    dataset = to_dataset(batches, workers)
    assert dataset.get_col_names() == ["image"]
    for _ in range(2):
        rows = dataset.create_dict_iterator(output_numpy=True, num_epochs=1)
        assert seen(row["image"] for row in rows) == seen(batches)


class Recording:
    """Batches that note which were made; ``error`` takes the place of number ``bad``."""

    def __init__(self, bad=-1, error=None):
        self.bad, self.error, self.made = bad, error, set()

    def __len__(self):
        return 1000

    def __getitem__(self, item):
        self.made.add(item)
        if item == self.bad:
            raise self.error
        return np.full((1, 1, 2, 2), item, np.float32)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("bad", [0, 7])
@pytest.mark.parametrize("error", [UserError("folder x holds no readable image"), KeyError("other")])
def test_an_error_in_a_worker_reaches_the_caller_as_it_is(capfd, workers, bad, error):
    got = []
    with pytest.raises(type(error)) as caught:
        got.extend(iterate(Recording(bad, error), workers))
    assert caught.value is error
    assert [int(images[0, 0, 0, 0]) for images in got] == list(range(bad))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("workers", [1, 3])
def test_few_batches_are_made_ahead(workers):
    batches = Recording()
    generator = iterate(batches, workers)
    next(generator)
    sleep(0.2)
    assert len(batches.made) <= 1 + pipeline.PREFETCH + 2 + workers


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("how", ["closed", "failed"])
def test_no_thread_is_left_of_a_pipeline_that_was_closed_or_failed(workers, how):
    def threads():
        return len(list(Path("/proc/self/task").iterdir()))

    list(iterate(Batches(opened("digits", channels=1), 1, seed=0, count=1)))  # threads that MindSpore keeps
    before = threads()
    generator = iterate(Recording(2, UserError("bad")), workers)
    next(generator)
    assert threads() > before
    if how == "closed":
        generator.close()
    else:
        with pytest.raises(UserError) as caught:  # noqa: F841 - its traceback keeps the generator's frame alive
            list(generator)
    deadline = time() + 5
    while threads() > before and time() < deadline:
        sleep(0.01)
    assert threads() == before


def test_the_prefetch_size_of_the_process_is_left_alone():
    import mindspore.dataset as ds

    before = ds.config.get_prefetch_size()
    ds.config.set_prefetch_size(before + 1)
    next(iterate(Recording()))
    after = ds.config.get_prefetch_size()
    ds.config.set_prefetch_size(before)
    assert after == before + 1


def test_no_batches_and_no_workers(tmp_path):
    assert list(iterate(Batches(numbered(tmp_path / "a.npz", 3), 2, seed=0, count=0))) == []
    complaint(lambda: to_dataset(Recording(), 0), "workers is 0")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_program_that_leaves_the_pipeline_open_ends_quietly(workers):
    code = f"""
from ms_ddpm.data import Batches, iterate, open_images
source = open_images("digits", image_size=(8, 8), channels=1)
left_open = iterate(Batches(source, 4, seed=0, count=10**6), workers={workers})
print(next(left_open).shape)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (out.returncode, out.stdout.strip(), out.stderr) == (0, "(4, 1, 8, 8)", "")
