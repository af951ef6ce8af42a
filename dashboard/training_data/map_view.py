"""The view model of the Map page: items in two dimensions, and the group of items chosen there.

`principal` projects the rows of a matrix (stored features of all items, or the training items'
influences) onto its first two principal components, fitted on at most 1,000 rows; `project_umap`
reads the positions of UMAP. A group is the training items that lie in the drawn area, contain the
searched words and have the chosen label; its influence is the sum over the group.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from turnover.dashboard.shared.choice_view import ANY
from turnover.dashboard.shared.groups_view import GroupRow
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
"""Maximum number of points drawn, since browsers draw them one by one."""

_FITTED, _DISTINCT = 1000, 10


@dataclass(frozen=True)
class Projection:
    """Positions of items `(n, 2)`, training items first, and the share of the variance in these two
    directions; None for UMAP.
    """

    places: np.ndarray
    share: float | None


@dataclass(frozen=True)
class Points:
    """The drawn points: item numbers (training items first), positions, kinds, hover texts.

    `left_out` is the number of items not drawn; `share` is that of the projection.
    """

    numbers: np.ndarray
    places: np.ndarray
    kinds: np.ndarray
    hover: tuple[str, ...]
    left_out: int
    share: float | None


@dataclass(frozen=True)
class Colours:
    """For each point, either a colour group (an index into `names`) or a value, NaN for validation
    items.
    """

    names: tuple[str, ...]
    groups: np.ndarray | None
    values: np.ndarray | None


def principal(rows: np.ndarray) -> Projection:
    """Project rows `(n, d)` onto the first two principal components of a sample of them.

    Signs are fixed by making the largest entry of each component positive.
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
    """The name in `turnover.runs.maps` of one of `PROJECTIONS`."""
    return what.lower()


def project(run: Run, what: str) -> Projection:
    """Principal components of all items' features, or of the training items' influences. Raises as
    `turnover.runs.maps.map_rows`.
    """
    return principal(map_rows(run, by_of(what)))


def project_umap(run: Run, what: str) -> Projection | None:
    """The stored UMAP positions of the same items; None if not computed yet. Raises as
    `turnover.runs.maps.kept_places`.
    """
    positions = kept_places(run, by_of(what))
    return None if positions is None else Projection(positions, None)


def missing_umap() -> str:
    """How to install UMAP, in a line; "" if it is installed."""
    return "" if has_umap() else f"Places by UMAP, too, can be had with “{INSTALL}”."


def build_points(run: Run, projection: Projection) -> Points:
    """The points to draw, a random sample of `MOST` if there are more."""
    total = len(projection.places)
    numbers = (
        np.arange(total)
        if total <= MOST
        else np.sort(np.random.default_rng(0).permutation(total)[:MOST])
    )
    items = run.items.iloc[numbers]
    wrong = (items["label"] != items["predicted"]).to_numpy()
    kinds = np.where(items["split"] == "train", TRAINING, np.where(wrong, ERROR, RIGHT))
    rows = zip(items["id"], items["label"], items["predicted"], kinds, items["text"], strict=True)
    return Points(
        numbers,
        projection.places[numbers],
        kinds,
        tuple(_hover(run.classes, *row) for row in rows),
        total - len(numbers),
        projection.share,
    )


def _hover(classes: list[str], name: str, label: int, predicted: int, kind: str, text: str) -> str:
    taken = f", predicted {classes[predicted]}" if kind == ERROR else ""
    return f"{kind} {name}: {classes[label]}{taken}{f' – {snippet(text, 60)}' if text else ''}"


def colours(run: Run, points: Points, by: str) -> Colours:
    """The colours of points: by class, the most frequent classes only if there are many, or by
    self-influence.

    Raises:
        TurnoverError: for self-influence, if the run has no usable influence.
    """
    if by == SELF:
        values = np.concatenate(
            (run.influence.self_influence, np.full(len(run.items) - len(run.train), np.nan))
        )
        return Colours((), None, values[points.numbers])
    classes = run.items["predicted" if by == PREDICTED else "label"].to_numpy()[points.numbers]
    counts = np.bincount(classes, minlength=len(run.classes))
    shown = np.sort(np.argsort(-counts, kind="stable")[:_DISTINCT])
    groups = np.full(len(run.classes), len(shown))
    groups[shown] = range(len(shown))
    names = tuple(run.classes[label] for label in shown) + (
        ("other classes",) if len(run.classes) > len(shown) else ()
    )
    return Colours(names, groups[classes], None)


def narrowed(run: Run, words: str, label: str) -> np.ndarray:
    """Mask `(N,)` of the training items with the label (or any) that contain the words, if any."""
    matches = (
        np.ones(len(run.train), bool)
        if label == ANY
        else run.train["label"].to_numpy() == run.classes.index(label)
    )
    if words.strip() and run.kind == "text":
        matches &= (
            run.train["text"]
            .astype(str)
            .str.casefold()
            .str.contains(words.strip().casefold(), regex=False)
            .to_numpy()
        )
    return matches


# The chosen group

ALL, LISTED = "All errors", 200


@dataclass(frozen=True)
class Chosen:
    """The chosen training items as a named group, and how many validation items were chosen too."""

    group: Group
    validation: int


@dataclass(frozen=True)
class Member:
    """A chosen training item, and its influence on the prediction in nats, None if unknown."""

    id: str
    label: str
    text: str
    image: bytes
    injected: str
    influence: float | None


def choose_group(
    run: Run, drawn: Collection[int], words: str, label: str, by_influence: bool
) -> Chosen | None:
    """The training items in the drawn area (item numbers) that contain the words and have the
    label, each criterion only if given; None if none is given or no item matches.

    With `by_influence` the map shows influences, so that a drawn group is selected by its influence
    and is not compared with random groups.
    """
    if not (drawn or words.strip() or label != ANY):
        return None
    total = len(run.train)
    inside = np.zeros(total, bool)
    inside[[number for number in drawn if number < total]] = True
    chosen = narrowed(run, words, label) & (inside | (not drawn))
    parts = [
        f"{len(drawn):,} points drawn around" if drawn else "",
        f"“{words.strip()}”" if words.strip() else "",
        f"class {label}" if label != ANY else "",
    ]
    group = Group(
        ", ".join(filter(None, parts)), np.flatnonzero(chosen), ranked=by_influence and bool(drawn)
    )
    return Chosen(group, sum(number >= total for number in drawn)) if chosen.any() else None


def sums_of(losses: Summable, chosen: Chosen) -> GroupRow:
    """The summed influence of the chosen items, as a row of the table of groups."""
    prediction, truth = (losses.sums([chosen.group], meaning)[0] for meaning in MEANINGS)
    return GroupRow(chosen.group.name, len(chosen.group.instances), prediction, truth)


def losses_of(run: Run, error: ErrorItem) -> Summable:
    """The summable influences on the two losses of an error.

    Raises:
        TurnoverError: if the run has no usable influence for it, or does not support sums.
    """
    return Mistake(run, error.position)


def members_of(run: Run, chosen: Chosen, losses: Summable | None) -> tuple[Member, ...]:
    """The first `LISTED` chosen items, the largest influences on the prediction first if known."""
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
