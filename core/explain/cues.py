"""Cues: parts of an error that its teachers share more than their class does.

The *teachers* of an error are the tenth of the training set with the largest positive influence on
the prediction. A part is a word (words that occur together count as one) or a patch of an image.
Among the training items that carry the predicted label, are there more teachers with the part than
a draw without regard to it would give? The chance of so many is hypergeometric; it is multiplied by
the number of parts of the error, since all are tested at once (Bonferroni), and has to be at most
`RATE`. A training image has a patch if its pixels there are nearer to the error's than half of the
way from these to the blank.

Being shared is half of a cue: without the part, the probability of the prediction has to fall by a
tenth or more (`MATTERS`), and further than without any other part.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from turnover.data.images import png_pixels
from turnover.explain.parts import blank_of, joined_words, patch_name, patches
from turnover.explain.words import LIMIT, WORD, content_words, key_of
from turnover.runs.run import PREDICTION, Run

RATE = 0.05
"""Chance that an error without a cue is said to have one."""

MATTERS = 0.9
"""The share of the prediction's probability that a cue leaves, at most, when it is taken out."""

SHARE = 0.1
"""The share of the training set whose influence is largest: an error's teachers."""

_SIDE = 32
"""Most pixels on a side at which patches are compared."""


@dataclass(frozen=True)
class SharedPart:
    """A part of an error, and how the training items that carry its predicted label share it.

    Attributes:
        names: the words, or the patch as `turnover.explain.parts.patch_name` names it.
        patch: its number; None for words.
        teachers: how many teachers there are, and `having` how many of these have the part.
        items: how many training items carry the label, and `sharing` how many of these have it.
        chance: of at least so many among the teachers, times the number of parts that were tested.
    """

    names: tuple[str, ...]
    patch: int | None
    teachers: int
    having: int
    items: int
    sharing: int
    chance: float

    @property
    def usual(self) -> float:
        """How many teachers would have it without regard to it."""
        return self.teachers * self.sharing / self.items if self.items else 0.0


def tail(found: int, items: int, marked: int, drawn: int) -> float:
    """The chance of at least `found` marked ones among `drawn` of `items`, of which `marked` are
    (hypergeometric). Pages need it, so it does without scipy.
    """
    if found * items <= marked * drawn:  # the other tail is the small one, which is exact
        rest = drawn - found + 1
        return 1 - tail(rest, items, items - marked, drawn) if rest <= drawn else 1.0
    least, most = max(found, marked + drawn - items), min(marked, drawn)
    if least > most:
        return 0.0
    log = _choose(marked, least) + _choose(items - marked, drawn - least) - _choose(items, drawn)
    term = total = math.exp(log)
    for count in range(least, most):
        term *= (marked - count) * (drawn - count)
        term /= (count + 1) * (items - marked - drawn + count + 1)
        total += term
    return min(1.0, total)


def _choose(total: int, count: int) -> float:
    """Logarithm of a binomial coefficient."""
    return math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)


def teachers_of(run: Run, position: int) -> np.ndarray:
    """The training items behind an error, strongest first: the `SHARE` of all with the largest
    influence on the prediction, as far as it is positive.
    """
    ranked = run.influence.ranked(position, PREDICTION)
    most = max(1, math.ceil(SHARE * len(run.train)))
    return np.asarray(ranked.instances[ranked.ends(most)[0]])


class Sharing:
    """What training items share with some errors of a run that have influences.

    The images of one class are held at a time: ask for errors class by class.
    """

    def __init__(self, run: Run, errors: Sequence[int]) -> None:
        self.run = run
        self._labels = run.train["label"].to_numpy()
        self._documents = _documents(run, errors) if run.kind == "text" else {}
        self._images: tuple[int, np.ndarray] = (-1, np.empty(0))

    def parts(self, position: int) -> list[SharedPart]:
        """The parts of an error that training items have, too; most over-represented first."""
        label = int(self.run.item("validation", position)["predicted"])
        pool = np.flatnonzero(self._labels == label)
        taught = np.zeros(len(self._labels), bool)
        taught[teachers_of(self.run, position)] = True
        taught &= self._labels == label
        teachers = int(taught.sum())
        parts = self._words(position) if self.run.kind == "text" else self._patches(position, pool)
        counts = [
            (names, patch, int(taught[having].sum()), int((self._labels[having] == label).sum()))
            for names, patch, having in parts
        ]
        tested = sum(sharing > 1 for *_, sharing in counts)
        shared = [
            SharedPart(
                *(names, patch, teachers, having, len(pool), sharing),
                chance=min(1.0, tested * tail(having, len(pool), sharing, teachers))
                if sharing > 1
                else 1.0,
            )
            for names, patch, having, sharing in counts
        ]
        return sorted(shared, key=lambda part: part.chance)

    def _words(self, position: int) -> list[tuple[tuple[str, ...], None, np.ndarray]]:
        text = str(self.run.item("validation", position)["text"])
        each = dict.fromkeys(map(key_of, WORD.findall(text[:LIMIT])))
        words = [word for word in each if word in self._documents]
        return [(names, None, having) for names, having in joined_words(words, self._documents)]

    def _patches(
        self, position: int, pool: np.ndarray
    ) -> list[tuple[tuple[str, ...], int, np.ndarray]]:
        item = self.run.item("validation", position)
        label = int(item["predicted"])
        if self._images[0] != label:
            self._images = (
                label,
                np.stack([_small(png) for png in self.run.train["image"].loc[pool]]),
            )
        pixels = png_pixels(item["image"])
        whole, blank = _small(item["image"]), np.asarray(blank_of(pixels), np.float32)
        parts: list[tuple[tuple[str, ...], int, np.ndarray]] = []
        for number, place in enumerate(patches(whole)):
            far = np.square(whole[place] - blank).sum()
            apart = self._images[1][:, *place] - whole[place]
            distances = np.square(apart).reshape(len(pool), -1).sum(1)
            parts.append(((patch_name(number),), number, pool[distances < far / 4]))
        return parts


def _documents(run: Run, errors: Sequence[int]) -> dict[str, np.ndarray]:
    """The training texts that have each word of some errors, by position."""
    texts = run.validation["text"].loc[list(errors)]
    wanted = frozenset().union(*(content_words(text) for text in texts))
    having: dict[str, list[int]] = defaultdict(list)
    for position, text in enumerate(run.train["text"]):
        for word in content_words(text) & wanted:
            having[word].append(position)
    return {word: np.array(positions) for word, positions in having.items()}


def _small(png: bytes) -> np.ndarray:
    """An image's pixels, every so many of a large one, as float32."""
    pixels = png_pixels(png)
    step = max(1, max(pixels.shape[:2]) // _SIDE)
    return pixels[::step, ::step].astype(np.float32)
