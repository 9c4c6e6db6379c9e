"""scripts/explain.py: the operations are what their names say, every page is drawn, bad input is one line."""

import numpy as np
import pytest

from ms_ddpm.errors import UserError
from tests.drawn import places
from tests.processes import script


@pytest.fixture
def image(rng):
    return rng.random((1, 9, 12), dtype=np.float32)


def test_the_operations_are_pytorchs(mindspore, rng):
    import torch
    from torch.nn import functional as F

    from ms_ddpm.systems.corruption import explain

    x = rng.standard_normal((3, 8, 10)).astype(np.float32)
    each = torch.tensor(x)[:, None]
    kernel = rng.standard_normal((3, 3)).astype(np.float32)
    weight = torch.tensor(kernel)[None, None]
    pairs = {
        "convolution": (explain.convolve(x, kernel, 0.5), F.conv2d(each, weight, torch.tensor([0.5]))),
        "padded": (explain.convolve(x, kernel, padding=1), F.conv2d(each, weight, padding=1)),
        "max": (explain.pool(x, 2, "max"), F.max_pool2d(each, 2)),
        "average": (explain.pool(x, 4, "average"), F.avg_pool2d(each, 4)),
        "relu": (explain.activate(x, "ReLU"), F.relu(each)),
        "leaky": (explain.activate(x, "LeakyReLU(0.2)"), F.leaky_relu(each, 0.2)),
        "silu": (explain.activate(x, "SiLU"), F.silu(each)),
        "nearest": (explain.upsample(x, "nearest"), F.interpolate(each, scale_factor=2)),
        "bilinear": (explain.upsample(x, "bilinear"), F.interpolate(each, scale_factor=2, mode="bilinear")),
    }
    for name, (ours, theirs) in pairs.items():
        assert ours.shape == theirs[:, 0].shape, name
        assert np.abs(ours - theirs[:, 0].numpy()).max() < 1e-5, name


def test_relu_of_a_hundredth_in_pytorch_does_not_leak():
    """What the activation page says of the corruption article's nn.ReLU(0.01)."""
    import torch

    assert torch.nn.ReLU(0.01).inplace
    assert float(torch.nn.ReLU(0.01)(torch.tensor([-1.0]))) == 0


def test_random_kernels_start_as_pytorchs_do(rng):
    from ms_ddpm.systems.corruption.explain import random_kernel

    drawn = [random_kernel(2, rng) for _ in range(500)]
    kernels = np.stack([kernel for kernel, _ in drawn])
    assert 0.49 < np.abs(kernels).max() <= 0.5
    assert kernels.std() == pytest.approx(0.5 / 3**0.5, rel=0.05)
    assert 0.48 < max(abs(bias) for _, bias in drawn) <= 0.5


@pytest.mark.parametrize("shape", [(1, 9, 12), (3, 8, 8)])
def test_every_page_is_drawn_of_grey_and_colour_images_of_any_size(mindspore, rng, tmp_path, shape):
    from PIL import Image

    from ms_ddpm.systems.corruption.explain import PAGES, write_pages

    paths = write_pages(rng.random(shape, dtype=np.float32), tmp_path)
    assert [p.stem for p in paths] == [*PAGES, "overview"]
    sizes = []
    for path in paths:
        with Image.open(path) as picture:
            sizes.append(picture.size)
            assert len(picture.getcolors(1 << 24)) > 30
    assert sizes[-1][1] > sum(height for _, height in sizes[:-1])


@pytest.mark.parametrize("shape", [(1, 9, 12), (3, 14, 8)])
def test_panels_show_what_the_operations_gave_pixel_by_pixel(mindspore, rng, shape):
    from ms_ddpm.pictures import figures
    from ms_ddpm.systems.corruption import explain

    image = rng.random(shape, dtype=np.float32)
    picture = explain.pooling(image)
    scale = round(explain.SIDE / max(shape))
    for made in (image, *(explain.pool(image, size, kind) for kind in ("max", "average") for size in (2, 4))):
        tile = figures.opaque(made[None])[0].repeat(scale, axis=0).repeat(scale, axis=1)
        assert len(places(picture, tile)) == 1, made.shape


