"""Label doubt: items whose label is probably wrong, with the label that is proposed instead.

Three witnesses give each label of an item a probability, and these are pooled by their geometric
mean:

- the models that never learned from the item: of a training item the sub-networks of the flipped
  masks (`turnover.explain.effects` keeps what they say), of a validation item the whole network;
- of a training item the whole network, too, which has learned its label: surer, but not to be
  trusted alone where it memorises;
- its `NEIGHBOURS` nearest training items by the cosine of their features.

An item is *suspected* where another label comes out as the most probable one, and its label is *in
doubt* from `SURE` on. Neighbours are asked only about items that a model suspects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from turnover.explain.words import snippet
from turnover.runs.run import Run

NEIGHBOURS = 20
LIKE = 5
"""Neighbours that are shown of an item."""

SURE = 0.8
"""The probability of another label from which one's own is in doubt."""

_ROWS, _NAME, _LEAST = 256, 60, 1e-4


@dataclass(frozen=True)
class Doubt:
    """Another label for an item, and its probability."""

    label: str
    probability: float

    def __str__(self) -> str:
        return f"{snippet(self.label, _NAME)} {self.probability:.0%}"


@dataclass(frozen=True)
class Unseen:
    """What models say of some items, `(n,)` each: the most probable label by number, its
    probability, and the probability of the item's own label.
    """

    labels: np.ndarray
    chances: np.ndarray
    own: np.ndarray

    @classmethod
    def of(cls, chances: np.ndarray, labels: np.ndarray) -> Unseen:
        """From probabilities `(n, C)` and the items' labels `(n,)`."""
        rows = np.arange(len(labels))
        return cls(chances.argmax(1), chances.max(1), chances[rows, labels])

    @classmethod
    def whole(cls, run: Run, split: str) -> Unseen:
        """What the whole network says of a split's items."""
        items = run.split(split)
        names = [f"probability_{number}" for number in range(len(run.classes))]
        chances, labels = items[names].to_numpy(), items["label"].to_numpy()
        if run.scored and (chances.max(1) == 1).all():  # labels alone are known, which says nothing
            even = np.full(len(labels), 1 / len(names))
            return cls(labels, even, even)
        return cls.of(chances, labels)

    def spread(self, rows: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
        """Probabilities `(rows, C)` of some of the items: what is left after the most probable and
        the own label is shared by the others.
        """
        top, own = self.labels[rows], labels[rows]
        others = classes - 1 - (top != own)
        left = 1 - self.chances[rows] - np.where(top != own, self.own[rows], 0)
        spread = np.repeat((left / np.maximum(others, 1))[:, None], classes, 1)
        spread[np.arange(len(rows)), own] = self.own[rows]
        spread[np.arange(len(rows)), top] = self.chances[rows]
        return spread


def in_doubt(suspects: Mapping[int, Doubt]) -> dict[int, Doubt]:
    """Those of the suspected items whose label is in doubt."""
    return {position: doubt for position, doubt in suspects.items() if doubt.probability >= SURE}


def suspected(run: Run, split: str, labels: np.ndarray, *witnesses: Unseen) -> dict[int, Doubt]:
    """The items of `train` or `validation` for which another label is the most probable one, by
    position.

    Args:
        labels: of the items, `(n,)`.
        witnesses: what models say of them; at least one.
    """
    suspects = np.flatnonzero(np.any([models.labels != labels for models in witnesses], 0))
    near, _ = nearest_items(run, split, suspects, NEIGHBOURS)
    carried, classes = run.train["label"].to_numpy(), len(run.classes)
    found = {}
    for first in range(0, len(suspects), _ROWS):
        rows = suspects[first : first + _ROWS]
        said = [models.spread(rows, labels, classes) for models in witnesses]
        said.append(_shares(carried[near[first : first + _ROWS]], classes))
        pooled = np.exp(np.mean(np.log(np.clip(said, _LEAST, 1)), 0))
        pooled /= pooled.sum(1, keepdims=True)
        for position, chances in zip(rows.tolist(), pooled, strict=True):
            if (label := int(chances.argmax())) != labels[position]:
                found[position] = Doubt(run.classes[label], float(chances[label]))
    return found


def _shares(carried: np.ndarray, classes: int) -> np.ndarray:
    """The share of each label among what neighbours carry, `(n, k)` to `(n, C)`, as if one more
    neighbour carried all labels alike.
    """
    counts = np.stack([(carried == label).sum(1) for label in range(classes)], 1)
    return (counts + 1 / classes) / (carried.shape[1] + 1)


def nearest_items(
    run: Run, split: str, positions: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` training items nearest to some items of a split, and the cosines of their
    features: `(n, count)` each, nearest first, fewer in smaller runs; an item is no neighbour of
    its own.
    """
    train, most = _unit(run.features("train")), min(count, len(run.train) - 1)
    features = _unit(run.features(split)[positions])
    near = np.empty((len(positions), most), int)
    closest = np.empty((len(positions), most))
    for first in range(0, len(positions), _ROWS):
        rows = slice(first, first + _ROWS)
        cosines = features[rows] @ train.T
        if split == "train":
            cosines[np.arange(len(cosines)), positions[rows]] = -np.inf
        near[rows] = np.argsort(-cosines, axis=1, kind="stable")[:, :most]
        closest[rows] = np.take_along_axis(cosines, near[rows], 1)
    return near, closest


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, 1e-12))
