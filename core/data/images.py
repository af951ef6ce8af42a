"""Images from users, opened with care since a file can be anything; and thumbnails.

A file is rejected before it is decoded if it is large, and before it is expanded if its header
promises too many pixels (a decompression bomb). Other images are turned upright by their EXIF
orientation and reduced to grey, or to RGB for a model of colour images. Pixels are uint8, `(H, W)`
grey or `(H, W, 3)` RGB.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from turnover.errors import TurnoverError

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 40_000_000
_PLAIN = 8
"""A border whose grey levels vary less than this (standard deviation) is a plain background."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")


def open_image(content: bytes, name: str, colour: bool = False) -> Image.Image:
    """The first frame of an image file, upright, as 8-bit grey or RGB.

    Raises:
        TurnoverError: if the file is too large, has too many pixels, or is not a whole image of a
            known format.
    """
    image = _decoded(content, name, FORMATS)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    upright = ImageOps.exif_transpose(image)
    if "A" in upright.getbands() or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return upright.convert("RGB" if colour else "L")


def image_size(content: bytes) -> tuple[int, int] | None:
    """Height and width of an image file from its header, upright; None for other content."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return (image.width, image.height) if turned else (image.height, image.width)


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
            image: Image.Image = Image.open(io.BytesIO(content), formats=formats)
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
    except (OSError, SyntaxError, ValueError) as error:
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
