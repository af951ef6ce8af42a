"""What every data source returns: splits of items, checked here.

An item's *position* in the training split is its instance id, from which its masks are computed;
the user's own id is kept with it. Wrong labels can be injected (`plant_label_noise`), so that a run
has a known right answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from turnover.data.forms import (
    by_value,
    class_names,
    ids_of,
    images_of,
    labels_of,
    numbered,
    texts_of,
)
from turnover.errors import TurnoverError

WRONG_LABEL = "wrong-label"
"""The `injected` mark of an item whose label was made wrong on purpose."""

CONFIRMED_ERROR = "confirmed-error"
"""The mark, in the same field, of an item whose label people judged to be wrong."""


@dataclass(frozen=True)
class Origin:
    """The table that items were read from, so that it can be cleansed.

    Attributes:
        path: of the file or folder, or the name of the hub data set, as in the settings' `data`.
        sha256: of the file; "" if it is none.
        size: of the file in bytes.
        content: the column of the texts or images.
        label: the column of the labels.
        rows: of each item, from 0.
    """

    path: str
    sha256: str = ""
    size: int = 0
    content: str = ""
    label: str = ""
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def facts(self) -> dict[str, str | int]:
        """What a run's manifest says of it; the rows are with the items."""
        return {name: value for name, value in vars(self).items() if name != "rows"}


@dataclass(frozen=True)
class Items:
    """One split. `labels` are class numbers; either `texts` or `images` (uint8, `(N, H, W)` grey or
    `(N, H, W, 3)` RGB) is set. Each may be given in any form that `turnover.data.forms` reads:
    labels as names, too, which a `Dataset` numbers, and ids as None, which numbers the items.

    `injected` marks what was injected into an item, or that its label is known to be wrong ('' for
    neither); `true_labels` are the labels before injection; `origin` is None where items are not
    the rows of one table.

    Raises:
        TurnoverError: for values that cannot be read, or not as many of each.
    """

    ids: list[str]
    labels: np.ndarray
    texts: list[str] | None = None
    images: np.ndarray | None = None
    injected: list[str] = field(default_factory=list)
    true_labels: np.ndarray | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if (self.texts is None) == (self.images is None):
            given = "both" if self.texts is not None else "neither"
            raise TurnoverError(f"items have texts= or images=, here {given}; give one of them")
        labels = labels_of(self.labels)
        read: dict[str, Any] = {
            "labels": labels,
            "ids": ids_of(self.ids, len(labels)),
            "texts": None if self.texts is None else texts_of(self.texts),
            "images": None if self.images is None else images_of(self.images),
            "injected": list(self.injected),
            "true_labels": None
            if self.true_labels is None
            else labels_of(self.true_labels, "true_labels"),
        }
        for name, values in read.items():
            if values is not None and len(values) != len(labels) and name != "injected":
                raise TurnoverError(
                    f"{len(values):,} {name} for {len(labels):,} labels; give one of each an item"
                )
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def readable(self) -> Any:
        """The texts, or the images."""
        return (self.texts or []) if self.images is None else self.images

    @property
    def contents(self) -> Sequence[Hashable]:
        """Each item's text, or a digest of its pixels: equal for equal ones."""
        if self.images is None:
            return self.texts or []
        return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in self.images]

    def take(self, rows: Any) -> Items:
        """The items of these rows, in this order; a mask of rows, or a slice, is one way to say.

        Raises:
            TurnoverError: for rows that are not there.
        """
        chosen = rows if isinstance(rows, slice) or len(rows) else slice(0)
        try:
            rows = np.arange(len(self))[chosen if isinstance(chosen, slice) else np.asarray(chosen)]
        except IndexError as error:
            raise TurnoverError(f"take: {error}; there are {len(self):,} items") from None
        return Items(
            [self.ids[row] for row in rows],
            self.labels[rows],
            None if self.texts is None else [self.texts[row] for row in rows],
            None if self.images is None else self.images[rows],
            [self.injected[row] for row in rows] if self.injected else [],
            None if self.true_labels is None else self.true_labels[rows],
            self.origin and replace(self.origin, rows=self.origin.rows[rows]),
        )


