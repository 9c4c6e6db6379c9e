"""Figures with words on them: pixels stay exact, words are there, and matplotlib is kept to itself."""

import os
import subprocess
import sys

import numpy as np
import pytest

from ms_ddpm.errors import UserError
from ms_ddpm.pictures import figures
from ms_ddpm.pictures.images import GREY
from tests.conftest import ROOT
from tests.drawn import places


def enlarged(image, scale):
    """An image (C, H, W) as pixels (H, W, 3), each a square of ``scale``."""
    return figures.opaque(image[None])[0].repeat(scale, axis=0).repeat(scale, axis=1)


@pytest.mark.parametrize(("shape", "scale"), [((1, 5, 7), 13), ((3, 8, 8), None), ((3, 40, 64), 1), ((4, 9, 6), 3)])
def test_the_pixels_of_a_sheet_are_the_images_enlarged(rng, shape, scale):
    images = rng.random((5, *shape), dtype=np.float32)
    rows = [("some", images[:3]), ("fewer", images[3:])]
    picture = figures.page(figures.sheet(rows, ["one", "two", "three"], heading="all", scale=scale), "Title", "Note")
    found = [places(picture, enlarged(image, scale or 8)) for image in images]
    assert [len(at) for at in found] == [1] * 5
    (tops, lefts) = zip(*(at[0] for at in found), strict=True)
    assert len(set(tops[:3])) == len(set(tops[3:])) == 1
    assert lefts[:2] == lefts[3:]
    assert lefts[0] < lefts[1] < lefts[2]
    assert tops[0] < tops[3]


def test_what_is_transparent_lies_on_grey():
    clear = np.zeros((1, 4, 2, 2), np.float32)
    half = np.concatenate([np.ones((1, 3, 2, 2)), np.full((1, 1, 2, 2), 0.5)], 1).astype(np.float32)
    assert (figures.opaque(clear) == GREY).all()
    assert np.abs(figures.opaque(half) - (255 + GREY) / 2).max() <= 1


def test_every_word_is_drawn(words_of, rng):
    images = rng.random((2, 1, 8, 8), dtype=np.float32)
    sheet = figures.sheet([("first", images), ("second", images)], ["amount 0", "amount 1"], heading="given")
    assert {"first", "second", "amount 0", "amount 1", "given"} <= set(words_of())
    without = figures.page(sheet)
    page = figures.page(sheet, "The title", "A note that is far too long for one line. " * 4)
    said = words_of()
    assert "The title" in said
    assert " ".join(said).replace("\n", " ").count("far too long") == 4
    assert page.height > without.height + 60
    assert abs(page.width - without.width) < 20  # the note is broken into lines
    figures.line_chart({"one": ([0, 1], [1, 2]), "two": ([0, 1], [2, 1])}, x_label="step", y_label="loss")
    assert {"one", "two", "step", "loss"} <= set(words_of())


def test_a_chart_shows_what_is_finite_within_its_range(words_of):
    nan, inf = float("nan"), float("inf")
    options = {"x_label": "x", "y_label": "y"}
    assert figures.line_chart({"": ([1, 2, 3], [nan, 0.2, inf])}, **options).width > 700
    figures.line_chart({"": (range(3), [0.01, 0.02, 5.0])}, y_range=(0, 0.1), **options)
    assert "0.10" in words_of()
    assert "5" not in words_of()
    with pytest.raises(UserError, match="no finite point"):
        figures.line_chart({"": ([1], [nan])}, **options)


def test_columns_are_as_many_as_images(rng):
    with pytest.raises(UserError, match="3 images under 2 columns"):
        figures.sheet([("a", rng.random((3, 1, 8, 8), dtype=np.float32))], ["one", "two"])


def test_pictures_side_by_side_and_below_are_whole(rng):
    from PIL import Image

    parts = [rng.integers(0, 255, shape, dtype=np.uint8) for shape in ((4, 9, 3), (7, 5, 3))]
    pictures = [Image.fromarray(part) for part in parts]
    below, beside = figures.stacked(pictures, gap=3), figures.stacked(pictures, gap=2, axis=1)
    assert (below.size, beside.size) == ((9, 14), (16, 7))
    assert places(below, parts[0]) == [(0, 0)]
    assert places(below, parts[1]) == [(7, 0)]
    assert places(beside, parts[1]) == [(0, 11)]


def test_matplotlib_is_left_as_its_user_has_it():
    """Its settings, its backend, its log: a notebook draws on as before."""
    code = """
import logging
import sys

import matplotlib
matplotlib.rcParams.update({"xtick.labelsize": 40, "figure.dpi": 300, "text.color": "green"})
logging.getLogger("matplotlib").setLevel(logging.INFO)
before = matplotlib.rcParams.copy()
from ms_ddpm.pictures import figures
small = figures.line_chart({"": ([0, 1], [0, 1])}, x_label="x", y_label="y").size
assert matplotlib.rcParams.copy() == before
assert logging.getLogger("matplotlib").level == logging.INFO
assert "matplotlib.pyplot" not in sys.modules
print(*small)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    plain = figures.line_chart({"": ([0, 1], [0, 1])}, x_label="x", y_label="y").size
    assert tuple(map(int, done.stdout.split())) == plain


def test_without_a_home_figures_are_drawn_and_nothing_is_said():
    """Where no directory can be written matplotlib makes its list of fonts anew, and would say so."""
    code = """
import sys
from ms_ddpm.pictures import figures
from ms_ddpm.systems.corruption import published
from ms_ddpm.systems.score import pictures
assert not any(name.split(".")[0] in ("matplotlib", "PIL") for name in sys.modules)
figures.line_chart({"": ([0, 1], [0, 1])}, x_label="x", y_label="y")
"""
    nowhere = {"HOME": "/proc/nowhere", "MPLCONFIGDIR": "/proc/nowhere", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=os.environ | nowhere
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
