"""Groups of training items on the mistakes of a run, and what flips each mistake, as `turnover groups` prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from turnover.errors import TurnoverError
from turnover.groups.choose import Group, ends
from turnover.groups.flip import Flip, smallest_flip
from turnover.groups.sums import MEANINGS, Mistake
from turnover.ranking import clearest_first, content_of
from turnover.runs import Run


def group_influences(run: Run, groups: Sequence[Group], ids: Sequence[str] = (), top: int = 10) -> dict[str, Any]:
    """Influence of groups on a run's mistakes, and the smallest group that flips each.

    Args:
        run: with influence.
        groups: for all mistakes; each mistake's own top proponents and opponents are added.
        ids: of the mistakes; all that have influences, clearest first, where none is named.
        top: how many proponents and opponents make up these two.

    Raises:
        TurnoverError: for an id that is no mistake, or a run that cannot sum influences.
    """
    positions = [_position(run, name) for name in ids] or clearest_first(run)
    entries = [_entry(run, position, groups, top) for position in positions]
    sizes = [entry["flip"]["removed"] for entry in entries if entry["flip"]["removed"]]
    flips = {"errors": len(entries), "predicted": len(sizes), "median_removed": float(np.median(sizes)) if sizes else None}
    return {"run": str(run.folder), "estimator": run.influence.estimator, "train_size": len(run.train), "errors": entries, "flips": flips}


def _position(run: Run, name: str) -> int:
    """The position of a mistake."""
    found = run.validation.index[run.validation["id"].astype(str) == name]
    if not len(found):
        raise TurnoverError(f"no validation item has the id {name!r}; `turnover errors --run {run.folder}` lists the misclassified ones")
    position = int(found[0])
    if position not in run.errors:
        raise TurnoverError(f"validation item {name!r} is not misclassified; `turnover errors --run {run.folder}` lists those that are")
    return position


def _entry(run: Run, position: int, groups: Sequence[Group], top: int) -> dict[str, Any]:
    """One mistake: what it is, what each group did to it, and what flips it."""
    item, classes = run.item("validation", position), run.classes
    mistake, all_groups = Mistake(run, position), [*ends(run, position, top), *groups]
    sums = {meaning: mistake.sums(all_groups, meaning) for meaning in MEANINGS}
    told = [
        {"name": group.name, "size": len(group.instances), **{meaning: vars(sums[meaning][place]) for meaning in MEANINGS}}
        for place, group in enumerate(all_groups)
    ]
    return {
        "id": str(item["id"]),
        "label": classes[int(item["label"])],
        "predicted": classes[int(item["predicted"])],
        "planted": str(item["planted"]),
        **content_of(run, position, "validation"),
        "groups": told,
        "flip": _flip(run, smallest_flip(mistake)),
    }


def _flip(run: Run, flip: Flip) -> dict[str, Any]:
    losses = {name: {"predicted": pair[0], "true": pair[1]} for name, pair in (("losses", flip.before), ("losses_after", flip.after))}
    return {"removed": len(flip.instances), "ids": run.train["id"].astype(str).iloc[flip.instances].tolist(), **losses, "margin_error": flip.standard_error}
