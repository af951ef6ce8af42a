"""Image files from users: any bytes give an upright picture, grey or coloured, or a clear line."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays
from PIL import Image

from tests.helpers.source_files import PNG, a_png, chunk
from turnover import TurnoverError
from turnover.data.images import (
    FORMATS,
    MAX_BYTES,
    MAX_PIXELS,
    fit_image,
    image_size,
    open_image,
    png_bytes,
    png_pixels,
)

STROKE = np.array([[0, 40, 80, 120], [10, 50, 90, 130], [20, 60, 100, 255]], np.uint8)
SMOOTH = np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
ORIENTATION = 0x0112


def encode(image: Image.Image | np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def deep_png(colour_type: int, *samples: int) -> bytes:
    """One pixel of 16 bits a sample: RGB (2), grey with alpha (4) or RGBA (6)."""
    return a_png(1, 1, 16, colour_type, b"\0" + struct.pack(f">{len(samples)}H", *samples))


def pixels(content: bytes, colour: bool = False) -> np.ndarray:
    return np.asarray(open_image(content, "picture", colour))


def turned(orientation: int) -> Image.Exif:
    """A camera's note of how a photograph lies."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


# What is read


def drawn(mode: str, *colours: Any) -> Image.Image:
    """One row of pixels."""
    image = Image.new(mode, (len(colours), 1))
    image.putdata(colours)
    return image


PALETTE = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
PALETTE.putpalette([0, 0, 0, 200, 0, 0, 0, 0, 0])
BLACK = drawn("RGBA", (0, 0, 0, 0), (0, 0, 0, 255))
GREY_READ: dict[str, tuple[bytes, list[list[int]]]] = {
    **{form: (encode(STROKE, form), STROKE.tolist()) for form in ("PNG", "BMP", "GIF")},
    "colours": (encode(drawn("RGB", (255, 0, 0), (255, 255, 255))), [[76, 255]]),
    "16 bits": (encode(np.array([[0, 256, 40_000, 65_535]], np.uint16)), [[0, 1, 156, 255]]),
    "RGBA on white paper": (encode(BLACK), [[255, 0]]),
    "LA on white paper": (encode(BLACK.convert("LA")), [[255, 0]]),
    "P on white paper": (encode(PALETTE, transparency=bytes([0, 255, 255])), [[255, 60, 0]]),
}
COLOUR_READ: dict[str, tuple[bytes, list[list[list[int]]]]] = {
    **{form: (encode(NOISE, form), NOISE.tolist()) for form in ("PNG", "BMP")},
    "half transparent": (encode(drawn("RGBA", (255, 0, 0, 51))), [[[255, 204, 204]]]),
    "a palette's own": (
        encode(PALETTE, transparency=bytes([0, 255, 51])),
        [[[255] * 3, [200, 0, 0], [204] * 3]],
    ),
    "deep RGB": (deep_png(2, 65_535, 256 * 40, 0), [[[255, 40, 0]]]),
    "deep grey": (deep_png(4, 256 * 90, 65_535), [[[90] * 3]]),
    "deep grey, transparent": (deep_png(4, 0, 0), [[[255] * 3]]),
    "deep RGBA, transparent": (deep_png(6, 65_535, 0, 0, 0), [[[255] * 3]]),
}


def test_images_come_back_as_they_are_in_grey_or_in_colour() -> None:
    """What is transparent lies on white paper."""
    for name, (content, expected) in GREY_READ.items():
        assert pixels(content).tolist() == expected, name
    for name, (content, seen) in COLOUR_READ.items():
        assert pixels(content, colour=True).tolist() == seen, name


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_file_gives_three_colours_where_they_are_wanted(mode: str) -> None:
    white: Image.Image | np.ndarray = np.full((16, 16), 65_535, np.uint16)
    if mode != "I;16":
        white = Image.new("RGB", (16, 16), "white").convert(mode)
    content = encode(white, "JPEG" if mode == "CMYK" else "PNG")
    assert pixels(content, colour=True).tolist() == [[[255, 255, 255]] * 16] * 16


SPANS = [
    (np.array([[10, 20, 30]], np.uint16), "PNG"),
    (np.array([[10, 20, 30]], np.uint16), "TIFF"),
    (np.array([[60_000, 60_500, 61_000]], np.uint16), "PPM"),
    (np.array([[-5, 0, 5]], np.int32), "TIFF"),
    (np.array([[0.25, 0.5, 0.75]], np.float32), "TIFF"),
    (np.array([[-1e30, 0, 1e30]], np.float32), "TIFF"),
]


