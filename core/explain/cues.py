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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from turnover.data.images import png_pixels
from turnover.explain.parts import blank_of, joined_words, patch_name, patches
from turnover.explain.words import LIMIT, WORD, content_words, key_of
from turnover.runs.run import PREDICTION, Ranked, Run

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


def teachers_of(run: Run, ranked: Ranked) -> np.ndarray:
    """The training items behind a prediction, strongest first: the `SHARE` of all with the largest
    influence on it, as far as it is positive.
    """
    most = max(1, math.ceil(SHARE * len(run.train)))
    return np.asarray(ranked.instances[ranked.ends(most)[0]])


@dataclass(frozen=True)
class Predicted:
    """An item as the model saw it: its text or PNG image, the predicted label by number, and the
    positions of its teachers.
    """

    content: str | bytes
    label: int
    teachers: np.ndarray


def predicted_item(run: Run, position: int) -> Predicted:
    """A validation item that has influences."""
    item = run.item("validation", position)
    ranked = run.influence.ranked(position, PREDICTION)
    return Predicted(item[run.kind], int(item["predicted"]), teachers_of(run, ranked))


class Sharing:
    """What training items share with some items.

    The images of one class are held at a time: ask for items class by class.
    """

    def __init__(self, run: Run, items: Sequence[Predicted]) -> None:
        self.run = run
        self._labels = run.train["label"].to_numpy()
        texts = [item.content for item in items if isinstance(item.content, str)]
        self._documents = _documents(run, texts) if texts else {}
        self._images: tuple[int, np.ndarray] = (-1, np.empty(0))

    def parts(self, item: Predicted) -> list[SharedPart]:
        """The parts of an item that training items have, too; most over-represented first."""
        same = self._labels == item.label
        taught = np.zeros(len(same), bool)
        taught[item.teachers] = True
        taught &= same
        teachers, items = int(taught.sum()), int(same.sum())
        counts = [
            (names, patch, int(taught[having].sum()), int(same[having].sum()))
            for names, patch, having in self._having(item)
        ]
        tested = sum(sharing > 1 for *_, sharing in counts)
        shared = [
            SharedPart(
                *(names, patch, teachers, having, items, sharing),
                chance=min(1.0, tested * tail(having, items, sharing, teachers))
                if sharing > 1
                else 1.0,
            )
            for names, patch, having, sharing in counts
        ]
        return sorted(shared, key=lambda part: part.chance)

    def carrying(
        self, item: Predicted, words: tuple[str, ...], regions: tuple[int, ...]
    ) -> np.ndarray:
        """The training items that carry an item's predicted label and have a part of it, which its
        words or its patch name; by position.
        """
        for names, patch, having in self._having(item):
            if names == words if patch is None else patch in regions:
                return np.asarray(having[self._labels[having] == item.label])
        return np.empty(0, np.int64)

    def _having(self, item: Predicted) -> Iterator[tuple[tuple[str, ...], int | None, np.ndarray]]:
        """Names of the parts, and the positions of the training items that have them."""
        if isinstance(item.content, bytes):
            yield from self._patches(item.content, item.label)
            return
        each = dict.fromkeys(map(key_of, WORD.findall(item.content[:LIMIT])))
        words = [word for word in each if word in self._documents]
        for names, having in joined_words(words, self._documents):
            yield names, None, having

    def _patches(
        self, image: bytes, label: int
    ) -> Iterator[tuple[tuple[str, ...], int, np.ndarray]]:
        pool = np.flatnonzero(self._labels == label)
        if self._images[0] != label:
            images = [_small(png) for png in self.run.train["image"][self._labels == label]]
            self._images = label, np.stack(images)
        whole, blank = _small(image), np.asarray(blank_of(png_pixels(image)), np.float32)
        for number, place in enumerate(patches(whole)):
            far = np.square(whole[place] - blank).sum()
            apart = self._images[1][:, *place] - whole[place]
            distances = np.square(apart).reshape(len(pool), -1).sum(1)
            yield (patch_name(number),), number, pool[distances < far / 4]


def _documents(run: Run, texts: Iterable[str]) -> dict[str, np.ndarray]:
    """The training texts that have each word of some texts, by position."""
    wanted = frozenset().union(*map(content_words, texts))
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
