"""Data sets as other programs leave them: arrays and labels of .npz files, torchvision's folders, test files."""

import logging
import struct

import numpy as np
import pytest

from ms_ddpm.data import Batches, open_images, test_file
from ms_ddpm.errors import UserError

test_file.__test__ = False  # a function of the library, whatever pytest thinks of its name


def opened(path, size=(8, 8), channels=3):
    return open_images(path, image_size=size, channels=channels)


def noise(rng, *shape):
    return rng.integers(0, 256, shape, dtype=np.uint8)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


# ---- .npz --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "channels", "first"),
    [((2, 3, 8, 12), 3, True), ((2, 8, 12, 3), 3, False), ((2, 1, 28, 28), 1, True), ((2, 4, 8, 12), 4, True),
     ((2, 3, 8, 3), 3, False), ((2, 3, 3, 8), 3, True)],
)  # fmt: skip
def test_npz_arrays_have_their_channels_last_or_first(tmp_path, rng, shape, channels, first):
    images = noise(rng, *shape)
    np.savez(tmp_path / "a.npz", images)
    expected = images if first else images.transpose(0, 3, 1, 2)
    source = opened(tmp_path / "a.npz", expected.shape[2:], channels)
    np.testing.assert_array_equal(source.batch(range(2)), expected)


def test_where_both_ends_may_be_channels_the_size_decides_and_then_the_documented_order(tmp_path, rng):
    images = noise(rng, 2, 3, 8, 3)
    np.savez(tmp_path / "a.npz", images)
    for size, expected in (((8, 3), images), ((3, 8), images.transpose(0, 3, 1, 2)), ((6, 16), None)):
        found = opened(tmp_path / "a.npz", size)
        if expected is not None:
            np.testing.assert_array_equal(found.batch(range(2)), expected)
        else:
            assert found.shape == (3, 6, 16)


def test_npz_arrays_of_other_channels_say_both_orders(tmp_path, rng):
    for shape, count in (((2, 28, 28, 3), 3), ((2, 3, 28, 28), 3), ((2, 28, 28, 5), 5)):
        np.savez(tmp_path / "a.npz", noise(rng, *shape))
        with pytest.raises(UserError) as refused:
            opened(tmp_path / "a.npz", (28, 28), 1)
        assert str(refused.value) == (
            f"the images of {tmp_path / 'a.npz'} have {count} channel(s), but channels is 1; set channels to {count} "
            f"(one image is {shape[1:]}, expected (H, W, 1) or (1, H, W))"
        )


@pytest.mark.parametrize("name", ["labels", "label", "y", "targets", "arr_1", "y_train"])
@pytest.mark.parametrize("images", ["images", "arr_0", "x_train", "whatever"])
def test_npz_labels_have_many_names(tmp_path, rng, name, images):
    labels = np.array([3, 1, 2])
    np.savez(tmp_path / "a.npz", **{images: noise(rng, 3, 8, 8), name: labels[:, None] if name == "y" else labels})
    source = opened(tmp_path / "a.npz", channels=1)
    assert (source.labels.tolist(), source.labels.dtype) == ([3, 1, 2], np.int32)


def test_what_is_no_label_is_let_alone_where_it_does_not_say_it_is(tmp_path, rng):
    images = noise(rng, 3, 8, 8)
    np.savez(tmp_path / "a.npz", images, images[:2])  # arr_0, arr_1
    source = opened(tmp_path / "a.npz", channels=1)
    assert (len(source), source.labels) == (3, None)
    np.savez(tmp_path / "a.npz", images=images, label=np.zeros((3, 10)))
    with pytest.raises(UserError, match=r"a.npz has label \(3, 10\) of type float64, expected 3 integers"):
        opened(tmp_path / "a.npz", channels=1)
    np.savez(tmp_path / "a.npz", y=images)  # the only array is that of the images, whatever it is called
    assert len(opened(tmp_path / "a.npz", channels=1)) == 3


