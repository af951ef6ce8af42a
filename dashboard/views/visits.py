"""How far somebody has worked through the errors, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from statistics import median

_FEW = 3
"""So many errors must have been left before a time is said."""


@dataclass(frozen=True)
class Visits:
    """Which errors were shown in this session, which one is now and since when (seconds of any clock), and how long each stay was."""

    seen: frozenset[str] = frozenset()
    now: str = ""
    since: float = 0.0
    stays: tuple[float, ...] = ()


def visit(visits: Visits, item: str, time: float) -> Visits:
    """The visits after an error was shown at this time; showing the same one again changes nothing."""
    if item == visits.now:
        return visits
    stays = (*visits.stays, time - visits.since) if visits.now else ()
    return replace(visits, seen=visits.seen | {item}, now=item, since=time, stays=stays)


def progress_sentence(visits: Visits, matching: Collection[str]) -> str:
    """How many of the errors that match were seen, and about how long the others will take: their number times the median stay; "" for the first one."""
    seen = sum(item in visits.seen for item in matching)
    left = len(matching) - seen
    if seen < 2:
        return ""
    if not left:
        return f"All {seen:,} seen in this session."
    time = f", {_about(left * median(visits.stays))} left" if len(visits.stays) >= _FEW else ""
    return f"{seen:,} of {len(matching):,} seen in this session{time}."


def _about(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
