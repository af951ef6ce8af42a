"""Claims: which training items a cause says taught a mistake, for `turnover.workflows.prove`.

- *cue*: all training items that carry the predicted label and have the cue.
- *teachers*: those of the strongest proponents that carry a doubtful label.
- any other cause names no items: then it is the `TOP` strongest proponents, and what is tested is
  that they taught the mistake, not whether the item's own label is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from turnover.errors import TurnoverError, counted
from turnover.explain.causes import Causes
from turnover.explain.cues import Sharing, predicted_item
from turnover.explain.groups import Group, ends
from turnover.explain.parts import patch_name
from turnover.explain.reasons import CUE, TEACHERS
from turnover.runs.ranking import TOP
from turnover.runs.run import Run


@dataclass(frozen=True)
class Claim:
    """That some training items taught an error.

    Attributes:
        error: its position among the validation items.
        items: positions of the training items, rising.
        words: what they are, for a person: “without …”.
        why: the sentence of the cause that says so; "" if none does.
    """

    error: int
    items: np.ndarray
    words: str
    why: str = ""


def why_claim(run: Run, found: Causes, error: int) -> Claim:
    """The claim that the cause of an error makes.

    Raises:
        TurnoverError: if the run has no influence on this error, or no training item a positive
            one.
    """
    cause = found.by_error[error]
    label = run.classes[int(run.item("validation", error)["predicted"])]
    if cause.kind == CUE:
        item = predicted_item(run, error)
        items = Sharing(run, [item]).carrying(item, cause.words, cause.regions)
        shared = (
            f"with “{' '.join(cause.words)}”"
            if cause.words
            else f"alike at {patch_name(cause.regions[0])}"
        )
        carrying = counted(len(items), f"“{label}” {run.kind}")
        return Claim(error, items, f"the {carrying} {shared}", cause.sentence)
    if cause.kind == TEACHERS:
        items = np.sort(np.array(cause.teachers))
        few = counted(len(items), "teacher")
        return Claim(error, items, f"its {few} with a label in doubt", cause.sentence)
    return top_claim(run, error, TOP, cause.sentence)


def top_claim(run: Run, error: int, top: int, why: str = "") -> Claim:
    """That the strongest proponents of an error taught it.

    Raises:
        TurnoverError: if the run has no influence on it, or no training item a positive one.
    """
    groups = [group for group in ends(run, error, top) if group.name.endswith("proponents")]
    if not groups:
        raise TurnoverError(
            f"{run.folder}: no training item pushed the model towards this mistake, so there is "
            "nothing to leave out; name items with --items"
        )
    items = groups[0].instances
    return Claim(error, items, f"its {counted(len(items), 'strongest teacher')}", why)


def group_claim(error: int, group: Group) -> Claim:
    """That a group of training items taught an error."""
    size = counted(len(group.instances), "training item")
    return Claim(error, group.instances, f"the {size} of “{group.name}”")


def items_claim(run: Run, error: int, ids: Sequence[str]) -> Claim:
    """That the training items with these ids taught an error.

    Raises:
        TurnoverError: for an id that no training item has, or none at all.
    """
    names = run.train["id"].astype(str)
    unknown = set(ids) - set(names)
    if unknown or not ids:
        raise TurnoverError(
            f"--items: no training item has the id {sorted(unknown)[0]!r}; ids look like "
            f"{names.iloc[0]!r}"
            if unknown
            else "--items: name one training item or more"
        )
    items = np.flatnonzero(names.isin(ids))
    this = f"{counted(len(items), 'training item')} ({', '.join(names.iloc[items[:3]])}"
    return Claim(error, items, f"{this}{', …' if len(items) > 3 else ''})")
