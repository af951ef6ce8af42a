"""Images from users: any bytes give an upright picture, grey or in colour, or one clear line."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from core import TurnoverError
from core.data.images import FORMATS, MAX_BYTES, MAX_PIXELS, fit_image, open_image, png_bytes, png_pixels

STROKE = np.array([[0, 40, 80, 120], [10, 50, 90, 130], [20, 60, 100, 255]], np.uint8)
ORIENTATION = 0x0112


def encode(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def hollow_png(width: int, height: int) -> bytes:
    """A file of some hundred bytes whose header promises any number of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def pixels(content: bytes, colour: bool = False) -> np.ndarray:
    return np.asarray(open_image(content, "picture", colour))


# What is read


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF"])
def test_grey_images_come_back_as_they_are(form: str) -> None:
    assert np.array_equal(pixels(encode(Image.fromarray(STROKE), form)), STROKE)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_lossy_images_come_back_nearly_as_they_are(form: str) -> None:
    smooth = np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8)
    made = pixels(encode(Image.fromarray(smooth), form, quality=95)).astype(int)
    assert np.abs(made - smooth).max() < 8


def test_colours_become_grey() -> None:
    colours = Image.new("RGB", (2, 1))
    colours.putdata([(255, 0, 0), (255, 255, 255)])
    assert pixels(encode(colours)).tolist() == [[76, 255]]


@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_colours_stay_colours_where_they_are_wanted(form: str) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    assert np.array_equal(pixels(encode(Image.fromarray(photo), form), colour=True), photo)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_file_gives_three_colours_where_they_are_wanted(mode: str) -> None:
    """Grey ones three equal ones; what is transparent lies on white paper."""
    drawn = Image.fromarray(np.full((16, 16), 65_535, np.uint16)) if mode == "I;16" else Image.new("RGB", (16, 16), "white").convert(mode)
    content = encode(drawn, "JPEG" if mode == "CMYK" else "PNG")
    assert pixels(content, colour=True).tolist() == [[[255, 255, 255]] * 16] * 16
    assert pixels(encode(Image.new("RGBA", (1, 1), (255, 0, 0, 51))), colour=True).tolist() == [[[255, 204, 204]]]


def test_sixteen_bits_are_scaled_to_eight() -> None:
    deep = np.array([[0, 256, 40_000, 65_535]], np.uint16)
    assert pixels(encode(Image.fromarray(deep))).tolist() == [[0, 1, 156, 255]]


def test_print_colours_become_grey() -> None:
    ink = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    ink.paste((0, 0, 0, 255), (0, 0, 8, 16))
    made = pixels(encode(ink, "JPEG", quality=95))
    assert made[:, 12:].min() > 240
    assert made[:, :4].max() < 15


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white_paper(mode: str) -> None:
    drawn = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    drawn.putpixel((1, 0), (0, 0, 0, 255))
    if mode == "P":
        content = encode(Image.fromarray(np.array([[0, 1]], np.uint8), "P"), "PNG", transparency=0)
        assert pixels(content)[0, 0] == 255
    else:
        assert pixels(encode(drawn.convert(mode))).tolist() == [[255, 0]]


def test_a_moving_picture_gives_its_first_frame() -> None:
    frames = [Image.new("L", (4, 3), grey) for grey in (200, 20, 90)]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    assert (pixels(content) == 200).all()


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_other_moving_pictures_give_their_first_frame_too(form: str) -> None:
    frames = [Image.new("RGB", (4, 3), (grey,) * 3) for grey in (200, 20, 90)]
    content = encode(frames[0], form, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    assert (pixels(content) == 200).all()


def deep_png(colour_type: int, samples: list[int]) -> bytes:
    """One pixel of 16 bits a sample: grey with alpha (4), RGB (2) or RGBA (6), which Pillow does not write."""
    header = struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0)
    row = b"\0" + struct.pack(f">{len(samples)}H", *samples)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("colour_type", "samples", "seen"),
    [(2, [65_535, 256 * 40, 0], [255, 40, 0]), (4, [256 * 90, 65_535], [90] * 3), (4, [0, 0], [255] * 3), (6, [65_535, 0, 0, 0], [255] * 3)],
)
def test_sixteen_bits_with_colour_or_alpha_are_scaled_too(colour_type: int, samples: list[int], seen: list[int]) -> None:
    assert pixels(deep_png(colour_type, samples), colour=True).tolist() == [[seen]]


