"""Transparent pixels: what lies hidden under alpha 0 stays hidden, of every type of file, to the exact value.

A full-depth reading of 16 bits is here too: both come from files written byte by byte, so that no library is believed.
"""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ms_ddpm import colours, config
from ms_ddpm.data import Batches, open_images
from ms_ddpm.errors import UserError

PINK, HIDDEN = "#ff8040", (10, 200, 90)
PINK_VALUES = (255, 128, 64)


def png(values, *, depth=8, key=None, palette=None, alphas=None):
    """A PNG of values (H, W, C): C 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; with ``palette`` C 1 are its numbers."""
    values = np.asarray(values)
    height, width, bands = values.shape
    colour = 3 if palette else {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    if depth == 16:
        rows = values.reshape(height, -1).astype(">u2")
    elif depth == 8:
        rows = values.reshape(height, -1).astype(np.uint8)
    else:
        bits = np.unpackbits(values.astype(np.uint8).reshape(height, width, 1), axis=2)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(height, -1), axis=1)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    parts += [chunk(b"PLTE", bytes(palette))] if palette else []
    parts += [chunk(b"tRNS", bytes(alphas))] if alphas else []
    parts += [chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))] if key else []
    parts += [chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff16(values, order="<", extra=None):
    """An uncompressed TIFF of 16 bits a value, (H, W, 3 or 4); ``extra`` 2: the fourth is alpha."""
    height, width, bands = np.shape(values)
    pixels = np.asarray(values).astype(f"{order}u2").tobytes()
    bits = 8 + len(pixels)
    tags = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, bands, bits), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 8),
        (277, 3, 1, bands), (278, 3, 1, height), (279, 4, 1, len(pixels)),
    ] + ([(338, 3, 1, extra)] if extra else [])  # fmt: skip
    body = b""
    for number, kind, count, value in tags:
        packed = struct.pack(f"{order}HH", value, 0) if (kind, count) == (3, 1) else struct.pack(f"{order}I", value)
        body += struct.pack(f"{order}HHI", number, kind, count) + packed
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, bits + 2 * bands)
    sizes = struct.pack(f"{order}{bands}H", *[16] * bands)
    return head + pixels + sizes + struct.pack(f"{order}H", len(tags)) + body + bytes(4)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def row(*pixels):
    return np.array([pixels])


RGBA = row((*HIDDEN, 0), (*HIDDEN, 255), (*HIDDEN, 100))  # hidden, opaque, and something between
GREY_ALPHA = row((70, 0), (70, 255), (70, 100))
RGBA_IMAGE = Image.fromarray(RGBA.astype(np.uint8))


