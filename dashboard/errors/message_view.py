"""What the browser sends: where it is, and what was decided since it last heard from here.

One message holds both, so that an item and a decision can never disagree. Decisions are numbered
and repeated until they are confirmed, so none is lost and none counts twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from turnover.dashboard.shared.content_view import Count, Name, Sent
from turnover.flags import MAX_NOTE
from turnover.flags.judgements import VERDICTS


class Act(Sent):
    """One decision: its number in this tab, what, on which training item, with which class (its
    number) and why; or a judgement on a validation item, with the number of a verdict, or the wish
    to prove its cause.
    """

    number: Count
    kind: Literal["drop", "relabel", "keep", "clear", "undo", "judge", "prove"]
    position: Count = 0
    label: Count | None = None
    note: Annotated[str, Field(max_length=2 * MAX_NOTE)] = ""

    def new_label(self, classes: Sequence[str]) -> str:
        """The class of a relabel, "" of anything else."""
        return classes[self.label] if self.kind == "relabel" and self.label is not None else ""


class Message(Sent):
    """A message of one tab (`client`) about one state of a run (`stamp`): the place and its row,
    the decisions that are not confirmed yet, the panes and rows that the tab has, and the last
    change of *More* by hand that it knows (`opened`).
    """

    client: Name
    stamp: Name
    place: dict[Name, Name]
    index: Count
    acts: Annotated[list[Act], Field(max_length=1000)]
    panes: Annotated[list[Name], Field(max_length=1000)]
    rows: Name
    opened: Count = 0


def read_message(raw: Any, classes: Sequence[str], sizes: tuple[int, int]) -> Message | None:
    """A message of the browser; None for what is none, or names items or classes that there are
    not. `sizes`: how many training and validation items there are.
    """
    try:
        message = Message.model_validate(raw)
    except ValidationError:
        return None
    fitting = all(
        act.position < sizes[act.kind in ("judge", "prove")]
        and (act.label or 0) < len(VERDICTS if act.kind == "judge" else classes)
        for act in message.acts
    )
    return message if fitting else None
