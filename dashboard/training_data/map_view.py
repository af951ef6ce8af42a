"""The map of the training items: their places in two dimensions, as data that the browser draws.

`principal` projects the rows of a matrix (stored features of all items, or the training items'
influences) onto its first two principal components, fitted on at most 1,000 rows; `project_umap`
reads the places of UMAP. Errors are shown among the training items where both have features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from turnover.dashboard.training_data.browse_view import Training
from turnover.runs.maps import INSTALL, has_umap, kept_places, map_rows
from turnover.runs.run import Run

FEATURES, INFLUENCES = "features", "influences"
PLACES = {"": "By what the model sees", INFLUENCES: "By what they teach"}
UMAP = "umap"
COLOURS = {
    "": "Colour: label",
    "predicted": "Colour: predicted label",
    "doubt": "Colour: label doubt",
    "unusual": "Colour: unusual",
}
MOST = 5000
"""Maximum number of points drawn."""

_FITTED, _ACROSS = 1000, 1000


def ways() -> list[tuple[str, str]]:
    """How places can be computed: in one way only, where UMAP is not installed."""
    return [("", "Principal components"), *([(UMAP, "UMAP")] if has_umap() else [])]


@dataclass(frozen=True)
class Projection:
    """Positions of items `(n, 2)`, training items first, and the share of the variance in these two
    directions; None for UMAP.
    """

    places: np.ndarray
    share: float | None


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


def project(run: Run, by: str) -> Projection:
    """Principal components of all items' features, or of the training items' influences. Raises as
    `turnover.runs.maps.map_rows`.
    """
    return principal(map_rows(run, by))


def project_umap(run: Run, by: str) -> Projection | None:
    """The stored UMAP positions of the same items; None if not computed yet. Raises as
    `turnover.runs.maps.kept_places`.
    """
    positions = kept_places(run, by)
    return None if positions is None else Projection(positions, None)


def missing_umap() -> str:
    """How to install UMAP, in a line; "" if it is installed."""
    return "" if has_umap() else f"Places by UMAP, too, can be had with “{INSTALL}”."


def build_points(training: Training, projection: Projection, name: str) -> dict[str, Any]:
    """The points to draw, a random sample of `MOST` if there are more: training items by position,
    -1 for errors, which follow from `first` on; places from 0 to 1000; classes by number.
    """
    run, places = training.run, projection.places
    count = len(run.train)
    errors = run.misclassified_positions if len(places) > count else []
    shown = np.arange(count)
    if count > MOST:
        shown = np.sort(np.random.default_rng(0).permutation(count)[:MOST])
    rows = np.concatenate((shown, count + np.array(errors, int)))
    low, high = places[rows].min(0), places[rows].max(0)
    scaled = (places[rows] - low) / np.maximum(high - low, 1e-12) * _ACROSS
    items, ranks = run.items.iloc[rows], 1 + training.unusual.argsort().argsort()
    return {
        "name": name,
        "items": [*shown.tolist(), *[-1] * len(errors)],
        "first": len(shown),
        "positions": errors,
        "errors": items["id"].astype(str).tolist()[len(shown) :],
        "x": scaled[:, 0].round().astype(int).tolist(),
        "y": scaled[:, 1].round().astype(int).tolist(),
        "labels": items["label"].tolist(),
        "predicted": items["predicted"].tolist(),
        "unusual": (100 * ranks[shown] // count).tolist(),
        "words": _words(projection, count - len(shown)),
    }


def _words(projection: Projection, left_out: int) -> str:
    """How near is meant, and what is not drawn."""
    if projection.share is None:
        near = "Near = alike; how far groups lie apart says little."
    else:
        near = f"Near = alike (rough: keeps {projection.share:.0%})."
    others = f"{left_out:,} more, taken out at random, are not drawn." if left_out else ""
    return " ".join(filter(None, (near, others, missing_umap())))
