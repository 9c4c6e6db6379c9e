"""Classes that are asked for: what is no class, or not one for each image, is one line."""

import numpy as np
import pytest

from ms_ddpm.data.labels import labels_for, labels_of_images
from ms_ddpm.errors import UserError


class Ten:
    conditional, num_classes = True, 10

    def sample(self):
        """There is one; what is drawn is not looked at."""


class Plain(Ten):
    conditional, num_classes = False, 0


WRONG = [
    ([10**24], "class 1000000000000000000000000 does not exist"),
    ([-1], "class -1 does not exist"),
    ([10], "class 10 does not exist; the model has num_classes 10, 0 to 9"),
    ([1.7], "labels of type float64, expected whole numbers from 0 to 9"),
    ([True, False], "labels of type bool"),
    (["3"], "labels of type <U1"),
    ([None], "labels of type object"),
    ([], "but they are none"),
    ([[1, 2], [3, 4]], r"labels of shape \(2, 2\), expected a row"),
    ([[1], [2, 3]], "lists of different lengths"),
]


@pytest.mark.parametrize(("labels", "words"), WRONG, ids=[str(row[0]) for row in WRONG])
def test_what_is_no_class_is_named(labels, words):
    for check in (labels_for, lambda cell, num, labels: labels_of_images(cell, labels, num)):
        with pytest.raises(UserError, match=words) as caught:
            check(Ten(), 4, labels)
        assert "\n" not in str(caught.value)


def test_classes_are_given_in_turn_or_one_each(mindspore):
    assert labels_for(Ten(), 5, [3, 7]).tolist() == [3, 7, 3, 7, 3]
    assert labels_for(Ten(), 3, 4).tolist() == [4, 4, 4]
    assert labels_for(Ten(), 12, None).tolist() == [*range(10), 0, 1]
    assert labels_for(Plain(), 3, None) is None
    assert labels_of_images(Ten(), None, 3, 8).tolist() == [8, 9, 0]
    assert labels_of_images(Ten(), mindspore.Tensor(np.array([2, 1])), 2).tolist() == [2, 1]
    found = labels_of_images(Ten(), 2, 3)
    assert (found.tolist(), found.dtype) == ([2, 2, 2], np.int32)
    assert labels_of_images(Plain(), None, 3) is None
    for call in (lambda: labels_for(Plain(), 3, [1]), lambda: labels_of_images(Plain(), [1], 1)):
        with pytest.raises(UserError, match="labels are given, but this model is not conditional"):
            call()


def test_images_are_drawn_with_labels_that_fit_or_not_at_all(mindspore):
    from ms_ddpm import sampling

    class Echo(Ten):
        def sample(self, batch_size, *, labels, **options):
            return mindspore.Tensor((labels / 10).astype(np.float32).reshape(-1, 1, 1, 1))

    drawn = sampling.draw_images(Echo(), 5, labels=[1, 2, 3, 4, 5], batch_size=2, progress=False)
    assert np.rint(drawn.ravel() * 10).tolist() == [1, 2, 3, 4, 5]
    for labels, words in (
        ([1, 2, 3], r"labels of shape \(3,\) for 5 images"), (np.zeros((5, 1), int), r"labels of shape \(5, 1\)"),
        ([0.5] * 5, "labels of type float64"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            sampling.draw_images(Echo(), 5, labels=labels, progress=False)
    with pytest.raises(UserError, match="not conditional"):
        sampling.draw_images(Plain(), 5, labels=[1] * 5, progress=False)


@pytest.mark.parametrize(
    ("labels", "columns"),
    [(np.arange(60) % 10, 10), (np.arange(64) % 10, 10), (np.resize([3, 7], 64), 8), (np.zeros(9, int), None),
     (np.array([0, 1, 2, 5, 1, 0, 3]), None), (np.arange(5), None)],
)  # fmt: skip
def test_a_grids_columns_are_classes_where_they_come_in_turn(mindspore, labels, columns):
    from ms_ddpm import sampling

    assert sampling.columns_of(labels) == columns


def test_training_pictures_have_a_row_for_each_class(mindspore, tmp_path, monkeypatch):
    from ms_ddpm import config, sampling
    from ms_ddpm.systems.sample import rows_of_classes

    asked = []

    def draw(cell, num, *, labels, **options):
        asked.append((num, labels.tolist()))
        return np.zeros((num, 1, 8, 8), np.float32)

    monkeypatch.setattr(sampling, "draw_images", draw)
    for num, columns in ((60, 6), (25, 2), (4, 1)):
        drawn = rows_of_classes(Ten(), config.Config(num_samples=num))
        drawn(Ten(), num)
        assert drawn.columns == columns
        rows = min(10, num)
        assert asked[-1] == (rows * columns, [k for k in range(rows) for _ in range(columns)])
    assert rows_of_classes(Plain(), config.Config()).columns is None