@dataclass(frozen=True)
class Dataset:
    """A named data set; `source` states in words where it was read from.

    `classes` may be given in any form that `class_names` reads. `test` are items on which a
    finished model is measured once; `notes` state how the data were read, where there was a choice.

    Raises:
        TurnoverError: for labels that are no class's, or splits that are missing or of another form
            than the training items.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    train: Items
    validation: Items = field(default=None)  # type: ignore[assignment]
    test: Items | None = field(default=None, kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        for name in ("train", "validation"):
            if not isinstance(items := getattr(self, name), Items):
                raise TurnoverError(
                    f"{name}: a {type(items).__name__}; give turnover.Items, such as a part of "
                    "others by items.take(rows)"
                )
        for name in ("name", "source"):
            if not isinstance(getattr(self, name), str):
                raise TurnoverError(f"{name}: {getattr(self, name)!r:.40}; give a few words")
        given = self.classes
        object.__setattr__(self, "classes", class_names(given, self.train.labels))
        for name in ("train", "validation", "test"):
            if (items := getattr(self, name)) is not None:
                object.__setattr__(self, name, self._fitted(items, name, by_value(given)))

    def _fitted(self, items: Items, split: str, named: bool) -> Items:
        """The items of a split with class numbers as labels, which may be `named` by numbers.
        Errors as the class.
        """
        forms = [
            "texts" if each.images is None else f"images of {each.images.shape[1:]}"
            for each in (items, self.train)
        ]
        if forms[0] != forms[1]:
            raise TurnoverError(
                f"{split}: {forms[0]}, but the training items are {forms[1]}; give both in one form"
            )
        labels = numbered(items.labels, self.classes, f"{split}, labels", named)
        true_labels = items.true_labels
        if true_labels is not None:
            true_labels = numbered(true_labels, self.classes, f"{split}, true_labels", named)
        if labels is items.labels and true_labels is items.true_labels:
            return items
        return replace(items, labels=labels, true_labels=true_labels)

    @property
    def kind(self) -> str:
        """`text` or `image`."""
        return "image" if self.train.images is not None else "text"

    def fingerprint(self) -> str:
        """SHA-256 over classes, ids, labels and contents of both splits."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for items in (self.train, self.validation):
            digest.update(repr(items.ids).encode())
            digest.update(items.labels.tobytes())
            if items.images is not None:
                digest.update(repr(items.images.shape).encode())
                digest.update(np.ascontiguousarray(items.images).data)
            for text in items.texts or []:  # one at a time, since together they may fill the memory
                digest.update(repr(text).encode())
        return digest.hexdigest()


def check_dataset(data: Dataset) -> Dataset:
    """The data set itself, if a classifier can be trained on it.

    Raises:
        TurnoverError: for an empty split, ids that occur twice, or training labels of one class
            only.
    """
    for split, items in (("training", data.train), ("validation", data.validation)):
        if not len(items):
            raise TurnoverError(f"{data.source}: the {split} split is empty; add rows")
        seen: set[str] = set()
        for row, name in enumerate(items.ids):
            if name in seen:
                raise TurnoverError(
                    f"{data.source}: row {row + 1} of the {split} split repeats the id {name!r}; "
                    "make ids unique"
                )
            seen.add(name)
    present = np.unique(data.train.labels)
    if len(present) < 2:
        only = data.classes[int(present[0])]
        raise TurnoverError(
            f"{data.source}: all {len(data.train)} training items have the label {only!r}; a "
            "classifier needs two classes"
        )
    return data


def limit_items(
    data: Dataset, limit: int, seed: int, kept: Collection[str] = (), split: str = "train"
) -> Dataset:
    """The data set with `limit` items in `train` or `validation`: those whose ids are in `kept`,
    the others drawn at random by `seed`.

    Raises:
        TurnoverError: if `limit` is above the number of items, or below 2 in training, 1 in
            validation, or the number of items kept.
    """
    least, option, name = (
        (2, "--limit", "training") if split == "train" else (1, "--validation-limit", "validation")
    )
    items: Items = getattr(data, split)
    if not least <= limit <= len(items):
        raise TurnoverError(
            f"{option} {limit}: choose a number from {least} to the {len(items)} {name} items of "
            f"{data.name}"
        )
    order = np.random.default_rng(seed).permutation(len(items))
    named = np.array([items.ids[row] in kept for row in order])
    if named.sum() > limit:
        raise TurnoverError(
            f"{option} {limit}: --keep names {named.sum()} of the items; choose that many or more"
        )
    drawn = np.concatenate((order[named], order[~named]))[:limit]
    parts: dict[str, Any] = {split: items.take(drawn)}
    return check_dataset(replace(data, **parts))


def plant_label_noise(data: Dataset, fraction: float, seed: int) -> Dataset:
    """The data set with floor(fraction · N + ½) training labels changed to another class, each
    marked as injected.

    Raises:
        TurnoverError: if `fraction` is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise TurnoverError(
            f"--label-noise {fraction}: choose a share from 0 up to, but not including, 1"
        )
    rng = np.random.default_rng(seed)
    count = int(fraction * len(data.train) + 0.5)
    rows = rng.permutation(len(data.train))[:count]
    labels = data.train.labels.copy()
    labels[rows] = (labels[rows] + rng.integers(1, len(data.classes), count)) % len(data.classes)
    injected = list(data.train.injected) or [""] * len(labels)
    for row in rows:
        injected[row] = WRONG_LABEL
    known = data.train.true_labels
    true_labels = data.train.labels if known is None else known
    train = replace(data.train, labels=labels, injected=injected, true_labels=true_labels.copy())
    return check_dataset(replace(data, train=train))
