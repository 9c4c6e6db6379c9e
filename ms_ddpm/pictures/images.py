"""Samples as a person and as other programs read them: PNG grids, GIFs of the denoising, ``samples.npz``.

Images are numpy float arrays (B, C, H, W) in [0, 1], C in {1, 3, 4} (grey, RGB, RGBA). Files are written
beside their place and moved into it, so a reader never meets half a file.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.datasets import LABEL_NAMES, npz_labels
from ..errors import UserError, reason_of
from ..storage import untrusted
from ..storage.files import atomic, write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

JUDGEABLE = 64  # pixels: the smaller side a person needs to judge an image
GREY = 128
GRID_MAX = 100  # of larger sets, sample.py puts the first ones into the grid
CHANNELS = (1, 3, 4)
FRAME_MS, LAST_FRAME_MS = 60, 1500


def to_uint8(images: np.ndarray) -> np.ndarray:
    """(B, C, H, W) float in [0, 1] -> (B, H, W, C) uint8; values outside [0, 1] are clipped, the rest rounded.

    Raises:
        UserError: another shape, not a float array, NaN or infinite values.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] not in CHANNELS or images.size == 0:
        raise UserError(f"images of shape {images.shape}, expected (B, C, H, W) with B >= 1 and C in {{1, 3, 4}}")
    if images.dtype.kind != "f":
        raise UserError(f"images of dtype {images.dtype}, expected float values in [0, 1]")
    bad = int(np.count_nonzero(~np.isfinite(images).all(axis=(1, 2, 3))))
    if bad:
        raise UserError(f"{bad} of {len(images)} images hold NaN or infinite values: the model or the sampler diverged")
    return np.rint(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8).transpose(0, 2, 3, 1)