def test_red_is_above_0_and_blue_below_and_0_nearly_white(mindspore):
    from ms_ddpm.systems.corruption import explain

    edge = np.zeros((1, 8, 8), np.float32)
    edge[:, :, 4:] = 1
    scale, counts = round(explain.SIDE / 6), []
    for image in (edge, 1 - edge):
        result = explain.convolve(image, explain.SOBEL)  # 6x6, not 0 in two columns
        page = np.asarray(explain._page("pooling", [explain.Panel(result, "", 1.0)], 1)).astype(int)
        red, blue, pale = page[..., 0] - page[..., 2] > 100, page[..., 2] - page[..., 0] > 100, (page >= 244).all(2)
        counts.append((int(red.sum()), int(blue.sum())))
        assert pale.sum() > page[..., 0].size / 2
    assert counts == [(12 * scale**2, 0), (0, 12 * scale**2)]


def test_every_panel_has_its_caption_and_every_page_its_words(mindspore, words_of, image):
    from ms_ddpm.systems.corruption import explain

    for name, draw in explain.PAGES.items():
        draw(image, 0)
        said = " ".join(words_of()).replace("\n", " ")
        expected = list(explain.WORDS[name]) if name in explain.WORDS else ["The kinds of noise"]
        expected += {
            "convolution": [*explain.KERNELS, "one random 2x2 8x11", "-.25"],
            "kernel_sizes": ["the image 9x12", "random 5x5 5x8", "mean of 3x3 7x10"],
            "pooling": ["max of 2x2 4x6", "average of 4x4 2x3", "its edges 7x10"],
            "activation": [*explain.ACTIVATIONS],
            "upsampling": ["nearest, from the half 8x12", "image less nearest"],
            "noise": ["salt and pepper", "amount 0.75"],
        }[name]
        assert [words for words in expected if words not in said] == [], name


def test_a_black_image_is_drawn_too(mindspore, tmp_path):
    from ms_ddpm.systems.corruption.explain import write_pages

    assert len(write_pages(np.zeros((1, 8, 8), np.float32), tmp_path, ["pooling", "activation"])) == 3


def test_an_image_too_small_and_an_unknown_page_are_refused(image, tmp_path):
    from ms_ddpm.systems.corruption.explain import write_pages

    with pytest.raises(UserError, match="sides of at least 8"):
        write_pages(image[:, :7], tmp_path)
    with pytest.raises(UserError, match="'pools', expected one of: convolution"):
        write_pages(image, tmp_path, ["pools"])
    assert not list(tmp_path.iterdir())


def explain(*args):
    return script("explain", *args)


def test_the_script_writes_what_it_names(tmp_path):
    done = explain("--dataset", "digits", "--index", 5, "--page", "pooling", "--output_dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    written = [tmp_path / "out" / name for name in ("pooling.png", "overview.png")]
    assert done.stdout.splitlines() == [str(path) for path in written]
    assert all(path.exists() for path in written)


def test_the_script_knows_the_pages_of_the_library():
    from ms_ddpm.cli import explain as script
    from ms_ddpm.systems.corruption.explain import PAGES

    assert tuple(PAGES) == script.PAGES
    assert all(page in script.__doc__ for page in PAGES)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--index", "1797"), "--index is 1797, but digits28 has 1797 images"),
        (("--index", "-1"), "--index is -1, expected at least 0"),
        (("--image_size", "7"), "--image_size is 7, expected at least 8"),
        (("--channels", "3"), "channels is 3"),
        (("--dataset", "/nowhere"), "does not exist"),
        (("--page", "pools"), "invalid choice"),
    ],
)
def test_bad_input_to_the_script_is_one_line(args, words, tmp_path):
    import contextlib
    import io

    from ms_ddpm import cli
    from ms_ddpm.cli import explain as script

    said = io.StringIO()
    with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as stopped:
        cli.run(script.main, [*args, "--output_dir", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert words in said.getvalue()
    assert said.getvalue().startswith("error: ")
    assert len(said.getvalue().strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
