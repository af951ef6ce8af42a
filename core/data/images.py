"""Images from users, opened with care since a file can be anything; and thumbnails.

A file is rejected before it is decoded if it is large, and before it is expanded if its header
promises too many pixels (a decompression bomb). Other images are turned upright by their EXIF
orientation and reduced to grey, or to RGB for a model of colour images. Levels of more than 8 bits
(16-bit and float images) are scaled by the image's own range. Pixels are uint8, `(H, W)` grey or
`(H, W, 3)` RGB.
"""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from turnover.errors import TurnoverError

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 40_000_000
_PLAIN = 8
"""A border whose grey levels vary less than this (standard deviation) is a plain background, and an
image whose levels lie within it is blank.
"""

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k"),
    "AVIF": (".avif",),
}
"""What is read, and the ends of its file names: Pillow's formats, without those that it hands to
another program (EPS) or knows by no signature (TGA), and those that hold no single image.
"""
IMAGE_ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)


def open_image(content: bytes, name: str, colour: bool = False) -> Image.Image:
    """The first frame of an image file, upright, as 8-bit grey or RGB.

    Raises:
        TurnoverError: if the file is too large, has too many pixels, or is not a whole image of a
            known format.
    """
    try:
        return reduced(_decoded(content, name, tuple(FORMATS)), colour)
    except ValueError as error:  # colours that Pillow cannot convert, such as LAB
        if isinstance(error, TurnoverError):
            raise
        raise TurnoverError(f"{name}: {error}; save it as RGB or grey") from None


def reduced(image: Image.Image, colour: bool) -> Image.Image:
    """An image upright, as 8-bit grey or RGB, on white where it is transparent.

    Raises:
        ValueError: for colours that Pillow cannot convert.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        upright = _eight_bits(upright)
    if "A" in upright.getbands() or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return upright.convert("RGB" if colour else "L")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Integer or float levels as 0 to 255: the image's lowest level is black, its highest white.

    One level throughout has no range, and is scaled by that of its kind: 16 bits, or 0 to 1.
    """
    levels = np.array(image, np.float64)  # changed in place, since it can fill the memory
    finite = np.isfinite(levels)
    low = levels.min(where=finite, initial=np.inf)
    high = levels.max(where=finite, initial=-np.inf)
    if low >= high:
        low, high = 0.0, 1.0 if image.mode.startswith("F") else 65_535.0
    np.nan_to_num(levels, copy=False, nan=low, posinf=high, neginf=low)
    levels -= low
    levels *= 255 / (high - low)
    return Image.fromarray(np.rint(levels.clip(0, 255, out=levels), out=levels).astype(np.uint8))


def image_size(content: bytes) -> tuple[int, int] | None:
    """Height and width of an image file from its header, upright; None for other content."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=_readable(tuple(FORMATS)))
            turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            turned = turned and image.format != "TIFF"  # whose size Pillow gives upright
    except (*_DAMAGED, Image.DecompressionBombError):
        return None
    return (image.width, image.height) if turned else (image.height, image.width)


_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
)
"""What Pillow's decoders raise for damaged files."""


def _readable(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the formats that this Pillow reads; AVIF came late."""
    Image.init()
    return tuple(form for form in formats if form in Image.OPEN)


def _decoded(content: bytes, name: str, formats: tuple[str, ...]) -> Image.Image:
    """The image as it is in the file. Errors as `open_image`."""
    if len(content) > MAX_BYTES:
        raise TurnoverError(
            f"{name}: the file has {len(content) / 2**20:.0f} MB, the limit is {MAX_BYTES // 2**20}"
            " MB; make it smaller"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content), formats=_readable(formats))
            if image.width * image.height > MAX_PIXELS:
                raise TurnoverError(
                    f"{name}: {image.width} x {image.height} pixels, the limit is {MAX_PIXELS:,} in"
                    " all; make it smaller"
                )
            image.load()
    except UnidentifiedImageError:
        raise TurnoverError(
            f"{name}: not an image that can be read; give a {', '.join(formats)} file"
        ) from None
    except Image.DecompressionBombError:
        raise TurnoverError(
            f"{name}: too many pixels, the limit is {MAX_PIXELS:,} in all; make it smaller"
        ) from None
    except TurnoverError:
        raise
    except _DAMAGED as error:
        raise TurnoverError(f"{name}: the image is damaged ({error}); save it again") from None
    return image


def fit_image(image: Image.Image, height: int, width: int) -> np.ndarray:
    """A user's image in the form of the training images, uint8: a grey one `(H, W)` as a drawing,
    an RGB one `(H, W, 3)` as a photograph.

    A photograph fills the shape, so both ends of its longer side are cropped. A drawing is padded,
    bright strokes on black; one on a plain background is first cropped to its strokes, unless it
    already has the right size.
    """
    if image.mode == "RGB":
        return np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.BOX))
    return _fit_drawing(image, height, width)


def _fit_drawing(image: Image.Image, height: int, width: int) -> np.ndarray:
    pixels = np.asarray(image)
    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    if border.mean() > 127:
        image = ImageOps.invert(image)
    strokes = image.point(lambda level: 255 * (level > 127)).getbbox()
    if pixels.shape != (height, width) and border.std() < _PLAIN and strokes:
        image = image.crop(strokes)
    # Pillow's own pad fails on images so thin that a side would shrink to nothing.
    shrink = min(width / image.width, height / image.height)
    inside = image.resize(
        (max(1, round(image.width * shrink)), max(1, round(image.height * shrink))),
        Image.Resampling.BOX,
    )
    padded = Image.new("L", (width, height))
    padded.paste(inside, ((width - inside.width) // 2, (height - inside.height) // 2))
    return np.asarray(padded)


def is_blank(pixels: np.ndarray) -> bool:
    """Whether pixels, as `fit_image` gives them, hardly differ."""
    return bool((np.ptp(pixels, axis=(0, 1)) < _PLAIN).all())


def png_bytes(pixels: np.ndarray) -> bytes:
    """An image's pixels as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def png_pixels(content: bytes) -> np.ndarray:
    """The pixels of a PNG that `png_bytes` made.

    Raises:
        TurnoverError: if it is not a PNG of grey or RGB pixels, or too large.
    """
    image = _decoded(content, "an image of the run", ("PNG",))
    if image.mode not in ("L", "RGB"):
        raise TurnoverError(
            f"an image of the run: {image.mode} instead of grey or RGB pixels; train the run again"
        )
    return np.asarray(image)