def enlargement(height: int, width: int) -> int:
    """Whole factor that brings the smaller side to at least 64 pixels: 8 -> 8, 28 -> 3, 32 -> 2, 64 and more -> 1."""
    return max(1, -(-JUDGEABLE // min(height, width)))


def grid(images: np.ndarray, columns: int | None = None, scale: int | None = None, padding: int = 2) -> Image:
    """All images side by side, row by row, on mid-grey, enlarged pixel by pixel.

    Args:
        images: (B, C, H, W) float in [0, 1].
        columns: images in a row; by default what makes the whole picture nearly square.
        scale: whole enlargement factor; ``enlargement(H, W)`` by default.
        padding: gap in pixels beside a 64-pixel tile; it grows with larger tiles. 0 for none.

    Returns:
        PIL image, mode L, RGB or RGBA.

    Raises:
        UserError: as ``to_uint8``, or a layout that is not whole and positive.
    """
    return _picture(to_uint8(images), columns, scale, padding)


def save_grid(
    images: np.ndarray, path: str | Path, columns: int | None = None, scale: int | None = None, padding: int = 2
) -> None:
    """Write ``grid(images, ...)`` to ``path`` as PNG, whole or not at all; parent folders are made.

    Raises:
        UserError: as ``grid``, or ``path`` cannot be written.
    """
    picture = grid(images, columns, scale, padding)
    with atomic(path) as file:
        picture.save(file, format="PNG")


def save_gif(
    chain: np.ndarray,
    path: str | Path,
    columns: int | None = None,
    scale: int | None = None,
    padding: int = 2,
    frames: int = 50,
) -> None:
    """Write the grid being denoised as an endlessly looping GIF whose last frame stays 1.5 s.

    Args:
        chain: (B, S+1, C, H, W) float, from noise to images, shown clipped to [0, 1]. RGBA is laid on mid-grey.
        frames: at most this many states are shown, evenly chosen, the first and the last always among them.

    Raises:
        UserError: as ``grid``, a chain of another shape, fewer than 2 frames, or ``path`` cannot be written.
    """
    chain = np.asarray(chain)
    if chain.ndim != 5 or chain.shape[1] == 0:
        raise UserError(f"chain of shape {chain.shape}, expected (B, S+1, C, H, W)")
    if frames < 2:
        raise UserError(f"a GIF of {frames} frames, expected at least 2: the first state and the last")
    states = chain.shape[1]
    shown = np.rint(np.linspace(0, states - 1, min(states, frames))).astype(int)
    first, *rest = [_gif_frame(grid(chain[:, i], columns, scale, padding)) for i in shown]
    durations = [FRAME_MS] * len(rest) + [LAST_FRAME_MS]
    with atomic(path) as file:
        first.save(file, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0)


def save_npz(
    images: np.ndarray, path: str | Path, labels: np.ndarray | None = None, trained_on: np.ndarray | None = None
) -> None:
    """Write ``arr_0``: uint8 (B, H, W, C), what guided-diffusion's evaluators read. Grey stays (B, H, W, 1).

    ``labels``, the class of each, is written as ``labels``, int32 (B,); ``trained_on``, `origin.Origin.as_array` of
    what the model was trained on, under its own name.

    Layout: https://github.com/openai/guided-diffusion/tree/main/evaluations

    Raises:
        UserError: as ``to_uint8``, or ``path`` cannot be written.
    """
    whole = io.BytesIO()  # zipfile's own clean-up after a full disk prints a traceback
    more = {} if labels is None else {"labels": labels.astype(np.int32)}
    more |= {} if trained_on is None else {"trained_on": trained_on}
    np.savez(whole, arr_0=to_uint8(images), **more)
    write_atomically(path, whole.getbuffer())


def load_npz(path: str | Path) -> np.ndarray:
    """`load_labelled_npz` without the labels."""
    return load_labelled_npz(path)[0]


def load_labelled_npz(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """``arr_0`` of an npz file as written by ``save_npz``: uint8 (B, H, W, C), and its labels (B,) or None.

    Nothing is unpickled.

    Raises:
        UserError: no such file, not an npz file, no ``arr_0``, another dtype or shape.
    """

    def choose(names: list[str]) -> list[str]:
        if "arr_0" not in names:
            raise KeyError(f"it has no arr_0, only {', '.join(names[:10]) or 'nothing'}")
        return [name for name in ("arr_0", *LABEL_NAMES) if name in names]

    try:
        arrays = untrusted.read_npz(Path(path), choose)[1]
        pixels = arrays.pop("arr_0")
    except FileNotFoundError:
        raise UserError(f"no file {path}; expected an npz file with arr_0, as sample.py writes it") from None
    except UserError:
        raise
    except Exception as error:  # of any type, see read_npz
        raise UserError(
            f"cannot read arr_0 from {path}: {reason_of(error)}; expected an npz file as sample.py writes it"
        ) from None
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] not in CHANNELS or pixels.size == 0:
        raise UserError(
            f"arr_0 of {path} is {pixels.dtype} {pixels.shape}, expected uint8 (B, H, W, C), C in {{1, 3, 4}}"
        )
    return pixels, npz_labels(Path(path), arrays, len(pixels))


def _picture(pixels: np.ndarray, columns: int | None, scale: int | None, padding: int) -> Image:
    from PIL import Image

    count, height, width, channels = pixels.shape
    columns = min(count, _nearly_square(count, height, width) if columns is None else columns)
    scale = enlargement(height, width) if scale is None else scale
    for name, value, least in ("columns", columns, 1), ("scale", scale, 1), ("padding", padding, 0):
        if int(value) != value or value < least:
            raise UserError(f"{name} {value} of an image grid, expected a whole number of at least {least}")
    tile_height, tile_width = height * scale, width * scale
    gap = max(padding, round(padding * min(tile_height, tile_width) / JUDGEABLE))
    rows = -(-count // columns)
    shape = (rows * (tile_height + gap) + gap, columns * (tile_width + gap) + gap, channels)
    canvas = np.full(shape, GREY, np.uint8)
    canvas[..., 3:] = 255  # the gaps of an RGBA grid are opaque
    for i, tile in enumerate(pixels):
        top = gap + i // columns * (tile_height + gap)
        left = gap + i % columns * (tile_width + gap)
        canvas[top : top + tile_height, left : left + tile_width] = tile.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(canvas[..., 0] if channels == 1 else canvas)


def _nearly_square(count: int, height: int, width: int) -> int:
    """Columns that make ``count`` tiles of height x width nearly as high as wide, rather wider than high."""
    return int(np.ceil(np.sqrt(count * height / width)))


def _gif_frame(picture: Image) -> Image:
    """GIF knows no half transparency and 256 colours: alpha is laid on grey, colours are chosen and dithered."""
    from PIL import Image

    if picture.mode == "L":
        return picture
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (GREY, GREY, GREY, 255)), picture)
    picture = picture.convert("RGB")
    # Pillow's default palette leaves out rare colours: bands without dithering, bright specks with it.
    palette = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE)
    return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
