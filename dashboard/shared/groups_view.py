"""The influence of groups of training items on an error, and the smallest group that flips it.

A group's influence is the sum of its members' influences on a loss, in nats. A group flips an error
if removing it is predicted, by that sum, to bring the loss of the true label below that of the
predicted label.
"""

from __future__ import annotations

from dataclasses import dataclass

from turnover.errors import TurnoverError
from turnover.explain.explanation import ErrorItem, rounded
from turnover.explain.flips import Flip, smallest_flip
from turnover.explain.groups import (
    MEANINGS,
    Mistake,
    Sum,
    containing,
    ends,
    injected,
    injected_marks,
)
from turnover.explain.words import snippet
from turnover.runs.ranking import TOP
from turnover.runs.run import Run

_LISTED, _MARKS = 50, 6


@dataclass(frozen=True)
class Removed:
    """A training item of the group that flips an error."""

    id: str
    label: str
    text: str
    image: bytes


@dataclass(frozen=True)
class GroupRow:
    """A group: its name, size, and influence on the predicted and on the true label."""

    name: str
    size: int
    prediction: Sum
    truth: Sum


@dataclass(frozen=True)
class Groups:
    """The view of an error's groups.

    Attributes:
        flip, caution: sentences on the flipping group and on the limits of the prediction.
        size: the number of items in the flipping group, of which `removed` are the first.
        rows: groups with their influences.
        missing: why the searched words form no group, or "".
    """

    flip: str
    caution: str
    size: int
    removed: tuple[Removed, ...]
    rows: tuple[GroupRow, ...]
    missing: str


def build_groups(run: Run, item: ErrorItem, words: str = "") -> Groups:
    """The groups of an error: its top proponents and opponents, training texts that contain `words`
    (unless blank), and injected items by mark.

    Raises:
        TurnoverError: if the run has no usable influence for this item, or cannot sum influences.
    """
    mistake, chosen, missing = Mistake(run, item.position), ends(run, item.position, TOP), ""
    if words.strip():
        try:
            chosen.append(containing(run, words))
        except TurnoverError as error:
            missing = str(error)
    chosen += [injected(run, mark) for mark in injected_marks(run)[:_MARKS]]
    sums = [mistake.sums(chosen, meaning) for meaning in MEANINGS]
    flip = smallest_flip(mistake)
    return Groups(
        flip=flip_sentence(flip, item, len(run.train)),
        caution=caution_sentence(len(run.classes)),
        size=len(flip.instances),
        removed=tuple(_removed(run, int(position)) for position in flip.instances[:_LISTED]),
        rows=tuple(
            GroupRow(group.name, len(group.instances), *pair)
            for group, *pair in zip(chosen, *sums, strict=True)
        ),
        missing=missing,
    )


def flip_sentence(flip: Flip, item: ErrorItem, train_size: int) -> str:
    """The removal that flips an error, and its predicted effect on the two losses."""
    before, after = (true - predicted for predicted, true in (flip.before, flip.after))
    now = (
        f"the loss of the true label “{item.label}” is {rounded(before)} nats above that of the "
        "predicted one"
    )
    if not len(flip.instances):
        return (
            f"No group of up to half of the {train_size:,} training items is predicted to flip this"
            f" error: {now}."
        )
    these = (
        "this training item"
        if len(flip.instances) == 1
        else f"these {len(flip.instances):,} training items"
    )
    noise = "error not known" if flip.std_error is None else f"± {rounded(flip.std_error)}"
    then = f"predicted to be {rounded(-after)} below it ({noise}) then"
    return (
        f"Taken at face value, removing {these} is predicted to flip this error to “{item.label}”: "
        f"{now}, and {then}."
    )


def caution_sentence(classes: int) -> str:
    """The limits of the prediction of a flip."""
    third = " Another label might win instead." if classes > 2 else ""
    return (
        "A prediction by sums of influences, not a retraining, and an optimistic one: influences "
        "are those of sub-networks, and what is left of the training items stands in for those "
        "that are gone. A whole network that is trained again moves far less, so count on "
        f"removing many more.{third}"
    )


def number(value: float) -> str:
    """A sum with its sign, to two digits."""
    return f"{'−' if value < 0 else '+'}{rounded(abs(value))}"


def _removed(run: Run, position: int) -> Removed:
    row = run.item("train", position)
    text = snippet(str(row["text"])) if run.kind == "text" else ""
    return Removed(
        str(row["id"]),
        run.classes[int(row["label"])],
        text,
        bytes(row["image"]) if run.kind == "image" else b"",
    )
