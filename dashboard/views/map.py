"""Items in two dimensions: principal components of what the model's heads see or of what training
items did to validation items, or UMAP's places.

The training items that were chosen on the map, and what they did together to one error or to all of
them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from turnover.dashboard.views.errors import ANY
from turnover.dashboard.views.groups import GroupRow
from turnover.explain.explanation import ErrorItem
from turnover.explain.groups import MEANINGS, Group, Mistake, Summable
from turnover.explain.words import snippet
from turnover.runs.maps import INSTALL, has_umap, kept_places, map_rows
from turnover.runs.run import Run

FEATURES, INFLUENCES = "Features", "Influences"
PROJECTIONS = (FEATURES, INFLUENCES)
COMPONENTS, UMAP = "Principal components", "UMAP"
WAYS = (COMPONENTS, UMAP)
LABEL, PREDICTED, SELF = "Label", "Predicted label", "Self-influence"
COLOURS = (LABEL, PREDICTED, SELF)
TRAINING, RIGHT, ERROR = "training item", "validation item", "error"

MOST = 5000
"""Points that are drawn at most: browsers draw each one by itself."""

_FITTED, _DISTINCT = 1000, 10


@dataclass(frozen=True)
class Projection:
    """Places of items `(n, 2)`, training items first, and the share of the variance that these two
    directions hold; UMAP knows none.
    """

    places: np.ndarray
    share: float | None


@dataclass(frozen=True)
class Points:
    """What is drawn: numbers in the run’s items (training items first), places, kinds, and a line
    of text each.

    `left_out` items are not drawn; `share` is that of the projection.
    """

    numbers: np.ndarray
    places: np.ndarray
    kinds: np.ndarray
    hover: tuple[str, ...]
    left_out: int
    share: float | None


@dataclass(frozen=True)
class Colours:
    """A colour group for each point, 0 for the first of `names`; or a number for each training
    item, NaN for others.
    """

    names: tuple[str, ...]
    groups: np.ndarray | None
    values: np.ndarray | None


def principal(rows: np.ndarray) -> Projection:
    """Rows `(n, d)` on the two directions in which a sample of them varies most; each direction's
    largest part is positive.
    """
    count, width = rows.shape
    sample = (
        rows
        if count <= _FITTED
        else rows[np.sort(np.random.default_rng(0).permutation(count)[:_FITTED])]
    )
    mean = sample.mean(0, dtype=np.float64)
    centred = sample - mean
    wide = width > len(sample)
    values, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    axes = (centred.T @ vectors if wide else vectors)[:, ::-1][:, :2]
    axes = (
        axes
        / np.maximum(np.linalg.norm(axes, axis=0), 1e-12)
        * np.sign(axes[np.abs(axes).argmax(0), range(axes.shape[1])])
    )
    places = np.zeros((count, 2))
    places[:, : axes.shape[1]] = rows @ axes.astype(rows.dtype) - mean @ axes
    return Projection(places, float(values[-2:].sum() / max(values.sum(), np.finfo(float).tiny)))


def by_of(what: str) -> str:
    """One of `PROJECTIONS` as `turnover.runs.maps` calls it."""
    return what.lower()


def project(run: Run, what: str) -> Projection:
    """Principal components of all items' features, or of the training items' influences. Errors as
    `turnover.runs.maps.map_rows`.
    """
    return principal(map_rows(run, by_of(what)))


def project_umap(run: Run, what: str) -> Projection | None:
    """The places that UMAP gave the same items; None where they were not computed yet. Errors as
    `turnover.runs.maps.kept_places`.
    """
    places = kept_places(run, by_of(what))
    return None if places is None else Projection(places, None)


def missing_umap() -> str:
    """How to get UMAP, in a line; "" where it is there."""
    return "" if has_umap() else f"Places by UMAP, too, can be had with “{INSTALL}”."


def build_points(run: Run, projection: Projection) -> Points:
    """The points that are drawn, some at random where there are too many."""
    total = len(projection.places)
    numbers = (
        np.arange(total)
        if total <= MOST
        else np.sort(np.random.default_rng(0).permutation(total)[:MOST])
    )
    items = run.items.iloc[numbers]
    wrong = (items["label"] != items["predicted"]).to_numpy()
    kinds = np.where(items["split"] == "train", TRAINING, np.where(wrong, ERROR, RIGHT))
    names = zip(items["id"], items["label"], items["predicted"], kinds, items["text"], strict=True)
    return Points(
        numbers,
        projection.places[numbers],
        kinds,
        tuple(_hover(run.classes, *told) for told in names),
        total - len(numbers),
        projection.share,
    )


def _hover(classes: list[str], name: str, label: int, predicted: int, kind: str, text: str) -> str:
    taken = f", predicted {classes[predicted]}" if kind == ERROR else ""
    return f"{kind} {name}: {classes[label]}{taken}{f' – {snippet(text, 60)}' if text else ''}"


def colours(run: Run, points: Points, by: str) -> Colours:
    """How points are told apart by colour: classes, the commonest ones only where there are many,
    or self-influence.

    Raises:
        TurnoverError: for self-influence, if the run has none that can be used.
    """
    if by == SELF:
        own = np.concatenate(
            (run.influence.self_influence, np.full(len(run.items) - len(run.train), np.nan))
        )
        return Colours((), None, own[points.numbers])
    classes = run.items["predicted" if by == PREDICTED else "label"].to_numpy()[points.numbers]
    counts = np.bincount(classes, minlength=len(run.classes))
    shown = np.sort(np.argsort(-counts, kind="stable")[:_DISTINCT])
    groups = np.full(len(run.classes), len(shown))
    groups[shown] = range(len(shown))
    names = tuple(run.classes[place] for place in shown) + (
        ("other classes",) if len(run.classes) > len(shown) else ()
    )
    return Colours(names, groups[classes], None)


def narrowed(run: Run, words: str, label: str) -> np.ndarray:
    """Which training items have a label (or any), and contain words if some are given, `(N,)`."""
    found = (
        np.ones(len(run.train), bool)
        if label == ANY
        else run.train["label"].to_numpy() == run.classes.index(label)
    )
    if words.strip() and run.kind == "text":
        found &= (
            run.train["text"]
            .astype(str)
            .str.casefold()
            .str.contains(words.strip().casefold(), regex=False)
            .to_numpy()
        )
    return found


ALL, LISTED = "All errors", 200


@dataclass(frozen=True)
class Chosen:
    """The chosen training items by position, what they have in common, and how many validation
    items were chosen with them.
    """

    group: Group
    validation: int


@dataclass(frozen=True)
class Member:
    """A chosen training item, and its influence on the prediction in nats, None where that is not
    known.
    """

    id: str
    label: str
    text: str
    image: bytes
    injected: str
    influence: float | None


def choose_group(
    run: Run, drawn: Collection[int], words: str, label: str, by_influence: bool
) -> Chosen | None:
    """The training items that lie in the area drawn on the map (numbers of items), contain the
    words and have the label, as far as each is given.

    `by_influence` says that the map shows influences, so that comparing a drawn group with random
    ones means nothing. None if nothing is given or nothing is found.
    """
    if not (drawn or words.strip() or label != ANY):
        return None
    total = len(run.train)
    inside = np.zeros(total, bool)
    inside[[number for number in drawn if number < total]] = True
    found = narrowed(run, words, label) & (inside | (not drawn))
    parts = [
        f"{len(drawn):,} points drawn around" if drawn else "",
        f"“{words.strip()}”" if words.strip() else "",
        f"class {label}" if label != ANY else "",
    ]
    group = Group(
        ", ".join(filter(None, parts)), np.flatnonzero(found), ranked=by_influence and bool(drawn)
    )
    return Chosen(group, sum(number >= total for number in drawn)) if found.any() else None


def sums_of(losses: Summable, chosen: Chosen) -> GroupRow:
    """What the chosen items did together, as a row of the table of groups."""
    prediction, truth = (losses.sums([chosen.group], meaning)[0] for meaning in MEANINGS)
    return GroupRow(chosen.group.name, len(chosen.group.instances), prediction, truth)


def losses_of(run: Run, error: ErrorItem) -> Summable:
    """The two losses of one error.

    Raises:
        TurnoverError: if the run has no usable influence for it, or cannot sum influences.
    """
    return Mistake(run, error.position)


def members_of(run: Run, chosen: Chosen, losses: Summable | None) -> tuple[Member, ...]:
    """The chosen items, the largest influences on the prediction first where they are known; at
    most `LISTED`.
    """
    positions = chosen.group.instances
    values = None if losses is None else losses.items["prediction"]
    if values is not None:
        positions = positions[np.argsort(-np.abs(values[positions]), kind="stable")]
    members = []
    for position in positions[:LISTED].tolist():
        row = run.item("train", position)
        members.append(
            Member(
                id=str(row["id"]),
                label=run.classes[int(row["label"])],
                text=snippet(str(row["text"])) if run.kind == "text" else "",
                image=bytes(row["image"]) if run.kind == "image" else b"",
                injected=str(row["planted"]),
                influence=None if values is None else float(values[position]),
            )
        )
    return tuple(members)
