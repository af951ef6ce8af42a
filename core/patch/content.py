"""What an item is known by, wherever it lies: the SHA-256 of its text or of its pixels. And what a run's data are known by."""

from __future__ import annotations

import hashlib

import numpy as np

from turnover.data.images import fit_image, open_image, png_pixels
from turnover.errors import TurnoverError
from turnover.runs import Run


def text_hash(text: str) -> str:
    """SHA-256 of a text in UTF-8, hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def pixel_hash(pixels: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels, hexadecimal."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def file_hash(name: str, content: bytes, shape: tuple[int, ...]) -> str:
    """`pixel_hash` of an image file as a model sees it whose images have this shape; "" for what is no image."""
    try:
        image = open_image(content, name, colour=len(shape) == 3)
    except TurnoverError:
        return ""
    return pixel_hash(np.asarray(image) if (image.height, image.width) == shape[:2] else fit_image(image, shape[0], shape[1]))


def item_hash(run: Run, position: int) -> str:
    """The hash of a training item of a run."""
    item = run.item("train", position)
    return text_hash(str(item["text"])) if run.kind == "text" else pixel_hash(png_pixels(item["image"]))


def image_shape(run: Run) -> tuple[int, ...]:
    """The shape of the training images; () for texts."""
    return () if run.kind == "text" else png_pixels(run.train["image"].iloc[0]).shape


def data_fingerprint(run: Run) -> str:
    """What a run was trained on, as one word: runs with the same have the same items and labels.

    Runs that do not say it are known by their table of items.
    """
    return str(run.manifest["data"].get("fingerprint") or run.manifest["files"]["items.parquet"]["sha256"])
