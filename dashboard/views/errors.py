"""The misclassified validation items of a run: filtered, searched, sorted, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from turnover.report.errors import ErrorItem
from turnover.report.words import snippet

ANY = "Any class"
CLEAREST, CONFIDENT, POSITION = "Clearest explanation", "Most confident", "Position"
SORTS = (CLEAREST, CONFIDENT, POSITION)

PAGE = 500
"""Rows that are sent to the browser at once; the steps to the next and the previous error go on from page to page."""

_NAME = 80


class Named(Protocol):
    """What can be chosen from a list."""

    @property
    def id(self) -> str: ...


NamedT = TypeVar("NamedT", bound=Named)


@dataclass(frozen=True)
class Choice(Generic[NamedT]):
    """The chosen item, its place in all that match, the page of items that is shown with it, and the id that was wanted but is not there, or ""."""

    item: NamedT
    place: int
    page: tuple[NamedT, ...]
    lost: str = ""

    @property
    def row(self) -> int:
        """The chosen item's row on the page."""
        return self.place % PAGE


@dataclass(frozen=True)
class Query:
    """What the filters of the Errors page say."""

    true: str = ANY
    predicted: str = ANY
    search: str = ""
    sort: str = CLEAREST


def select(items: tuple[ErrorItem, ...], query: Query) -> list[ErrorItem]:
    """The errors that match a query, in its order."""
    wanted = query.search.strip().lower()
    chosen = [
        item
        for item in items
        if query.true in (ANY, item.label)
        and query.predicted in (ANY, item.predicted)
        and (not wanted or wanted in item.text.lower() or wanted in item.id.lower() or wanted in item.planted.lower())
    ]
    keys = {CLEAREST: lambda item: item.rank, CONFIDENT: lambda item: -item.probability, POSITION: lambda item: item.position}
    return sorted(chosen, key=keys.get(query.sort, keys[CLEAREST]))


def choice(items: list[NamedT], wanted: str | None) -> Choice[NamedT]:
    """The item with the id `wanted`, or the first one, with its page."""
    found = next((place for place, item in enumerate(items) if item.id == wanted), None)
    place = found or 0
    first = place - place % PAGE
    return Choice(items[place], place, tuple(items[first : first + PAGE]), wanted if wanted and found is None else "")


def lost_sentence(items: tuple[ErrorItem, ...], lost: str) -> str:
    """Why an error that was asked for is not shown; "" if none is missing."""
    if not lost:
        return ""
    why = "does not match the filters" if any(item.id == lost for item in items) else "is not among the errors of this run"
    return f"“{snippet(lost, _NAME)}” {why}, so the first that matches is shown."
