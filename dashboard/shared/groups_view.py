"""The influence of groups of training items on an error, and the smallest group that flips it.

A group's influence is the sum of its members' influences on a loss, in nats. A group flips an error
if its sum, scaled by what retraining showed of such sums in this run, is as large as what the loss
of the predicted label has to rise before the true label wins.
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
from turnover.runs.proofs import Proof, proofs_of, read_proofs, scale_of
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
    """A group: its name, size, and influence on the predicted and on the true label.

    `option` are the options of `turnover prove` that name it, () where nobody says that it taught
    the error; `proof` what retraining without it showed.
    """

    name: str
    size: int
    prediction: Sum
    truth: Sum
    option: tuple[str, ...] = ()
    proof: Proof | None = None


@dataclass(frozen=True)
class Groups:
    """The view of an error's groups.

    Attributes:
        flip, caution: sentences on the flipping group and on the limits of the prediction.
        ids: of all items in the flipping group, of which `removed` are the first.
        rows: groups with their influences.
        missing: why the searched words form no group, or "".
    """

    flip: str
    caution: str
    ids: tuple[str, ...]
    removed: tuple[Removed, ...]
    rows: tuple[GroupRow, ...]
    missing: str


def build_groups(run: Run, item: ErrorItem, words: str = "") -> Groups:
    """The groups of an error: its top proponents and opponents, training texts that contain `words`
    (unless blank), and injected items by mark.

    Raises:
        TurnoverError: if the run has no usable influence for this item, or cannot sum influences.
    """
    proofs, missing = read_proofs(run)[0], ""
    mistake, chosen = Mistake(run, item.position), ends(run, item.position, TOP)
    options: list[tuple[str, ...]] = [
        ("--top", str(TOP)) if group.name.endswith("proponents") else () for group in chosen
    ]
    if words.strip():
        try:
            chosen.append(containing(run, words))
            options.append(("--containing", words.strip()))
        except TurnoverError as error:
            missing = str(error)
    marks = injected_marks(run)[:_MARKS]
    chosen += [injected(run, mark) for mark in marks]
    options += [("--injected", mark) for mark in marks]
    tested = {proof.items: proof for proof in proofs_of(proofs, item.position)}
    scale = scale_of(proofs)
    flip = None if scale is None else smallest_flip(mistake, scale)
    removed = [] if flip is None else flip.instances.tolist()
    return Groups(
        flip=flip_sentence(flip, item, len(run.train)),
        caution="" if scale is None else caution_sentence(scale, len(run.classes)),
        ids=tuple(run.train["id"].astype(str).iloc[removed]),
        removed=tuple(_removed(run, position) for position in removed[:_LISTED]),
        rows=tuple(
            GroupRow(
                name=group.name,
                size=len(group.instances),
                prediction=prediction,
                truth=truth,
                option=option,
                proof=tested.get(tuple(group.instances.tolist())),
            )
            for group, option, prediction, truth in zip(
                chosen, options, *(mistake.sums(chosen, each) for each in MEANINGS), strict=True
            )
        ),
        missing=missing,
    )


def flip_sentence(flip: Flip | None, item: ErrorItem, train_size: int) -> str:
    """The removal that flips an error, and its predicted effect; None where nothing was retrained
    yet.
    """
    if flip is None:
        return (
            "Not tested: how many training items it takes to flip this error is known once "
            "something was proved by retraining."
        )
    if not len(flip.instances):
        return (
            f"No group of up to half of the {train_size:,} training items is predicted to flip this"
            f" error, of which the model is {flip.before:.0%} sure."
        )
    these = (
        "this training item"
        if len(flip.instances) == 1
        else f"these {len(flip.instances):,} training items"
    )
    return (
        f"Removing {these} is predicted to flip this error to “{item.label}”: “{item.predicted}” "
        f"falls from {flip.before:.0%} to {flip.after:.0%}, and below {flip.level:.0%} "
        f"“{item.label}” wins."
    )


def caution_sentence(scale: float, classes: int) -> str:
    """What the prediction of a flip rests on."""
    third = " Another label might win instead." if classes > 2 else ""
    return (
        f"Sums of influences times {rounded(scale)}: so much of them did retraining show in this "
        f"run.{third}"
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