def test_npz_floats_keep_their_precision_when_they_are_scaled(tmp_path, rng):
    from PIL import Image

    images = rng.random((2, 3, 16, 24)).astype(np.float32)
    np.savez(tmp_path / "a.npz", images)
    found = opened(tmp_path / "a.npz", (8, 8)).batch([0, 1])
    assert found.dtype == np.float32
    expected = Image.fromarray(images[1, 2]).resize((12, 8), Image.BILINEAR).crop((2, 0, 10, 8))
    np.testing.assert_allclose(found[1, 2], np.asarray(expected), atol=1e-7)
    batch = Batches(opened(tmp_path / "a.npz", (8, 8)), 2, seed=0, count=1)[0]
    assert np.abs(batch * 255 - np.rint(batch * 255)).max() > 0.1


# ---- torchvision's folders, test files ---------------------------------------------------------------------------


def mnist(folder, rng, count=4):
    folder.mkdir(parents=True)
    images, labels = noise(rng, count, 8, 8), np.arange(count, dtype=np.uint8)
    for part, kept in (("train", images), ("t10k", images[:2])):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(kept))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels[: len(kept)]))
    return images


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
@pytest.mark.parametrize("given", ["", "NAME", "NAME/raw"])
def test_the_folders_that_torchvision_makes_are_found(tmp_path, rng, name, given, caplog):
    images = mnist(tmp_path / name / "raw", rng)
    path = tmp_path / given.replace("NAME", name)
    with caplog.at_level(logging.INFO, "ms_ddpm"):
        source = opened(path, channels=1)
    np.testing.assert_array_equal(source.batch(range(4))[:, 0], images)
    assert source.labels.tolist() == [0, 1, 2, 3]
    assert source.name == str(path)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.endswith("these are the training images, train-images-idx3-ubyte; t10k-images-idx3-ubyte is left out "
                         "(give it as the data set to take it)")  # fmt: skip
    assert test_file(path) == tmp_path / name / "raw" / "t10k-images-idx3-ubyte"
    assert len(opened(test_file(path), channels=1)) == 2


def test_a_folder_above_several_data_sets_is_refused(tmp_path, rng):
    for name in ("MNIST", "FashionMNIST"):
        mnist(tmp_path / name / "raw", rng)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    (tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin").write_bytes(bytes(3073))
    with pytest.raises(
        UserError, match=r"holds several data sets: MNIST/raw, FashionMNIST/raw, cifar-10-batches-bin; "
    ):
        opened(tmp_path, channels=1)


@pytest.mark.parametrize(
    ("train", "test", "label_bytes"), [("data_batch_1.bin", "test_batch.bin", 1), ("train.bin", "test.bin", 2)]
)
def test_cifars_test_file_is_read_where_it_is_named(tmp_path, rng, train, test, label_bytes, caplog):
    images, labels = noise(rng, 2, 3, 32, 32), noise(rng, 2, label_bytes)
    for file, number in ((train, 0), (test, 1)):
        (tmp_path / file).write_bytes(labels[number].tobytes() + images[number].tobytes())
    with caplog.at_level(logging.INFO, "ms_ddpm"):
        source = opened(tmp_path, (32, 32))
    np.testing.assert_array_equal(source.batch(range(len(source))), images[:1])
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"these are the training images, {train}; {test} is left out" in line
    source = opened(tmp_path / test, (32, 32))
    np.testing.assert_array_equal(source.batch(range(len(source))), images[1:])
    assert source.labels.tolist() == [labels[1, -1]]
    assert test_file(tmp_path) == tmp_path / test
    (tmp_path / train).unlink()
    with pytest.raises(UserError, match=f"has no images .*; to take {test} give that file"):
        opened(tmp_path, (32, 32))


def test_a_file_called_like_a_test_set_among_images_is_none(tmp_path, rng):
    from PIL import Image

    Image.fromarray(noise(rng, 8, 8, 3)).save(tmp_path / "a.png")
    (tmp_path / "test.bin").write_bytes(b"whatever")
    assert len(opened(tmp_path)) == 1
    assert test_file(tmp_path / "a.png") is None
