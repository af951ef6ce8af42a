"""Which training items are shown, in which order, and each of them as data for the browser.

A `Place` is what the address names: the view, filters, order and the opened item. Positions are
those of training items; the browser gets the order of all that match, and rows around what it
shows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from turnover.dashboard.shared.content_view import data_url, doubt_data, valid_values
from turnover.explain.doubt import SURE, Doubt
from turnover.explain.words import snippet, visible
from turnover.flags import ACTIONS, Flag
from turnover.runs.run import Run

GRID, LIST, MAP = "grid", "list", "map"
VIEWS = {GRID: "Grid", LIST: "List", MAP: "Map"}
DOUBT, UNUSUAL, HARM, DATA = "doubt", "unusual", "harm", "data"
SORTS = {
    DOUBT: "Doubtful labels first",
    UNUSUAL: "Most unusual first",
    HARM: "Most harmful first",
    DATA: "As in the data",
}
FLAGGED = {
    "": "Flagged or not",
    "none": "Not flagged",
    "any": "Flagged",
    **{action: f"Flagged: {action}" for action in ACTIONS},
}
LEAST = f"{round(100 * SURE)}"
"""Per cent from which a label is in doubt, if nobody says otherwise."""

STEP = 60
"""Rows are sent in chunks of so many: the one that is looked at, and its neighbours."""

_ROW, _SEARCH = 280, 200


@dataclass(frozen=True)
class Place:
    """What the address says; "" for no filter and for no opened item."""

    view: str = GRID
    sort: str = DOUBT
    label: str = ""
    flagged: str = ""
    search: str = ""
    least: str = LEAST
    places: str = ""
    way: str = ""
    colour: str = ""
    item: str = ""

    @property
    def filters(self) -> Place:
        """What the list depends on: the filters and the order."""
        return Place(sort=self.sort, label=self.label, flagged=self.flagged, search=self.search)


def place_of(params: Mapping[str, Any], classes: Collection[str]) -> Place:
    """The place that an address or a browser names; what makes no sense counts as not said."""
    known: dict[str, Collection[str]] = {
        "view": VIEWS,
        "sort": SORTS,
        "label": classes,
        "flagged": FLAGGED,
        "least": [f"{least}" for least in range(50, 101)],
    }
    place = Place(**valid_values(params, vars(Place()), known))
    old = valid_values(params, ("train",), {}).get("train", "")  # of links of an earlier version
    return replace(place, search=place.search[:_SEARCH], item=place.item or old)


def sorts_of(run: Run) -> dict[str, str]:
    """The orders that a run has; of another engine's scores, the usual one is by harm."""
    return {DOUBT: SORTS[HARM], DATA: SORTS[DATA]} if run.scored else SORTS


@dataclass(frozen=True)
class Training:
    """A run's training items, and the values that order them, `(N,)` each: self-influence, and
    the mean influence on validation items, None without influence; `suspects` have another label.
    """

    run: Run
    suspects: Mapping[int, Doubt]
    unusual: np.ndarray
    mean: np.ndarray | None

    @classmethod
    def of(cls, run: Run, suspects: Mapping[int, Doubt], with_influence: bool) -> Training:
        """Without influence, unusual is what has a large loss where it was not learned."""
        if with_influence:
            return cls(run, suspects, run.influence.self_influence, run.influence.mean_influence[0])
        kept = int(run.manifest["results"]["kept_epoch"]) - 1
        return cls(run, suspects, np.asarray(run.array("item_losses")[1, kept]), None)

    @property
    def chances(self) -> np.ndarray:
        """The probability of another label, in per cent; 0 where none is suspected."""
        chances = np.zeros(len(self.run.train), int)
        chances[[*self.suspects]] = [int(100 * one.probability) for one in self.suspects.values()]
        return chances

    def position_of(self, name: str) -> int | None:
        """Where the item with this id is."""
        found = np.flatnonzero(self.run.train["id"].to_numpy() == name)
        return int(found[0]) if len(found) else None


def select(training: Training, place: Place, flags: Mapping[int, Flag]) -> np.ndarray:
    """The positions of the items that match a place's filters, in its order."""
    run, frame = training.run, training.run.train
    chosen = np.ones(len(frame), bool)
    if place.label:
        chosen &= frame["label"].to_numpy() == run.classes.index(place.label)
    if place.flagged:
        flagged = [
            at for at, flag in flags.items() if place.flagged in ("none", "any", flag.action)
        ]
        chosen &= np.isin(np.arange(len(frame)), flagged) != (place.flagged == "none")
    if wanted := place.search.strip().casefold():
        columns = ["id", "planted", *(["text"] if run.kind == "text" else [])]
        found = [
            frame[name].astype(str).str.casefold().str.contains(wanted, regex=False).to_numpy()
            for name in columns
        ]
        chosen &= np.any(found, 0)
    return np.flatnonzero(chosen)[np.argsort(_key(training, place)[chosen], kind="stable")]


def _key(training: Training, place: Place) -> np.ndarray:
    """What is sorted by, the smallest first; unusual items follow the doubtful ones."""
    unusual = training.mean if training.run.scored else -training.unusual
    assert unusual is not None
    if place.sort == DOUBT:
        return np.lexsort((unusual, -_exact(training))).argsort()
    if place.sort == UNUSUAL:
        return unusual
    if place.sort == HARM and training.mean is not None:
        return training.mean
    return np.arange(len(unusual))


def _exact(training: Training) -> np.ndarray:
    chances = np.zeros(len(training.unusual))
    chances[[*training.suspects]] = [one.probability for one in training.suspects.values()]
    return chances


# As data for the browser


def chunks(index: int, total: int) -> list[int]:
    """The numbers of the chunks around a row."""
    last = (total - 1) // STEP
    return [at for at in (index // STEP, index // STEP + 1, index // STEP - 1) if 0 <= at <= last]


def rows(training: Training, positions: Iterable[int]) -> list[dict[str, Any]]:
    """Training items for grid and list."""
    run = training.run
    return [row(run, int(position), training.suspects.get(int(position))) for position in positions]


def row(
    run: Run, position: int, doubt: Doubt | None = None, split: str = "train"
) -> dict[str, Any]:
    """An item: its text or image, label, and the proposed label, if there is one."""
    item = run.item(split, position)
    return {
        "position": position,
        "id": str(item["id"]),
        "text": snippet(str(item["text"]), _ROW) if run.kind == "text" else "",
        "image": data_url(bytes(item["image"])) if run.kind == "image" else "",
        "label": visible(run.classes[int(item["label"])]),
        "injected": visible(str(item["planted"])),
        "doubt": doubt_data(run, doubt),
    }


def flags_data(flags: Mapping[int, Flag]) -> dict[str, list[str]]:
    """Action and new label of each flagged item, by position."""
    return {
        str(position): [flag.action, visible(flag.new_label)] for position, flag in flags.items()
    }
