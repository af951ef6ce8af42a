"""The misclassified validation items of a run: filtered, searched, sorted, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from core.report.errors import ErrorItem

ANY = "Any class"
CLEAREST, CONFIDENT, POSITION = "Clearest explanation", "Most confident", "Position"
SORTS = (CLEAREST, CONFIDENT, POSITION)

PAGE = 500
"""Rows that are sent to the browser at once; the steps to the next and the previous error go on from page to page."""


class Named(Protocol):
    """What can be chosen from a list."""

    @property
    def id(self) -> str: ...


NamedT = TypeVar("NamedT", bound=Named)


@dataclass(frozen=True)
class Choice(Generic[NamedT]):
    """The chosen item, its place in all that match, and the page of items that is shown with it."""

    item: NamedT
    place: int
    page: tuple[NamedT, ...]

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
    place = next((place for place, item in enumerate(items) if item.id == wanted), 0)
    first = place - place % PAGE
    return Choice(items[place], place, tuple(items[first : first + PAGE]))
