"""Pictures of class-conditional models."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from ms_ddpm.errors import UserError
from ms_ddpm.pictures import figures
from ms_ddpm.systems.score import pictures
from tests.gaussian_score import SHIFTS, gaussian_model


def test_cosine_similarity_is_that_of_directions():
    table = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, 0.0]])
    root = np.sqrt(0.5)
    exact = [[1, 0, root, 0], [0, 1, root, 0], [root, root, 1, 0], [0, 0, 0, 0]]
    assert pictures.cosine_similarity(table) == pytest.approx(np.array(exact))


def test_the_similarity_picture_is_blank_on_the_diagonal_and_red_where_alike():
    table = np.array([[1.0, 0.1], [1.0, 0.0], [-1.0, 0.0]])
    picture = np.asarray(pictures.similarity_picture(table))
    blank = ImageColor.getrgb(figures.LINE)
    rows, columns = np.nonzero((picture == blank).all(2))
    top, left = rows.min(), columns.min()  # of the first blank field

    def corner(i, j):
        return tuple(map(int, picture[top + i * pictures.CELL + 4, left + j * pictures.CELL + 4]))

    assert {corner(i, i) for i in range(3)} == {blank}
    assert corner(0, 1) == corner(1, 0)
    assert corner(0, 1)[0] > 150 > corner(0, 1)[2]
    assert corner(1, 2)[2] > 150 > corner(1, 2)[0]


def test_the_table_of_a_model_has_no_row_for_no_class(mindspore, tmp_path):
    from ms_ddpm.models.conditional_unet import class_embedding
    from ms_ddpm.nn.sde import VESDE

    model = gaussian_model(VESDE(25.0), shifts=SHIFTS)
    with pytest.raises(UserError, match="no class embedding"):
        pictures.class_table(model)
    model.net.cond_embed = class_embedding(3, True, 5, np.random.default_rng(0))
    assert pictures.class_table(model).shape == (3, 5)
    pictures.save_embedding_similarity(model, tmp_path / "made" / "embedding.png")
    assert Image.open(tmp_path / "made" / "embedding.png").mode == "RGB"
    with pytest.raises(UserError, match="not conditional"):
        pictures.class_table(gaussian_model(VESDE(25.0)))


def test_every_class_has_a_row_and_a_grid_of_its_own(tmp_path):
    labels = np.array([2, 0, 2, 0, 7] * 3)
    images = np.broadcast_to(labels[:, None, None, None] / 7, (15, 1, 28, 28)).astype(np.float32)
    paths = pictures.save_class_grids(images, labels, tmp_path)
    assert [p.name for p in paths] == ["classes.png", "class-0.png", "class-2.png", "class-7.png"]
    rows = np.asarray(Image.open(paths[0]))[18:-18]  # without the page's margin
    heights = [rows[rows.shape[0] * (2 * i + 1) // 6, 100].tolist() for i in range(3)]
    assert heights == [[0, 0, 0], [73, 73, 73], [255, 255, 255]]
    for path, value in zip(paths[1:], (0, 73, 255), strict=True):
        shades = set(np.unique(np.asarray(Image.open(path))[18 + 2 * figures.TITLE + 8 :]))
        assert shades <= {value, 128, 255}  # white around it
        assert value in shades


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (0, 1, 4, 4)])
def test_labels_that_do_not_fit_are_named(shape, tmp_path):
    with pytest.raises(UserError, match=r"labels of shape \(3,\)|labels of shape \(0,\)"):
        pictures.save_class_grids(np.zeros(shape, np.float32), np.zeros(3 if shape[0] else 0, int), tmp_path)
