"""The item that is chosen from a list of training items or flags, and the page of the list that
holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

ANY = "Any class"

PAGE = 500
"""Rows sent to the browser at once; the steps to the next and the previous item cross pages."""


class Named(Protocol):
    """An item that can be chosen from a list."""

    @property
    def id(self) -> str: ...


NamedT = TypeVar("NamedT", bound=Named)


@dataclass(frozen=True)
class Choice(Generic[NamedT]):
    """The chosen item, its place among all that match, and its page; `lost` is the requested id if
    it does not match, else "".
    """

    item: NamedT
    place: int
    page: tuple[NamedT, ...]
    lost: str = ""

    @property
    def row(self) -> int:
        """The chosen item's row on the page."""
        return self.place % PAGE


def choice(items: list[NamedT], wanted: str | None) -> Choice[NamedT]:
    """The item with the id `wanted`, or the first one, with its page."""
    match = next((index for index, item in enumerate(items) if item.id == wanted), None)
    place = match or 0
    first = place - place % PAGE
    return Choice(
        items[place],
        place,
        tuple(items[first : first + PAGE]),
        wanted if wanted and match is None else "",
    )