def test_each_entry_of_a_palette_can_be_transparent_by_itself() -> None:
    drawn = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    drawn.putpalette([0, 0, 0, 200, 0, 0, 0, 0, 0])
    assert pixels(encode(drawn, transparency=bytes([0, 255, 51])), colour=True).tolist() == [[[255] * 3, [200, 0, 0], [204] * 3]]


def test_a_turned_photograph_from_a_camera_is_put_upright() -> None:
    """A JPEG with the EXIF note that it lies on its side: bright left half becomes the bright upper half."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photo = np.zeros((32, 64), np.uint8)
    photo[:, :32] = 250
    upright = pixels(encode(Image.fromarray(photo), "JPEG", exif=exif, quality=95))
    assert upright.shape == (64, 32)
    assert upright[:24].min() > 230 and upright[40:].max() < 20


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, STROKE),
        (2, np.fliplr(STROKE)),
        (3, np.rot90(STROKE, 2)),
        (4, np.flipud(STROKE)),
        (5, STROKE.T),
        (6, np.rot90(STROKE, 1)),
        (7, np.rot90(STROKE, 2).T),
        (8, np.rot90(STROKE, -1)),
    ],
)
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_turned_photograph_is_put_upright(orientation: int, stored: np.ndarray, form: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encode(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif, lossless=True)
    assert np.array_equal(pixels(content), STROKE)


# What is refused


@pytest.mark.parametrize("cut", [9, 40, 60, 200, 500])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_truncated_image_is_refused_by_name(cut: int, form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)
    with pytest.raises(TurnoverError, match=r"^photo\.x: (the image is damaged .*; save it again|not an image that can be read; give a )"):
        open_image(encode(Image.fromarray(noise), form)[:cut], "photo.x")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\0" * 1000])
def test_a_file_that_is_no_image_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(TurnoverError, match=r"^notes\.txt: .*(give a PNG, JPEG, WEBP, BMP, GIF file|save it again)"):
        open_image(content, "notes.txt")


def test_the_name_of_a_file_says_nothing() -> None:
    """What counts is the content: a text called .png is none, and a JPEG called .png is a JPEG."""
    with pytest.raises(TurnoverError, match=r"^mine\.png: not an image"):
        open_image(b"just words " * 100, "mine.png")
    assert open_image(encode(Image.new("L", (16, 16), 90), "JPEG"), "mine.png").getpixel((0, 0)) == 90


def test_a_note_in_an_image_that_unpacks_to_much_too_much_is_refused() -> None:
    whole = encode(Image.fromarray(STROKE))
    note = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 * 2**20), 9))
    with pytest.raises(TurnoverError, match=r"^noted\.png: the image is damaged .*; save it again"):
        open_image(whole[:33] + note + whole[33:], "noted.png")


@pytest.mark.parametrize("form", ["TIFF", "ICO", "PPM", "TGA"])
def test_other_formats_are_not_even_tried(form: str) -> None:
    assert form not in FORMATS
    with pytest.raises(TurnoverError, match=f"scan: not an image that can be read; give a {', '.join(FORMATS)} file"):
        open_image(encode(Image.new("L", (16, 16)), form), "scan")


@pytest.mark.parametrize(("width", "height"), [(8000, 5001), (12_000, 12_000), (20_000, 20_000), (65_000, 65_000), (2**31 - 1, 1)])
def test_a_small_file_that_promises_too_many_pixels_is_refused_for_its_size(width: int, height: int) -> None:
    """A decompression bomb: told to be too large, not to be damaged, and not expanded."""
    assert width * height > MAX_PIXELS
    with pytest.raises(TurnoverError, match=r"^bomb\.png: .*pixels.*make it smaller"):
        open_image(hollow_png(width, height), "bomb.png")


def test_a_file_of_too_many_bytes_is_refused_for_its_size() -> None:
    with pytest.raises(TurnoverError, match=r"^large\.png: the file has 20 MB, the limit is 20 MB; make it smaller"):
        open_image(encode(Image.fromarray(STROKE)) + bytes(MAX_BYTES), "large.png")


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
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 9, 3), np.uint8))
    content = encode(noise, form) if form in ("BMP", "GIF") else encode(noise, form, exif=exif)
    opened = 0
    for seed in range(150):
        try:
            image = open_image(mangled(content, seed), "mangled", colour)
        except TurnoverError as error:
            assert str(error).startswith("mangled: ")
            assert "\n" not in str(error)
        else:
            assert image.mode == ("RGB" if colour else "L")
            opened += 1
    assert opened < 150


# Made like the training images


@pytest.mark.parametrize("paper", [255, 200])
def test_dark_strokes_on_light_paper_are_inverted(paper: int) -> None:
    drawing = np.full((8, 8), paper, np.uint8)
    drawing[2:6, 3:5] = 10
    fitted = fit_image(Image.fromarray(drawing), 8, 8)
    assert np.array_equal(fitted, 255 - drawing)


def test_bright_strokes_on_black_are_left_as_they_are() -> None:
    drawing = np.zeros((8, 8), np.uint8)
    drawing[2:6, 3:5] = 250
    assert np.array_equal(fit_image(Image.fromarray(drawing), 8, 8), drawing)


@given(width=st.integers(1, 200), height=st.integers(1, 200), tall=st.integers(1, 20), wide=st.integers(1, 20))
def test_any_picture_is_fitted_to_any_shape(width: int, height: int, tall: int, wide: int) -> None:
    fitted = fit_image(Image.new("L", (width, height), 90), tall, wide)
    assert (fitted.shape, fitted.dtype) == ((tall, wide), np.uint8)


@pytest.mark.parametrize(("width", "height"), [(1000, 1), (1, 1000), (5000, 20)])
def test_a_very_thin_picture_is_fitted_too(width: int, height: int) -> None:
    assert fit_image(Image.new("L", (width, height), 90), 8, 8).shape == (8, 8)


def test_a_drawing_on_plain_paper_is_cut_to_its_strokes() -> None:
    """So where on the page it was drawn, and how much paper is around it, does not matter."""
    made = []
    for size, left, top in ((100, 10, 10), (100, 60, 30), (300, 200, 5)):
        page = np.full((size, size), 250, np.uint8)
        page[top : top + 32, left : left + 16] = 5
        page[top : top + 16, left + 4 : left + 12] = 250
        made.append(fit_image(Image.fromarray(page), 8, 8))
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])
    assert made[0].max(1).min() > 100
    assert made[0].max(0).tolist()[:2] == [0, 0]


def test_a_wide_picture_keeps_its_proportions_between_black_bars() -> None:
    fitted = fit_image(Image.new("L", (80, 40), 100), 8, 8)
    assert (fitted[:2] == 0).all()
    assert (fitted[2:6] == 100).all()
    assert (fitted[6:] == 0).all()


def test_a_photograph_of_the_right_size_is_left_as_it_is() -> None:
    """Also one with a bright and plain border, which as a drawing would be inverted and cut."""
    photo = np.full((8, 8, 3), 250, np.uint8)
    photo[2:6, 3:5] = (10, 200, 30)
    assert np.array_equal(fit_image(Image.fromarray(photo), 8, 8), photo)


@pytest.mark.parametrize("turned", [False, True])
def test_a_photograph_fills_the_shape_and_loses_both_ends_of_its_longer_side(turned: bool) -> None:
    photo = np.zeros((40, 80, 3), np.uint8)
    photo[:, :20], photo[:, 20:60], photo[:, 60:] = (255, 0, 0), (0, 200, 100), (0, 0, 255)
    photo = photo.transpose(1, 0, 2) if turned else photo
    assert (fit_image(Image.fromarray(photo), 8, 8) == (0, 200, 100)).all()


@given(width=st.integers(1, 300), height=st.integers(1, 300), tall=st.integers(1, 40), wide=st.integers(1, 40))
def test_any_photograph_is_fitted_to_any_shape(width: int, height: int, tall: int, wide: int) -> None:
    fitted = fit_image(Image.new("RGB", (width, height), (90, 20, 7)), tall, wide)
    assert (fitted.shape, fitted.dtype) == ((tall, wide, 3), np.uint8)
    assert (fitted == (90, 20, 7)).all()


@given(image=arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)) | st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))))
def test_thumbnails_keep_every_pixel(image: np.ndarray) -> None:
    assert np.array_equal(png_pixels(png_bytes(image)), image)