def seen(alpha, own, behind):
    return [(c * alpha + b * (255 - alpha) + 127) // 255 for c, b in zip(own, behind, strict=True)]


RGB_EXPECTED = [list(PINK_VALUES), list(HIDDEN), seen(100, HIDDEN, PINK_VALUES)]
GREY_EXPECTED = [list(PINK_VALUES), [70] * 3, seen(100, [70] * 3, PINK_VALUES)]
KEYED = [list(PINK_VALUES), list(HIDDEN), list(PINK_VALUES)]
FILES = {  # name -> (bytes, what is seen of its three pixels before PINK)
    "rgba.png": (png(RGBA), RGB_EXPECTED),
    "rgba.webp": (encoded(RGBA_IMAGE, "WEBP", lossless=True, exact=True), RGB_EXPECTED),
    "rgba.tif": (encoded(RGBA_IMAGE, "TIFF"), RGB_EXPECTED),
    "rgba 16 bit.png": (png(RGBA * 257, depth=16), RGB_EXPECTED),
    "rgba 16 bit.tif": (tiff16(RGBA * 257, extra=2), RGB_EXPECTED),
    "grey and alpha.png": (png(GREY_ALPHA), GREY_EXPECTED),
    "grey and alpha.tif": (encoded(Image.fromarray(GREY_ALPHA.astype(np.uint8), "LA"), "TIFF"), GREY_EXPECTED),
    "grey and alpha 16 bit.png": (png(GREY_ALPHA * 257, depth=16), GREY_EXPECTED),
    "palette.png": (png(row([0], [1], [2]), palette=HIDDEN * 3, alphas=[0, 255, 100]), RGB_EXPECTED),
    "palette.gif.png": (
        encoded(Image.fromarray(row(0, 1, 0).astype(np.uint8), "P"), "GIF", transparency=0), None,
    ),
    "rgb, a colour.png": (png(row((9, 9, 9), HIDDEN, (9, 9, 9)), key=(9, 9, 9)), KEYED),
    "rgb 16 bit, a colour.png": (
        png(row((900, 901, 902), [c * 257 for c in HIDDEN], (900, 901, 902)), depth=16, key=(900, 901, 902)), KEYED,
    ),
    "grey, a level.png": (png(row([9], [70], [9]), key=[9]), [list(PINK_VALUES), [70] * 3, list(PINK_VALUES)]),
    "grey 16 bit, a level.png": (
        png(row([900], [70 * 257], [900]), depth=16, key=[900]), [list(PINK_VALUES), [70] * 3, list(PINK_VALUES)],
    ),
    "grey 2 bit, a level.png": (
        png(row([1], [2], [1]), depth=2, key=[1]), [list(PINK_VALUES), [170] * 3, list(PINK_VALUES)],
    ),
    "grey 4 bit, a level.png": (
        png(row([3], [4], [3]), depth=4, key=[3]), [list(PINK_VALUES), [68] * 3, list(PINK_VALUES)],
    ),
    "1 bit, a level.png": (
        png(row([1], [0], [1]), depth=1, key=[1]), [list(PINK_VALUES), [0] * 3, list(PINK_VALUES)],
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("full_depth", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_hidden_colours_do_not_become_the_image(tmp_path, name, full_depth):
    content, expected = FILES[name]
    (tmp_path / name).write_bytes(content)
    options = {"image_size": (1, 3), "full_depth": full_depth}
    source = open_images(tmp_path, channels=3, background=PINK, **options)
    found = source.get(0)[:, 0].T
    if expected is None:  # a palette of greys of Pillow's making: what is transparent counts
        assert np.rint(found[[0, 2]] * (255 if full_depth else 1)).tolist() == [list(PINK_VALUES)] * 2
        return
    assert found.dtype == (np.float32 if full_depth else np.uint8)
    if full_depth:
        np.testing.assert_allclose(found * 255, expected, atol=0.51)  # `expected` is rounded, this is not
        assert np.rint(found[:2] * 255).tolist() == expected[:2]
    else:
        assert found.tolist() == expected
    white = open_images(tmp_path, channels=3, **options).get(0)[:, 0].T
    assert white[0].tolist() == [1.0 if full_depth else 255] * 3
    grey = open_images(tmp_path, channels=1, **options).get(0)[0, 0]
    assert grey[0] == (1.0 if full_depth else 255)
    kept = open_images(tmp_path, channels=4, background=PINK, **options).get(0)
    alphas = np.rint(kept[3, 0] * (255 if full_depth else 1)).tolist()
    assert alphas == ([0, 255, 100] if expected in (RGB_EXPECTED, GREY_EXPECTED) else [0, 255, 0])


@pytest.mark.parametrize("full_depth", [False, True])
def test_what_is_hidden_does_not_shine_through_when_images_are_scaled(tmp_path, full_depth):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4], pixels[:, 4:] = (0, 255, 0, 0), (200, 100, 50, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    options = {"image_size": (2, 2), "full_depth": full_depth}
    scale = 255 if full_depth else 1
    found = open_images(tmp_path, channels=3, background="black", **options).get(0) * scale
    np.testing.assert_allclose(found[1] * 2, found[0], atol=1.1)  # a darker orange, but no green
    kept = open_images(tmp_path, channels=4, **options).get(0) * scale
    np.testing.assert_allclose(kept[:3, :, 1].T, [[200, 100, 50]] * 2, atol=1.1)
    assert 0 < kept[3, 0, 0] < kept[3, 0, 1] < 256


@pytest.mark.parametrize("word", ["white", "BLACK", " teal ", "#012abC"])
def test_a_background_is_a_name_or_hexadecimal(word):
    parsed = {"white": (255, 255, 255), "black": (0, 0, 0), "teal": (0, 128, 128), "#012abc": (1, 42, 188)}
    assert colours.parse(word) == parsed[word.strip().lower()]
    assert config.read_value("background", word) == word.strip()


@pytest.mark.parametrize("word", ["whit", "#fff", "012abc", "#1234567", "", 3, None, "rgb(1,2,3)"])
def test_another_background_is_one_line(word, tmp_path):
    with pytest.raises(UserError, match=r"background is .*expected a colour: white, black.*'#rrggbb' \(quoted in YAML"):
        config.read_value("background", word)
    if isinstance(word, str):
        with pytest.raises(UserError, match=r"background is .*expected a colour"):
            open_images("digits", image_size=(8, 8), channels=1, background=word)


# ---- 16 bits -----------------------------------------------------------------------------------------------------

DEEP = np.array([0, 1, 255, 256, 257, 30_000, 65_534, 65_535])


def deep(rng, bands):
    values = rng.integers(0, 65536, (3, 8, bands))
    values[0, :, 0] = DEEP
    return values


@pytest.mark.parametrize(("kind", "bands"), [("png", 1), ("png", 3), ("tif", 1), ("tif", 3), ("MM tif", 3)])
def test_files_of_16_bits_keep_every_bit_where_asked_for(tmp_path, rng, kind, bands):
    values = deep(rng, bands)
    if kind == "png":
        content = png(values, depth=16)
    elif bands == 1:
        content = encoded(Image.fromarray(values[..., 0].astype(np.uint16)), "TIFF")
    else:
        content = tiff16(values, ">" if kind == "MM tif" else "<")
    (tmp_path / f"a.{kind[-3:]}").write_bytes(content)
    source = open_images(tmp_path, image_size=(3, 8), channels=bands, full_depth=True)
    assert (source.dtype, source.get(0).dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(source.get(0), (values.transpose(2, 0, 1) / 65535).astype(np.float32))
    batch = Batches(source, 2, seed=0, count=1)[0]
    np.testing.assert_array_equal(batch[0], source.get(0))
    rounded = open_images(tmp_path, image_size=(3, 8), channels=bands)
    assert rounded.dtype == np.uint8
    assert np.abs(rounded.get(0) - values.transpose(2, 0, 1) / 257).max() < 1


@pytest.mark.parametrize("bands", [2, 4])
def test_alpha_of_16_bits_too(tmp_path, rng, bands):
    values = deep(rng, bands)
    (tmp_path / "a.png").write_bytes(png(values, depth=16))
    found = open_images(tmp_path, image_size=(3, 8), channels=4, full_depth=True).get(0)
    whole = values if bands == 4 else values[..., [0, 0, 0, 1]]
    np.testing.assert_array_equal(found, (whole.transpose(2, 0, 1) / 65535).astype(np.float32))
    colour, alpha = whole[..., :3] / 65535, whole[..., 3:] / 65535
    found = open_images(tmp_path, image_size=(3, 8), channels=3, full_depth=True).get(0)
    np.testing.assert_allclose(found, (colour * alpha + 1 - alpha).transpose(2, 0, 1), atol=2e-7)


def test_compressed_turned_and_8_bit_files_at_full_depth(tmp_path, rng):
    values = deep(rng, 1)[..., 0].astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 270 degrees
    Image.fromarray(values).save(tmp_path / "a.tif", compression="tiff_lzw")
    turned = Image.fromarray(rng.integers(0, 256, (3, 8, 3), dtype=np.uint8))
    turned.save(tmp_path / "b.png", exif=exif)
    (tmp_path / "c.png").write_bytes(png(deep(rng, 3), depth=16)[:60])
    found = open_images(tmp_path, image_size=(3, 8), channels=1, full_depth=True)
    np.testing.assert_array_equal(found.get(0)[0], (values / 65535).astype(np.float32))
    upright = open_images(tmp_path, image_size=(8, 3), channels=3, full_depth=True)
    expected = np.asarray(turned.transpose(Image.ROTATE_270)).transpose(2, 0, 1)
    np.testing.assert_array_equal(upright.get(1), (expected / 255).astype(np.float32))
    upright.get(2)
    assert list(upright.skipped) == [str(tmp_path / "c.png")]


def test_scaling_at_full_depth_is_not_rounded_to_bytes(tmp_path, rng):
    values = rng.integers(0, 65536, (9, 12), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = open_images(tmp_path, image_size=(3, 4), channels=1, full_depth=True).get(0)[0]
    expected = Image.fromarray((values / 65535).astype(np.float32)).resize((4, 3), Image.BILINEAR)
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-7)
    assert np.abs(found * 255 - np.rint(found * 255)).max() > 0.1


def test_images_at_full_depth_are_kept_as_floats_where_they_fit(tmp_path, rng, monkeypatch):
    from ms_ddpm import data
    from ms_ddpm.data import reading as _files

    for number in range(2):
        Image.fromarray(rng.integers(0, 65536, (4, 4), dtype=np.uint16)).save(tmp_path / f"{number}.png")
    load, calls = _files.load_image, []
    monkeypatch.setattr(_files, "load_image", lambda *a, **k: calls.append(a) or load(*a, **k))
    for room, times in ((2 * 4 * 16, 1), (2 * 4 * 16 - 1, 3)):
        monkeypatch.setattr(data, "CACHE_BYTES", room)
        source = open_images(tmp_path, image_size=(4, 4), channels=1, full_depth=True)
        calls.clear()
        assert all((source.get(0) == source.get(0)).all() for _ in range(1))
        source.get(0)
        assert len(calls) == times