@pytest.mark.parametrize(("levels", "form"), SPANS)
def test_levels_of_more_than_8_bits_are_scaled_by_their_own_range(
    levels: np.ndarray, form: str
) -> None:
    assert pixels(encode(levels, form)).tolist() == [[0, 128, 255]]
    assert pixels(encode(levels, form), colour=True).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    flat = np.array([[0.5, np.nan, np.inf]], np.float32)
    assert pixels(encode(flat, "TIFF")).tolist() == [[128, 0, 255]]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_turned_tiff_is_put_upright_and_its_size_is_known(kind: type) -> None:
    for orientation, stored in enumerate(STORED, start=1):
        levels = np.ascontiguousarray(stored).astype(kind)
        content = encode(levels, "TIFF", exif=turned(orientation))
        assert np.array_equal(pixels(content), STROKE), orientation
        assert image_size(content) == STROKE.shape


def test_lossy_images_and_print_colours_come_back_nearly_as_they_are() -> None:
    for form in ("JPEG", "WEBP"):
        assert np.abs(pixels(encode(SMOOTH, form, quality=95)).astype(int) - SMOOTH).max() < 8
    ink = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    ink.paste((0, 0, 0, 255), (0, 0, 8, 16))
    made = pixels(encode(ink, "JPEG", quality=95))
    assert made[:, 12:].min() > 240 and made[:, :4].max() < 15


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_a_moving_picture_gives_its_first_frame(form: str) -> None:
    first, *others = [Image.new("RGB", (4, 3), (grey,) * 3) for grey in (200, 20, 90)]
    options = {"save_all": True, "append_images": others, "duration": 100}
    assert (pixels(encode(first, form, **options, lossless=True)) == 200).all()


STORED = [STROKE, np.fliplr(STROKE), np.rot90(STROKE, 2), np.flipud(STROKE), STROKE.T]
STORED += [np.rot90(STROKE, 1), np.rot90(STROKE, 2).T, np.rot90(STROKE, -1)]


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_turned_photograph_is_put_upright_and_its_size_is_known(form: str) -> None:
    for orientation, stored in enumerate(STORED, start=1):
        exif = turned(orientation)
        content = encode(np.ascontiguousarray(stored), form, exif=exif, lossless=True)
        assert np.array_equal(pixels(content), STROKE), orientation
        assert image_size(content) == STROKE.shape
    assert image_size(b"no image") is None


def test_a_photograph_of_a_camera_is_put_upright() -> None:
    """A JPEG that lies on its side: the bright left half becomes the upper half."""
    photo = np.zeros((32, 64), np.uint8)
    photo[:, :32] = 250
    content = encode(photo, "JPEG", exif=turned(6), quality=95)
    upright = pixels(content)
    assert upright.shape == image_size(content) == (64, 32)
    assert upright[:24].min() > 230 and upright[40:].max() < 20


# What is refused

SIZES = (8000, 5001), (12_000, 12_000), (20_000, 20_000), (65_000, 65_000), (2**31 - 1, 1)
KNOWN = ", ".join(FORMATS)
NONE = f"not an image that can be read; give a {KNOWN} file"
NOTE = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 * 2**20), 9))
WHOLE = encode(STROKE)
SMALL = "pixels, the limit is 40,000,000 in all; make it smaller"
REFUSED: dict[str, tuple[bytes, str]] = {
    **{f"a {form}": (encode(SMOOTH, form), NONE) for form in ("ICO", "PCX", "TGA")},
    **{
        str(content[:9]): (content, NONE)
        for content in (b"", b"hello", b"just words " * 100, b"%PDF-1.7", b"<svg/>", b"\0" * 1000)
    },
    "a beginning": (PNG, ""),
    "a note that unpacks to too much": (WHOLE[:33] + NOTE + WHOLE[33:], "the image is damaged ("),
    "many bytes": (WHOLE + bytes(MAX_BYTES), "the file has 20 MB, the limit is 20 MB; make it"),
    **{
        f"{width} x {height} pixels": (a_png(width, height, 8, 0, bytes(1000)), SMALL)
        for width, height in SIZES
    },
}
"""Bombs among them: told to be too large, not to be damaged, and not expanded."""


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_image_or_too_large_is_refused_by_name(case: str) -> None:
    """What counts is the content, not how the file is called."""
    content, reason = REFUSED[case]
    with pytest.raises(TurnoverError) as raised:
        open_image(content, "mine.png")
    said = str(raised.value)
    assert said.startswith("mine.png: ") and reason in said and "\n" not in said
    assert open_image(encode(SMOOTH, "JPEG"), "mine.png").size == (32, 32)
    assert MAX_PIXELS < 8000 * 5001


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_truncated_image_is_refused_by_name(form: str) -> None:
    reason = r"^photo\.x: (the image is damaged .*; save it again$|not an image that can be read; )"
    for cut in (9, 40, 60, 200, 500):
        with pytest.raises(TurnoverError, match=reason):
            open_image(encode(NOISE[..., 0], form)[:cut], "photo.x")


