"""The training items that were chosen on the map, and what they did together to one error or to all of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from turnover.dashboard.views.errors import ANY
from turnover.dashboard.views.groups import Row
from turnover.dashboard.views.map import narrowed
from turnover.groups.choose import Group
from turnover.groups.sums import MEANINGS, Mistake, Summable
from turnover.report.errors import ErrorItem
from turnover.report.words import snippet
from turnover.runs import Run

ALL, LISTED = "All errors", 200


@dataclass(frozen=True)
class Chosen:
    """The chosen training items by position, what they have in common, and how many validation items were chosen with them."""

    group: Group
    validation: int


@dataclass(frozen=True)
class Member:
    """A chosen training item, and its influence on the prediction in nats, None where that is not known."""

    id: str
    label: str
    text: str
    image: bytes
    planted: str
    influence: float | None


def choose_group(run: Run, drawn: Collection[int], words: str, label: str, by_influence: bool) -> Chosen | None:
    """The training items that lie in the area drawn on the map (numbers of items), contain the words and have the label, as far as each is given.

    `by_influence` says that the map shows influences, so that comparing a drawn group with random ones means nothing. None if
    nothing is given or nothing is found.
    """
    if not (drawn or words.strip() or label != ANY):
        return None
    total = len(run.train)
    inside = np.zeros(total, bool)
    inside[[number for number in drawn if number < total]] = True
    found = narrowed(run, words, label) & (inside | (not drawn))
    parts = [f"{len(drawn):,} points drawn around" if drawn else "", f"“{words.strip()}”" if words.strip() else "", f"class {label}" if label != ANY else ""]
    group = Group(", ".join(filter(None, parts)), np.flatnonzero(found), ranked=by_influence and bool(drawn))
    return Chosen(group, sum(number >= total for number in drawn)) if found.any() else None


def sums_of(losses: Summable, chosen: Chosen) -> Row:
    """What the chosen items did together, as a row of the table of groups."""
    prediction, truth = (losses.sums([chosen.group], meaning)[0] for meaning in MEANINGS)
    return Row(chosen.group.name, len(chosen.group.instances), prediction, truth)


def losses_of(run: Run, error: ErrorItem) -> Summable:
    """The two losses of one error.

    Raises:
        TurnoverError: if the run has no usable influence for it, or cannot sum influences.
    """
    return Mistake(run, error.position)


def members_of(run: Run, chosen: Chosen, losses: Summable | None) -> tuple[Member, ...]:
    """The chosen items, the largest influences on the prediction first where they are known; at most `LISTED`."""
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
                planted=str(row["planted"]),
                influence=None if values is None else float(values[position]),
            )
        )
    return tuple(members)
