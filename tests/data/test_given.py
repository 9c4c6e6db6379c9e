"""What a program gives the Trainer: arrays, lists of them, and data sets as PyTorch knows them."""

import threading

import numpy as np
import pytest
from PIL import Image

from ms_ddpm.data import Batches, iterate, prepare
from ms_ddpm.data.given import as_source
from ms_ddpm.errors import UserError


class Cell:
    channels, image_size, conditional, num_classes = 3, (4, 6), False, 5


class Conditional(Cell):
    conditional = True


def numbered(count=10, shape=(3, 4, 6), dtype=np.uint8):
    """Image i is full of i, its right half of i + 100: a flip can be seen."""
    images = np.zeros((count, *shape), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    images[..., shape[-1] // 2 :] += 100
    return images if dtype == np.uint8 else (images / 255).astype(dtype)


class DataSet:
    """As PyTorch's: not a sequence, no array; items are made by ``make``."""

    def __init__(self, make, count=10):
        self.make, self.count, self.asked, self.inside = make, count, [], threading.Lock()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert self.inside.acquire(blocking=False), "two threads are in the data set at once"
        try:
            self.asked.append(index)
            return self.make(index)
        finally:
            self.inside.release()


class Tensor:
    """What this library sees of a PyTorch tensor."""

    def __init__(self, values):
        self.values = values

    def numpy(self):
        return self.values


IMAGES = numbered()
LAST = IMAGES.transpose(0, 2, 3, 1)
FLOATS = numbered(dtype=np.float32)
WAYS = {  # what is given -> whether training gets floats that were never bytes
    "array, channels first": (IMAGES, False),
    "array, channels last": (LAST, False),
    "floats": (numbered(dtype=np.float64), True),
    "a tensor": (Tensor(numbered(dtype=np.float32)), True),
    "a list of arrays": (list(LAST), False),
    "a tuple of arrays": (tuple(IMAGES), False),
    "a list of tensors": ([Tensor(x) for x in numbered(dtype=np.float32)], True),
    "items that are arrays": (DataSet(lambda i: LAST[i]), False),
    "items that are Pillow images": (DataSet(lambda i: (Image.fromarray(LAST[i]), i % 5)), False),
    "items that are tensors": (DataSet(lambda i: (Tensor(FLOATS[i]), Tensor(np.array(i % 5)))), True),
    "bytes after floats": (DataSet(lambda i: IMAGES[i] if i else FLOATS[i]), True),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_everything_becomes_the_same_images(way):
    given, floats = WAYS[way]
    train, held = prepare(given, Cell(), 3, seed=1)
    assert (len(train), len(held), train.shape) == (7, 3, (3, 4, 6))
    assert train.dtype == (np.float32 if floats else np.uint8)
    reference = prepare(numbered(), Cell(), 3, seed=1)
    for part, expected in zip((train, held), reference, strict=True):
        batches = [Batches(source, 5, seed=2, count=4, flip=True) for source in (part, expected)]
        for found, wanted in zip(*batches, strict=True):
            np.testing.assert_array_equal(found, wanted)
            assert found.dtype == np.float32
        flipped = wanted[:, 0, 0, 0] > wanted[:, 0, 0, -1]
        assert 0 < flipped.sum() < 5 or len(part) == 3
    first = train.batch(range(7))[:, 0, 0, 0]
    assert len(set((first * 255 if floats else first).round())) == 7


LABELLED = {
    "a pair of arrays": lambda: (IMAGES, np.arange(10) % 5),
    "a pair of tensors": lambda: (Tensor(IMAGES), Tensor(np.arange(10) % 5)),
    "pairs": lambda: DataSet(lambda i: (IMAGES[i], i % 5)),
    "a list of pairs": lambda: [(IMAGES[i], np.int64(i % 5)) for i in range(10)],
    "pairs of tensors": lambda: DataSet(lambda i: [Tensor(LAST[i]), Tensor(np.array([i % 5]))]),
}


@pytest.mark.parametrize("way", LABELLED)
def test_each_image_keeps_its_own_class(way):
    train, held = prepare(LABELLED[way](), Conditional(), 3, seed=1)
    for part in (train, held):
        numbers = part.batch(range(len(part)))[:, 0, 0, 0]
        assert part.labels.tolist() == (numbers % 5).tolist()
        assert part.labels.dtype == np.int32


def test_classes_are_not_asked_for_where_they_are_not_wanted():
    dataset = DataSet(lambda i: (IMAGES[i], "no class"))
    prepare(dataset, Cell(), 2, seed=0)
    assert dataset.asked == [0]  # its type is that of all
    with pytest.raises(UserError, match=r"item 0 of the DataSet given has no class that is a whole number.*give pairs"):
        prepare(dataset, Conditional(), 2, seed=0)
    cell = Conditional()
    cell.num_classes = 4
    with pytest.raises(UserError, match="class 4 does not exist; the model has num_classes 4"):
        prepare(DataSet(lambda i: (IMAGES[i], i % 5)), cell, 0, seed=0)
    with pytest.raises(UserError, match="the data set has no labels"):
        prepare(IMAGES, Conditional(), 0, seed=0)


def test_images_of_another_size_are_fitted_as_files_are(rng):
    large = rng.integers(0, 256, (8, 16, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(large).resize((8, 4), Image.BILINEAR).crop((1, 0, 7, 4))).transpose(2, 0, 1)
    for given in (large[None], [large], [large.transpose(2, 0, 1)], [Image.fromarray(large)]):
        np.testing.assert_array_equal(as_source(given, image_size=(4, 6), channels=3).get(0), expected)
    small = as_source([large, large[:5]], image_size=(4, 6), channels=3)  # not of one size
    assert small.batch([0, 1]).shape == (2, 3, 4, 6)
    (floats,) = as_source([large / 255], image_size=(4, 6), channels=3).batch([0])
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats * 255, expected, atol=1)


def test_grey_images_need_no_axis_of_channels():
    grey = numbered(shape=(1, 4, 6))
    for given in (grey, grey[:, 0], grey[..., None][:, 0], list(grey[:, 0]), [Image.fromarray(x[0]) for x in grey]):
        source = as_source(given, image_size=(4, 6), channels=1)
        np.testing.assert_array_equal(source.batch(range(10)), grey)


def test_transparent_pillow_images_are_laid_on_white():
    clear = Image.new("RGBA", (6, 4), (1, 2, 3, 0))
    assert (as_source([clear], image_size=(4, 6), channels=3).get(0) == 255).all()
    kept = as_source([clear], image_size=(4, 6), channels=4).get(0)
    assert kept[:, 0, 0].tolist() == [1, 2, 3, 0]


WRONG = {
    "both ends may be channels": (
        np.zeros((2, 3, 5, 3), np.uint8),
        r"one image of the ndarray given is \(3, 5, 3\), which may be \(3, H, W\) or \(H, W, 3\)",
    ),
    "neither is": (np.zeros((2, 5, 6, 2), np.uint8), r"have 2 channel\(s\), but channels is 3"),
    "a grey one": ([np.zeros((4, 6), np.uint8)], r"item 0 of the list given have 1 channel\(s\), but channels is 3"),
    "one image": (np.zeros((4, 6), np.uint8), r"the ndarray given has shape \(4, 6\), expected images \(N, H, W\)"),
    "normalised": (np.full((2, 3, 4, 6), -1.0), r"values from -1 to -1, expected floats in \[0, 1\].*Normalize"),
    "not a number": ([np.full((3, 4, 6), np.nan)], "item 0 of the list given has values from nan to nan"),
    "integers": (np.zeros((2, 3, 4, 6), np.int64), "type int64, expected uint8 or floats"),
    "nothing": ([], "the list given is empty"),
    "no images": (np.zeros((0, 3, 4, 6), np.uint8), r"shape \(0, 3, 4, 6\), expected images"),
    "words": (["a.png"], "item 0 of the list given is a str, expected an image"),
    "a number": (3, "the data set is a int, expected a path, an array of images"),
    "an iterator": (iter([]), "the data set is a list_iterator, expected a path"),
    "a mapping": ({"train": 1}, "item 0 of the dict given cannot be read .KeyError: 0"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_data_set_is_one_line(kind):
    given, words = WRONG[kind]
    with pytest.raises(UserError, match=words) as refused:
        prepare(given, Cell(), 0, seed=0)
    assert "\n" not in str(refused.value)


def test_a_tensor_that_becomes_no_array_says_so():
    class OnDevice:
        def numpy(self):
            raise TypeError("can't convert cuda:0 device type tensor to numpy.\nUse Tensor.cpu()")

    with pytest.raises(UserError, match=r"the OnDevice given does not become a numpy array .TypeError: can't convert"):
        prepare(OnDevice(), Cell(), 0, seed=0)
    with pytest.raises(UserError, match=r"item 0 of the list given cannot be made an image .TypeError: can't convert"):
        prepare([OnDevice()], Cell(), 0, seed=0)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_item_that_cannot_be_read_stops_the_run_and_is_named(workers):
    def make(index):
        if index == 6:
            raise ZeroDivisionError("in my transform\nsecond line")
        return IMAGES[index]

    source, _ = prepare(DataSet(make), Cell(), 0, seed=0)
    with pytest.raises(UserError) as refused:
        list(iterate(Batches(source, 4, seed=0, count=5), workers))
    assert str(refused.value) == "item 6 of the DataSet given cannot be read (ZeroDivisionError: in my transform)"
    assert isinstance(refused.value.__cause__, ZeroDivisionError)  # a notebook shows where
    floats = [IMAGES[0], IMAGES[1] / 255]
    source, _ = prepare(floats, Cell(), 0, seed=0)
    with pytest.raises(UserError, match="item 1 of the list given holds floats, item 0 bytes; give all of one type"):
        list(iterate(Batches(source, 2, seed=0, count=1), workers))


def test_two_workers_see_what_one_sees_and_are_never_in_a_data_set_at_once():
    dataset = DataSet(lambda i: (Image.fromarray(LAST[i]), 0))
    source, _ = prepare(dataset, Cell(), 0, seed=0)
    batches = Batches(source, 3, seed=0, count=20, flip=True)
    for found, expected in zip(iterate(batches, 2), batches, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_items_are_asked_for_anew_each_time():
    """A data set may crop or turn its images by chance; keeping the first of each would take that from it."""
    dataset = DataSet(lambda i: np.full((3, 4, 6), len(dataset.asked), np.uint8), count=2)
    source, _ = prepare(dataset, Cell(), 0, seed=0)
    assert source.get(1)[0, 0, 0] != source.get(1)[0, 0, 0]
    assert source.names == ["0", "1"]


def test_real_tensors_and_a_real_torch_data_set():
    torch = pytest.importorskip("torch")
    images = torch.from_numpy(numbered(dtype=np.float32))
    pairs = torch.utils.data.TensorDataset(images, torch.arange(10) % 5)
    train, _ = prepare(pairs, Conditional(), 2, seed=0)
    assert train.labels.tolist() == (np.rint(train.batch(range(8))[:, 0, 0, 0] * 255) % 5).astype(int).tolist()
    (subset, _), (whole, _) = (prepare(x, Cell(), 0, 0) for x in (torch.utils.data.Subset(pairs, [4, 2]), images))
    np.testing.assert_array_equal(subset.get(1), whole.get(2))


def test_the_trainer_takes_them(mindspore, tmp_path):
    """Flips, validation split, classes and two workers: the losses are those of the same images given as a file."""
    from mindspore import Parameter, nn

    from ms_ddpm import Trainer

    class Line(nn.Cell):
        channels, image_size, conditional, num_classes = 3, (4, 6), True, 5

        def __init__(self):
            super().__init__()
            self.w = Parameter(np.full((1, 3, 4, 6), 0.5, np.float32), name="w")

        def draw(self, rng, batch):
            return (rng.standard_normal(batch[0].shape).astype(np.float32),)

        def construct(self, image, label, noise):
            error = self.w * image * (1 + label.reshape(-1, 1, 1, 1)) - noise
            return (error * error).mean()

    np.savez(tmp_path / "a.npz", images=LAST, labels=np.arange(10) % 5)
    given = {
        "file": tmp_path / "a.npz",
        "arrays": (IMAGES, np.arange(10) % 5),
        "items": DataSet(lambda i: (Image.fromarray(LAST[i]), i % 5)),
    }
    found = {}
    for name, dataset in given.items():
        records = []
        trainer = Trainer(
            Line(), dataset, train_batch_size=3, train_num_steps=4, save_and_sample_every=4, validation_images=4,
            workers=2, progress=False, results_folder=tmp_path / name, on_step=records.append, train_lr=1e-2,
        )  # fmt: skip
        trainer.train()
        found[name] = [record["loss"] for record in records] + [
            trainer.best_loss,
            float(trainer.cell.w.asnumpy().sum()),
        ]
    assert len(set(found["file"])) == 6
    assert found["arrays"] == found["file"]
    assert found["items"] == found["file"]
