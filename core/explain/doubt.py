"""Label doubt: items whose label is probably wrong, with the label that is proposed instead.

Another label is proposed for an item where two witnesses agree:

- models that never learned from the item give that label a probability as high as they usually give
  the items that carry it, at least the median, or `SURE`: the threshold of a class is set by its
  own items, as in confident learning (Northcutt, Jiang and Chuang 2021);
- more than half of the `NEIGHBOURS` training items that are nearest by the cosine of their features
  carry it.

A model that is sure and alone is no evidence. For training items the models that never learned
from it are the sub-networks of the flipped masks (`turnover.explain.effects` keeps what they say);
for validation items it is the whole network. Runs that do not keep the former are judged by the
whole network, which has learned the wrong labels, too, and so finds fewer of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnover.explain.words import snippet
from turnover.runs.run import Run

NEIGHBOURS = 5
SURE = 0.95
"""A probability that is high enough, even where models are usually surer."""
_ROWS, _NAME = 256, 60


@dataclass(frozen=True)
class Doubt:
    """Another label for an item, and its probability under models that never learned from it."""

    label: str
    probability: float

    def __str__(self) -> str:
        return f"{snippet(self.label, _NAME)} {self.probability:.0%}"


@dataclass(frozen=True)
class Unseen:
    """What models that never learned from some items say of them, `(n,)` each: the most probable
    label by number, its probability, and the probability of the item's own label.
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
        return cls.of(items[names].to_numpy(), items["label"].to_numpy())


def label_doubts(run: Run, split: str, unseen: Unseen, labels: np.ndarray) -> dict[int, Doubt]:
    """The items of `train` or `validation` whose label is in doubt, by position.

    Args:
        unseen: what is said of these items by models that never learned from them.
        labels: of the items, `(n,)`.
    """
    usual = {
        int(label): min(SURE, float(np.median(unseen.own[labels == label])))
        for label in np.unique(labels)
    }
    sure = unseen.chances >= [usual.get(int(label), 1.0) for label in unseen.labels]
    suspects = np.flatnonzero((unseen.labels != labels) & sure)
    votes = neighbour_votes(run, split, suspects, unseen.labels[suspects])
    return {
        int(position): Doubt(
            run.classes[int(unseen.labels[position])], float(unseen.chances[position])
        )
        for position in suspects[2 * votes > NEIGHBOURS]
    }


def neighbour_votes(run: Run, split: str, positions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many of the `NEIGHBOURS` nearest training items of some items `(n,)` carry these labels
    `(n,)`; an item is no neighbour of its own.
    """
    carried = run.train["label"].to_numpy()
    return np.array(
        [
            int((carried[near] == label).sum())
            for near, label in zip(nearest_items(run, split, positions)[0], labels, strict=True)
        ],
        int,
    )


def nearest_items(run: Run, split: str, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The training items nearest to some items of a split, and the cosines of their features:
    `(n, NEIGHBOURS)` each, nearest first, fewer in smaller runs.
    """
    train, most = _unit(run.features("train")), min(NEIGHBOURS, len(run.train) - 1)
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
