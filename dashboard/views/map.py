"""Items in two dimensions: principal components of what the model's heads see or of what training items did to validation items, or UMAP's places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnover.dashboard.views.errors import ANY
from turnover.maps import INSTALL, has_umap, kept_places, map_rows
from turnover.report.words import snippet
from turnover.runs import Run

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
    """Places of items `(n, 2)`, training items first, and the share of the variance that these two directions hold; UMAP knows none."""

    places: np.ndarray
    share: float | None


@dataclass(frozen=True)
class Points:
    """What is drawn: numbers in the run’s items (training items first), places, kinds, and a line of text each.

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
    """A colour group for each point, 0 for the first of `names`; or a number for each training item, NaN for others."""

    names: tuple[str, ...]
    groups: np.ndarray | None
    values: np.ndarray | None


def principal(rows: np.ndarray) -> Projection:
    """Rows `(n, d)` on the two directions in which a sample of them varies most; each direction's largest part is positive."""
    count, width = rows.shape
    sample = rows if count <= _FITTED else rows[np.sort(np.random.default_rng(0).permutation(count)[:_FITTED])]
    mean = sample.mean(0, dtype=np.float64)
    centred = sample - mean
    wide = width > len(sample)
    values, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    axes = (centred.T @ vectors if wide else vectors)[:, ::-1][:, :2]
    axes = axes / np.maximum(np.linalg.norm(axes, axis=0), 1e-12) * np.sign(axes[np.abs(axes).argmax(0), range(axes.shape[1])])
    places = np.zeros((count, 2))
    places[:, : axes.shape[1]] = rows @ axes.astype(rows.dtype) - mean @ axes
    return Projection(places, float(values[-2:].sum() / max(values.sum(), np.finfo(float).tiny)))


def by_of(what: str) -> str:
    """One of `PROJECTIONS` as `turnover.maps` calls it."""
    return what.lower()


def project(run: Run, what: str) -> Projection:
    """Principal components of all items' features, or of the training items' influences. Errors as `turnover.maps.map_rows`."""
    return principal(map_rows(run, by_of(what)))


def project_umap(run: Run, what: str) -> Projection | None:
    """The places that UMAP gave the same items; None where they were not computed yet. Errors as `turnover.maps.kept_places`."""
    places = kept_places(run, by_of(what))
    return None if places is None else Projection(places, None)


def missing_umap() -> str:
    """How to get UMAP, in a line; "" where it is there."""
    return "" if has_umap() else f"Places by UMAP, too, can be had with “{INSTALL}”."


def build_points(run: Run, projection: Projection) -> Points:
    """The points that are drawn, some at random where there are too many."""
    total = len(projection.places)
    numbers = np.arange(total) if total <= MOST else np.sort(np.random.default_rng(0).permutation(total)[:MOST])
    items = run.items.iloc[numbers]
    wrong = (items["label"] != items["predicted"]).to_numpy()
    kinds = np.where(items["split"] == "train", TRAINING, np.where(wrong, ERROR, RIGHT))
    names = zip(items["id"], items["label"], items["predicted"], kinds, items["text"], strict=True)
    return Points(numbers, projection.places[numbers], kinds, tuple(_hover(run.classes, *told) for told in names), total - len(numbers), projection.share)


def _hover(classes: list[str], name: str, label: int, predicted: int, kind: str, text: str) -> str:
    taken = f", predicted {classes[predicted]}" if kind == ERROR else ""
    return f"{kind} {name}: {classes[label]}{taken}{f' – {snippet(text, 60)}' if text else ''}"


def colours(run: Run, points: Points, by: str) -> Colours:
    """How points are told apart by colour: classes, the commonest ones only where there are many, or self-influence.

    Raises:
        TurnoverError: for self-influence, if the run has none that can be used.
    """
    if by == SELF:
        own = np.concatenate((run.influence.self_influence, np.full(len(run.items) - len(run.train), np.nan)))
        return Colours((), None, own[points.numbers])
    classes = run.items["predicted" if by == PREDICTED else "label"].to_numpy()[points.numbers]
    counts = np.bincount(classes, minlength=len(run.classes))
    shown = np.sort(np.argsort(-counts, kind="stable")[:_DISTINCT])
    groups = np.full(len(run.classes), len(shown))
    groups[shown] = range(len(shown))
    names = tuple(run.classes[place] for place in shown) + (("other classes",) if len(run.classes) > len(shown) else ())
    return Colours(names, groups[classes], None)


def narrowed(run: Run, words: str, label: str) -> np.ndarray:
    """Which training items have a label (or any), and contain words if some are given, `(N,)`."""
    found = np.ones(len(run.train), bool) if label == ANY else run.train["label"].to_numpy() == run.classes.index(label)
    if words.strip() and run.kind == "text":
        found &= run.train["text"].astype(str).str.casefold().str.contains(words.strip().casefold(), regex=False).to_numpy()
    return found
