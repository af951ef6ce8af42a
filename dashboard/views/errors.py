"""The misclassified items of a run: filtered, searched, sorted, paged, exported and tracked.

`issue_markdown` writes an error and its training items as Markdown for an issue tracker. All text
from the data stands in code spans, where no tracker interprets it as markup, links, mentions or
issue numbers.

`Visits` records which errors were shown in a session; the time left is the number of unseen errors
times the median stay.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlencode

from turnover.explain.explanation import Card, ErrorItem, Explanation
from turnover.explain.html import signed
from turnover.explain.words import snippet
from turnover.runs.run import PREDICTION

ANY = "Any class"
CLEAREST, CONFIDENT, POSITION = "Clearest explanation", "Most confident", "Position"
SORTS = (CLEAREST, CONFIDENT, POSITION)

PAGE = 500
"""Rows sent to the browser at once; the steps to the next and the previous error cross pages."""

_NAME, _TEXT, _CARD = 80, 1000, 200
"""Characters of names, texts and texts of cards that are shown."""

_MIN_STAYS = 3
"""Completed stays before a time left is estimated."""


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


@dataclass(frozen=True)
class Query:
    """The filters of the Errors page."""

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
        and (
            not wanted
            or wanted in item.text.lower()
            or wanted in item.id.lower()
            or wanted in item.injected.lower()
        )
    ]
    keys = {
        CLEAREST: lambda item: item.rank,
        CONFIDENT: lambda item: -item.probability,
        POSITION: lambda item: item.position,
    }
    return sorted(chosen, key=keys.get(query.sort, keys[CLEAREST]))


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


def lost_sentence(items: tuple[ErrorItem, ...], lost: str) -> str:
    """Why a requested error is not shown; "" if none is missing."""
    if not lost:
        return ""
    why = (
        "does not match the filters"
        if any(item.id == lost for item in items)
        else "is not among the errors of this run"
    )
    return f"“{snippet(lost, _NAME)}” {why}, so the first that matches is shown."


# Markdown for issue trackers


def issue_markdown(
    run: str, item: ErrorItem, why: str, explanation: Explanation, meaning: str, link: str
) -> str:
    """The error with its cause in a sentence, its top proponents and opponents (influences in
    nats), and its address.
    """
    which = "the wrong label" if meaning == PREDICTION else "the true label"
    parts = [
        (
            f"### {code(item.id, _NAME)}: {code(item.label, _NAME)} taken for "
            f"{code(item.predicted, _NAME)} ({item.probability:.0%})"
        ),
        f"> {code(item.text, _TEXT)}" if item.text else "",
        f"**Why:** {code(why, _TEXT)}",
        (
            f"Run {code(run, _NAME)}{f', [see it there](<{link}>)' if link else ''}. "
            f"{explanation.certainty}"
        ),
        (
            f"Influence on the {meaning}, the loss of {which} {code(explanation.target, _NAME)}. "
            f"{explanation.units} {explanation.yardstick}"
        ),
        f"**Proponents** pushed towards {code(explanation.target, _NAME)}:",
        _list(explanation.proponents, explanation.decimals),
        f"**Opponents** pushed away from {code(explanation.target, _NAME)}:",
        _list(explanation.opponents, explanation.decimals),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def error_link(page: str, run: str, item: ErrorItem, meaning: str) -> str:
    """The address of an error on the Errors page at `page`; "" if `page` is unknown ("")."""
    return f"{page}?{urlencode({'run': run, 'item': item.id, 'meaning': meaning})}" if page else ""


def code(text: str, length: int) -> str:
    """A text as one line of at most `length` characters in a code span that it cannot close."""
    line = snippet(text, length) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{space}{line}{space}{fence}"


def _list(cards: Sequence[Card], decimals: int) -> str:
    return (
        "\n".join(
            f"{number}. {_line(card, decimals)}" for number, card in enumerate(cards, start=1)
        )
        or "none"
    )


def _line(card: Card, decimals: int) -> str:
    error = "" if card.std_error is None else f" ± {card.std_error:.{decimals}f}"
    text = f": {code(card.text.plain, _CARD)}" if card.text else ""
    trust = f", {card.trust}" if card.trust else ""
    doubt = f" (label in doubt: {code(str(card.doubt), _NAME)})" if card.doubt else ""
    return (
        f"{signed(card.influence, decimals)}{error}{trust}, {code(card.id, _NAME)} labelled "
        f"{code(card.label, _NAME)}{doubt}{text}"
    )


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
        return f"All {seen:,} seen in this session."
    time = (
        f", {_about(left * median(visits.stays))} left" if len(visits.stays) >= _MIN_STAYS else ""
    )
    return f"{seen:,} of {len(matching):,} seen in this session{time}."


def _about(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