def mangled(content: bytes, seed: int) -> bytes:
    """The file with some bytes changed, removed or repeated."""
    chance, made = random.Random(seed), bytearray(content)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(made))
        change = chance.randrange(3)
        if change == 0:
            made[place] = chance.randrange(256)
        elif change == 1:
            del made[place : place + chance.randint(1, 9)]
        else:
            made[place:place] = made[place : place + chance.randint(1, 30)]
    return bytes(made)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_whatever_the_bytes_there_is_a_picture_or_a_clear_line(form: str, colour: bool) -> None:
    options = {} if form in ("BMP", "GIF") else {"exif": turned(6)}
    content, opened = encode(NOISE[:12, :9], form, **options), 0
    for seed in range(150):
        try:
            image = open_image(mangled(content, seed), "mangled", colour)
        except TurnoverError as error:
            assert str(error).startswith("mangled: ") and "\n" not in str(error)
        else:
            assert image.mode == ("RGB" if colour else "L")
            opened += 1
    assert opened < 150


# Made like the training images


def test_dark_strokes_on_light_paper_are_inverted_and_bright_ones_on_black_are_not() -> None:
    for paper, ink in ((255, 10), (200, 10), (0, 250)):
        drawing = np.full((8, 8), paper, np.uint8)
        drawing[2:6, 3:5] = ink
        expected = drawing if paper == 0 else 255 - drawing
        assert np.array_equal(fit_image(Image.fromarray(drawing), 8, 8), expected)


SIDES, FEW = some.integers(1, 300), some.integers(1, 40)


@given(width=SIDES, height=SIDES, tall=FEW, wide=FEW)
def test_any_picture_is_fitted_to_any_shape(width: int, height: int, tall: int, wide: int) -> None:
    photo = fit_image(Image.new("RGB", (width, height), (90, 20, 7)), tall, wide)
    assert (photo.shape, photo.dtype) == ((tall, wide, 3), np.uint8)
    assert (photo == (90, 20, 7)).all()
    fitted = fit_image(Image.new("L", (width, height), 90), tall, wide)
    assert (fitted.shape, fitted.dtype) == ((tall, wide), np.uint8)


def test_a_very_thin_picture_is_fitted_too() -> None:
    for size in ((1000, 1), (1, 1000), (5000, 20)):
        assert fit_image(Image.new("L", size, 90), 8, 8).shape == (8, 8)


def test_a_drawing_on_plain_paper_is_cut_to_its_strokes() -> None:
    """So where on the page it was drawn, and how much paper is around it, does not matter."""
    made = []
    for size, left, top in ((100, 10, 10), (100, 60, 30), (300, 200, 5)):
        page = np.full((size, size), 250, np.uint8)
        page[top : top + 32, left : left + 16] = 5
        page[top : top + 16, left + 4 : left + 12] = 250
        made.append(fit_image(Image.fromarray(page), 8, 8))
    assert np.array_equal(made[0], made[1]) and np.array_equal(made[0], made[2])
    assert made[0].max(1).min() > 100
    assert made[0].max(0).tolist()[:2] == [0, 0]


def test_a_wide_picture_keeps_its_proportions_between_black_bars() -> None:
    fitted = fit_image(Image.new("L", (80, 40), 100), 8, 8)
    assert (fitted[2:6] == 100).all() and not fitted[:2].any() and not fitted[6:].any()


def test_a_photograph_of_the_right_size_is_left_as_it_is() -> None:
    """Also one with a bright and plain border, which as a drawing would be inverted and cut."""
    photo = np.full((8, 8, 3), 250, np.uint8)
    photo[2:6, 3:5] = (10, 200, 30)
    assert np.array_equal(fit_image(Image.fromarray(photo), 8, 8), photo)


def test_a_photograph_fills_the_shape_and_loses_both_ends_of_its_longer_side() -> None:
    photo = np.zeros((40, 80, 3), np.uint8)
    photo[:, :20], photo[:, 20:60], photo[:, 60:] = (255, 0, 0), (0, 200, 100), (0, 0, 255)
    for stored in (photo, photo.transpose(1, 0, 2)):
        assert (fit_image(Image.fromarray(stored), 8, 8) == (0, 200, 100)).all()


SHAPES = some.lists(some.integers(1, 12), min_size=2, max_size=2)


@given(arrays(np.uint8, SHAPES.flatmap(lambda size: some.sampled_from([(*size,), (*size, 3)]))))
def test_thumbnails_keep_every_pixel(image: np.ndarray) -> None:
    assert np.array_equal(png_pixels(png_bytes(image)), image)
