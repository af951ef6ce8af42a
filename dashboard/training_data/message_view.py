"""What the browser of training items sends, and the decisions that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from turnover.dashboard.shared.content_view import Count, Name, Sent
from turnover.explain.doubt import Doubt
from turnover.flags import Flag

_MOST = 5_000_000


class Act(Sent):
    """One decision: its number in this tab, what, and on which training items; `accept` relabels
    each of them to the label that is proposed for it, `prove` is the wish to prove what one taught.
    """

    number: Count
    kind: Literal["drop", "relabel", "accept", "keep", "clear", "undo", "prove"]
    positions: Annotated[list[Count], Field(max_length=_MOST, default_factory=list)]
    label: Count | None = None


class Message(Sent):
    """A message of one tab (`client`) about one state of a run (`stamp`): the place, the row that
    is looked at, the decisions that are not confirmed yet, and what the tab has.
    """

    client: Name
    stamp: Name
    place: dict[Name, Name]
    index: Count
    acts: Annotated[list[Act], Field(max_length=1000)]
    rows: Name
    chunks: Annotated[list[Count], Field(max_length=100_000)]
    selected: Annotated[list[Count], Field(max_length=_MOST)]
    map: Name
    panels: Annotated[list[Name], Field(max_length=1000)]
    peek: Annotated[int, Field(ge=-1)]


def read_message(raw: Any, classes: Sequence[str], items: int, points: int) -> Message | None:
    """A message of the browser; None for what is none, or names items or classes that there are
    not. `items`: of training; `points`: of the map.
    """
    try:
        message = Message.model_validate(raw)
    except ValidationError:
        return None
    named = [*message.selected, *(at for act in message.acts for at in act.positions)]
    labels = [act.label or 0 for act in message.acts]
    fits = max(named, default=0) < items and max(labels, default=0) < len(classes)
    return message if fits and message.peek < points else None


def verdicts(
    act: Act, classes: Sequence[str], suspects: Mapping[int, Doubt], flags: Mapping[int, Flag]
) -> dict[int, tuple[str, str]]:
    """What a decision says of each item: action and new label. Items without a proposal are not
    relabelled to one, and those without a flag are not cleared.
    """
    if act.kind == "accept":
        return {at: ("relabel", suspects[at].label) for at in act.positions if at in suspects}
    label = classes[act.label] if act.kind == "relabel" and act.label is not None else ""
    return {at: (act.kind, label) for at in act.positions if act.kind != "clear" or at in flags}
