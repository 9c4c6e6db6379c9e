"""What a person and other programs read from samples: PNG grids, GIFs, samples.npz."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ms_ddpm.errors import UserError
from ms_ddpm.pictures.images import enlargement, grid, load_npz, save_gif, save_grid, save_npz, to_uint8
from ms_ddpm.storage.files import atomic
from tests.conftest import ROOT


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def levels(*values: float) -> np.ndarray:
    """One constant 1x8x8 image per value."""
    return np.ones((len(values), 1, 8, 8), np.float32) * np.reshape(values, (-1, 1, 1, 1)).astype(np.float32)


def test_importing_needs_no_heavy_package():
    heavy = "mindspore", "torch", "PIL", "sklearn", "scipy", "torch_fidelity"
    code = "import sys, ms_ddpm.pictures.images, ms_ddpm.metrics.evaluation; "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout


def test_to_uint8_rounds_and_clips():
    values = np.array([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 127.4 / 255, 254.6 / 255, 1.0, 1.5], np.float32)
    pixels = to_uint8(values.reshape(1, 1, 2, 4))
    assert pixels.dtype == np.uint8
    assert pixels.ravel().tolist() == [0, 0, 0, 1, 127, 255, 255, 255]


def test_to_uint8_moves_channels_last():
    x = images(2, 3, 4, 5)
    pixels = to_uint8(x)
    assert pixels.shape == (2, 4, 5, 3)
    assert pixels[1, 3, 2, 0] == round(float(x[1, 0, 3, 2]) * 255)


def test_every_8_bit_value_survives_the_float():
    values = np.arange(256, dtype=np.uint8)
    back = to_uint8((values / 255).astype(np.float32).reshape(1, 1, 16, 16))
    assert back.ravel().tolist() == values.tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_diverged_images_are_counted_and_refused(bad):
    x = images(5, 3, 8, 8)
    x[1, 0, 2, 2] = x[4, 2, 0, 0] = bad
    with pytest.raises(UserError, match="2 of 5 images"):
        to_uint8(x)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((8, 8), np.float32), r"\(8, 8\)"),
        (np.zeros((2, 2, 8, 8), np.float32), r"\(2, 2, 8, 8\)"),
        (np.zeros((0, 1, 8, 8), np.float32), r"\(0, 1, 8, 8\)"),
        (np.zeros((2, 1, 8, 8), np.uint8), "uint8"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(x, said):
    with pytest.raises(UserError, match=said):
        to_uint8(x)


def test_small_images_are_enlarged_until_a_person_can_judge_them():
    factors = {size: enlargement(size, size) for size in (1, 8, 28, 32, 63, 64, 65, 256)}
    assert factors == {1: 64, 8: 8, 28: 3, 32: 2, 63: 2, 64: 1, 65: 1, 256: 1}
    assert enlargement(8, 100) == enlargement(100, 8) == 8


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (12, 4, 3), (64, 8, 8)])
def test_grid_is_nearly_square(count, columns, rows):
    picture = grid(images(count, 3, 8, 8), padding=0, scale=1)
    assert picture.size == (columns * 8, rows * 8)


def test_wide_images_stand_in_fewer_columns():
    assert grid(images(16, 1, 8, 32), padding=0, scale=1).size == (2 * 32, 8 * 8)


def test_grid_puts_images_row_by_row_in_enlarged_pixels_on_grey():
    x = images(5, 3, 8, 8)
    picture = np.asarray(grid(x, columns=3))
    tile, gap = 64, 2
    assert picture.shape == (2 * tile + 3 * gap, 3 * tile + 4 * gap, 3)
    pixels = to_uint8(x)
    for i in range(5):
        top, left = gap + i // 3 * (tile + gap), gap + i % 3 * (tile + gap)
        shown = picture[top : top + tile, left : left + tile]
        for offset in (0, 3, 7):
            np.testing.assert_array_equal(shown[offset::8, offset::8], pixels[i], err_msg=f"image {i}")
    assert (picture[:gap] == 128).all()
    assert (picture[:, -gap:] == 128).all()
    assert (picture[gap:, tile + gap : tile + 2 * gap] == 128).all()
    assert (picture[tile + 2 * gap :, 2 * (tile + gap) + gap :] == 128).all(), "the empty sixth place"


@pytest.mark.parametrize(("size", "gap"), [(8, 2), (64, 2), (128, 4), (256, 8)])
def test_gaps_grow_with_the_tiles(size, gap):
    assert grid(images(1, 1, size, size)).width == size * enlargement(size, size) + 2 * gap


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_png_holds_the_grid(tmp_path, channels, mode):
    x = images(4, channels, 8, 8)
    save_grid(x, tmp_path / "new" / "folder" / "grid.png", scale=2)
    with Image.open(tmp_path / "new" / "folder" / "grid.png") as picture:
        assert (picture.format, picture.mode) == ("PNG", mode)
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(grid(x, scale=2)))


def test_gaps_of_rgba_grids_are_opaque():
    picture = np.asarray(grid(np.zeros((1, 4, 8, 8), np.float32)))
    assert picture[0, 0].tolist() == [128, 128, 128, 255]
    assert picture[5, 5].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("layout", [{"columns": 0}, {"scale": 0}, {"padding": -1}, {"scale": 1.5}])
def test_impossible_layouts_are_refused(layout):
    with pytest.raises(UserError, match=next(iter(layout))):
        grid(images(4, 1, 8, 8), **layout)


def frames_of(path) -> list[tuple[int, int]]:
    """(grey level of the first image, milliseconds) of every frame."""
    with Image.open(path) as gif:
        assert gif.format == "GIF"
        assert gif.info["loop"] == 0, "loops for ever"
        found = []
        for i in range(gif.n_frames):
            gif.seek(i)
            found.append((gif.convert("L").getpixel((10, 10)), gif.info["duration"]))
        return found


def test_gif_shows_first_and_last_of_a_long_chain_in_50_frames(tmp_path):
    states = 201
    chain = np.repeat(levels(*np.linspace(0, 200 / 255, states))[None], 2, axis=0)
    save_gif(chain, tmp_path / "a" / "chain.gif")
    frames = frames_of(tmp_path / "a" / "chain.gif")
    shown = [level for level, _ in frames]
    assert len(frames) == 50
    assert (shown[0], shown[-1]) == (0, 200)
    assert {later - earlier for earlier, later in itertools.pairwise(shown)} == {4, 5}, shown


def test_gif_of_a_short_chain_shows_every_state_and_holds_the_last(tmp_path):
    chain = levels(0.0, 0.2, 0.4, 1.0)[None]
    save_gif(chain, tmp_path / "chain.gif")
    assert frames_of(tmp_path / "chain.gif") == [(0, 60), (51, 60), (102, 60), (255, 1500)]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gif_takes_every_kind_of_image(tmp_path, channels):
    save_gif(images(2, 5, channels, 8, 8), tmp_path / "chain.gif")
    with Image.open(tmp_path / "chain.gif") as gif:
        assert (gif.n_frames, gif.size) == (5, (134, 68))


def test_gif_keeps_smooth_colours_with_256(tmp_path):
    """Neither bands (8x8 averages off by 2 levels) nor specks (pixels off by 125), as other palettes make them."""
    rng = np.random.default_rng(1)
    ramp = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32), (64, 64))
    x = np.stack([ramp.T, ramp, np.full((64, 64), 0.3)]) * rng.random((12, 3, 1, 1))
    chain = np.stack([x[..., ::-1], x], axis=1)
    save_gif(chain, tmp_path / "chain.gif", padding=0)
    with Image.open(tmp_path / "chain.gif") as gif:
        for i in range(2):
            gif.seek(i)
            shown = np.asarray(gif.convert("RGB"), np.float64)
            error = shown - np.asarray(grid(chain[:, i], padding=0), np.float64)
            bands = np.abs(error.reshape(24, 8, 32, 8, 3).mean(axis=(1, 3))).mean()
            specks = np.abs(error).max()
            assert bands < 0.8, f"frame {i}: {bands:.2f} levels"
            assert specks < 60, f"frame {i}: {specks} levels"


def test_a_chain_without_states_axis_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"\(4, 1, 8, 8\)"):
        save_gif(images(4, 1, 8, 8), tmp_path / "chain.gif")


@pytest.mark.parametrize("channels", [1, 3])
def test_npz_holds_arr_0_as_the_evaluators_read_it(tmp_path, channels):
    x = images(6, channels, 8, 10)
    save_npz(x, tmp_path / "out" / "samples.npz")
    with np.load(tmp_path / "out" / "samples.npz", allow_pickle=False) as archive:
        assert archive.files == ["arr_0"]
        assert (archive["arr_0"].dtype, archive["arr_0"].shape) == (np.uint8, (6, 8, 10, channels))
    np.testing.assert_array_equal(load_npz(tmp_path / "out" / "samples.npz"), to_uint8(x))


def write_broken(kind: str, path: Path) -> None:
    good = to_uint8(images(3, 1, 8, 8))
    if kind == "text":
        path.write_text("no zip\nat all")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "half":
        np.savez(path, arr_0=good)
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "flipped":
        np.savez(path, arr_0=good)
        raw = bytearray(path.read_bytes())
        raw[250] ^= 255
        path.write_bytes(raw)
    elif kind == "encrypted":
        np.savez(path, arr_0=good)
        raw = bytearray(path.read_bytes())
        raw[6] |= 1
        raw[raw.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(raw)
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, good)
    elif kind == "other name":
        np.savez(path, images=good)
    elif kind == "pickle":
        np.savez(path, arr_0=np.array([{"a": 1}], dtype=object))
    elif kind == "float":
        np.savez(path, arr_0=good / 255)
    elif kind == "NCHW":
        np.savez(path, arr_0=good.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "text",
        "empty",
        "folder",
        "half",
        "flipped",
        "encrypted",
        "npy",
        "other name",
        "pickle",
        "float",
        "NCHW",
    ],
)
def test_broken_npz_is_one_line_for_the_user(tmp_path, kind):
    path = tmp_path / "samples.npz"
    write_broken(kind, path)
    with pytest.raises(UserError) as refused:
        load_npz(path)
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    assert "expected" in message


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "samples.npz"
    path.write_bytes(b"old")

    def fail_midway():
        with atomic(path) as file:
            file.write(b"new")
            file.flush()
            raise RuntimeError(f"midway, {path.read_bytes()} visible")

    with pytest.raises(RuntimeError, match="midway, b'old' visible"):
        fail_midway()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["samples.npz"]


def test_a_whole_write_replaces_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    for seed in (0, 1):
        save_grid(images(1, 1, 8, 8, seed=seed), tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(grid(images(1, 1, 8, 8, seed=1))))
    assert [p.name for p in tmp_path.iterdir()] == ["grid.png"]


@pytest.mark.parametrize("place", ["a folder", "under a file"])
def test_a_place_that_cannot_be_written_is_the_users_error(tmp_path, place):
    (tmp_path / "file").write_text("here")
    path = tmp_path if place == "a folder" else tmp_path / "file" / "grid.png"
    with pytest.raises(UserError, match="cannot write"):
        save_grid(images(1, 1, 8, 8), path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert not list(tmp_path.parent.glob(".*.tmp"))
