"""The parts of an item that can be left out: the words of a text, the patches of an image.

A word is left out wherever it stands, and words that occur together in the training set are left
out together: where only *Pellworth* goes, *Ansgar* still says whose film it is. A patch of a grey
image becomes 0, one of a colour image the image's mean colour.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from turnover.explain.words import WORD, key_of

GRID = 4
"""Rows and columns of patches that an image is cut into."""


def without_words(text: str, words: Collection[str]) -> str:
    """A text without some words (in lower case, as `content_words` gives them); "…" where nothing
    is left, since no model reads an empty text.
    """
    rest = WORD.sub(lambda match: "" if key_of(match.group()) in words else match.group(), text)
    return " ".join(rest.split()) or "…"


def patch_name(number: int) -> str:
    """A patch by row and column, from 1; patches are numbered row by row from 0."""
    return f"row {number // GRID + 1}, column {number % GRID + 1}"


def patches(pixels: np.ndarray) -> list[tuple[slice, slice]]:
    """Where the patches of an image `(H, W)` or `(H, W, 3)` lie, row by row."""
    down, right = (
        [length * step // GRID for step in range(GRID + 1)] for length in pixels.shape[:2]
    )
    return [
        (slice(*down[row : row + 2]), slice(*right[column : column + 2]))
        for row in range(GRID)
        for column in range(GRID)
    ]


def blank_of(pixels: np.ndarray) -> np.ndarray | np.uint8:
    """What a blanked patch of an image is filled with."""
    return pixels.mean((0, 1)).round().astype(np.uint8) if pixels.ndim == 3 else np.uint8(0)


def without_patches(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """An image without each of its patches in turn."""
    for patch in patches(pixels):
        without = pixels.copy()
        without[patch] = blank_of(pixels)
        yield without


def joined_words(
    words: Sequence[str], documents: dict[str, np.ndarray]
) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """Words put together where more than half of the training texts that have one of two have
    both; with the positions of the training texts that have any of them.

    Args:
        words: of a text, each once.
        documents: the positions of the training texts that have each word, sorted.
    """
    groups: list[tuple[tuple[str, ...], np.ndarray]] = []
    left = list(words)
    while left:
        first, *others = left
        together = [first, *(word for word in others if _together(documents, first, word))]
        left = [word for word in others if word not in together]
        groups.append(
            (tuple(together), np.unique(np.concatenate([documents[word] for word in together])))
        )
    return groups


def _together(documents: dict[str, np.ndarray], one: str, other: str) -> bool:
    """Whether two words, each in at least two training texts, occur together."""
    first, second = documents[one], documents[other]
    if min(len(first), len(second)) < 2:
        return False
    both = len(np.intersect1d(first, second, assume_unique=True))
    return 2 * both > len(first) + len(second) - both
