"""The list of errors: which match, where one is among them, and how far the work has come.

A `Place` is what the address names: the filters and the error. `Visits` records which errors were
shown in a session; the time left is the number of unseen errors times the median stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from turnover.dashboard.shared.content_view import data_url, valid_values
from turnover.explain.explanation import ErrorItem
from turnover.explain.words import snippet, visible

CAUSE, CLEAREST, CONFIDENT, POSITION = "cause", "clearest", "confident", "position"
SORTS = {
    CAUSE: "Grouped",
    CLEAREST: "Clearest first",
    CONFIDENT: "Most confident first",
    POSITION: "As in the data",
}
TWINS = {"": "Model", "yes": "Plain model’s too", "no": "Not the plain model’s"}
"""Errors by whether ordinary training, without masks, makes them as well."""

STEP = 50
"""Rows are sent around the shown one: from one multiple of `STEP` to another, at least `STEP` each
way.
"""

OWN_PREFIX = "own-"
"""Of the ids of one's own texts and images."""

_NAME, _ROW, _SEARCH = 80, 120, 200
"""Characters of names, of texts in a row, and of searched words."""

_MIN_STAYS = 3
"""Completed stays before a time left is estimated."""


@dataclass(frozen=True)
class Place:
    """Filters, order and the shown error's id; "" for no filter and for the first error. And what
    is open below it: a part of *More*, and the words of its groups.
    """

    true: str = ""
    predicted: str = ""
    cause: str = ""
    search: str = ""
    sort: str = CAUSE
    item: str = ""
    twin: str = ""
    more: str = ""
    containing: str = ""

    @property
    def filters(self) -> Place:
        """The filters and the order alone: two places with equal ones have the same list."""
        return replace(self, item="", more="", containing="")


def place_of(params: Mapping[str, Any], classes: Collection[str]) -> Place:
    """The place that an address or a browser names; what makes no sense counts as not said."""
    known = {"true": classes, "predicted": classes, "sort": SORTS, "twin": TWINS}
    place = Place(**valid_values(params, vars(Place()), known))
    return replace(place, search=place.search[:_SEARCH], containing=place.containing[:_SEARCH])


def select(
    items: Sequence[ErrorItem], place: Place, groups: Mapping[int, str] | None = None
) -> list[ErrorItem]:
    """The errors that match a place's filters, in its order; `groups` names the cause of each by
    its position, the first group first.
    """
    groups = groups or {}
    order = {name: number for number, name in enumerate(dict.fromkeys(groups.values()))}
    wanted = place.search.strip().lower()
    chosen = [
        item
        for item in items
        if place.true in ("", item.label)
        and place.predicted in ("", item.predicted)
        and place.cause in ("", groups.get(item.position, ""))
        and place.twin in ("", {True: "yes", False: "no", None: "?"}[item.twin])
        and (not wanted or any(wanted in text.lower() for text in _searched(item)))
    ]
    keys: dict[str, Callable[[ErrorItem], Any]] = {
        CAUSE: lambda item: (order.get(groups.get(item.position, ""), 0), item.rank),
        CLEAREST: lambda item: item.rank,
        CONFIDENT: lambda item: -item.probability,
        POSITION: lambda item: item.position,
    }
    return sorted(chosen, key=keys[place.sort])


def _searched(item: ErrorItem) -> tuple[str, ...]:
    return item.text, item.id, item.injected


def index_of(matching: Sequence[ErrorItem], place: Place) -> int:
    """Where a place's error is in its list; 0 if it is not there."""
    return next((index for index, item in enumerate(matching) if item.id == place.item), 0)


def lost_sentence(items: Sequence[ErrorItem], matching: Sequence[ErrorItem], item: str) -> str:
    """Why a wanted error is not shown; "" if it is, or none is wanted."""
    if not item or any(error.id == item for error in matching):
        return ""
    if any(error.id == item for error in items):
        why = "does not match the filters"
    elif item.startswith(OWN_PREFIX):
        why = "was asked before this dashboard was started again; ask once more"
    else:
        why = "is not among the errors of this run"
    return f"“{snippet(item, _NAME)}” {why}, so the first that matches is shown."


# As data for the browser


def window(index: int, total: int) -> range:
    """The rows that are sent around a shown one."""
    first = max(0, index - index % STEP - STEP)
    return range(first, min(total, first + 3 * STEP))


def row(item: ErrorItem, cause: str = "", waiting: bool = False) -> dict[str, Any]:
    """An error in the list, with the name of its cause; or an item that waits for its answer."""
    return {
        "id": item.id,
        "text": snippet(item.text, _ROW),
        "image": data_url(item.image),
        "label": visible(item.label),
        "predicted": visible(item.predicted),
        "probability": f"{item.probability:.0%}" if item.predicted else "",
        "cause": cause,
        "twin": bool(item.twin),
        "waiting": waiting,
    }


def confusions(items: Sequence[ErrorItem]) -> list[dict[str, Any]]:
    """Which class is taken for which, and how often: the most frequent first."""
    counts = Counter((item.label, item.predicted) for item in items)
    return [
        {
            "true": true,
            "predicted": predicted,
            "words": f"{visible(true)} → {visible(predicted)} ({count:,})",
        }
        for (true, predicted), count in counts.most_common()
    ]


# Progress through the errors


@dataclass(frozen=True)
class Visits:
    """The errors shown in this session, the current one and since when, and the length of each stay
    (seconds of any clock).
    """

    seen: frozenset[str] = frozenset()
    now: str = ""
    since: float = 0.0
    stays: tuple[float, ...] = ()


def visit(visits: Visits, item: str, time: float) -> Visits:
    """The visits after showing an error at this time; showing it again changes nothing."""
    if item == visits.now:
        return visits
    stays = (*visits.stays, time - visits.since) if visits.now else ()
    return replace(visits, seen=visits.seen | {item}, now=item, since=time, stays=stays)


def progress_sentence(visits: Visits, matching: Collection[str]) -> str:
    """How many of the matching errors were seen, and the estimated time for the others; "" before
    the second one.
    """
    seen = sum(item in visits.seen for item in matching)
    left = len(matching) - seen
    if seen < 2:
        return ""
    if not left:
        return f"All {seen:,} seen."
    time = (
        f", {_about(left * median(visits.stays))} left" if len(visits.stays) >= _MIN_STAYS else ""
    )
    return f"{seen:,} of {len(matching):,} seen{time}."


def _about(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1:
        return "1 min"
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
