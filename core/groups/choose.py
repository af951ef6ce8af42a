"""Which training items form a group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnover.errors import TurnoverError
from turnover.flags import Flags
from turnover.runs import Run


@dataclass(frozen=True)
class Group:
    """Training items, by position in rising order, and what they have in common in a few words.

    `ranked` says that they were chosen by their influences, so that comparing these with random ones means nothing.
    """

    name: str
    instances: np.ndarray
    ranked: bool = False


def containing(run: Run, words: str) -> Group:
    """All training texts in which `words` occur, as they stand there but for upper and lower case.

    Raises:
        TurnoverError: for an image run, for no words, or if there is no such text.
    """
    if run.kind != "text":
        raise TurnoverError(f"{run.name} is an image run, so no training item contains words; choose groups by class, planted mark, flags or ids")
    wanted = words.strip().casefold()
    if not wanted:
        raise TurnoverError("no words to look for; name some that training texts contain")
    found = run.train["text"].astype(str).str.casefold().str.contains(wanted, regex=False)
    return _group(f"texts with “{words.strip()}”", found.to_numpy(), f"no training text contains {words.strip()!r}; try fewer or shorter words")


def of_class(run: Run, name: str) -> Group:
    """All training items with this label.

    Raises:
        TurnoverError: if there is no such class, or no item of it.
    """
    if name not in run.classes:
        raise TurnoverError(f"unknown class {name!r}; choose one of {', '.join(run.classes)}")
    return _group(f"class {name}", run.train["label"].to_numpy() == run.classes.index(name), f"no training item is labelled {name!r}")


def planted_marks(run: Run) -> list[str]:
    """The planted marks that training items carry."""
    return sorted(mark for mark in run.train["planted"].astype(str).unique() if mark)


def planted(run: Run, mark: str) -> Group:
    """All training items with this planted mark.

    Raises:
        TurnoverError: if none has it.
    """
    marks = ", ".join(planted_marks(run)) or "none in this run"
    return _group(f"planted {mark}", run.train["planted"].to_numpy() == mark, f"no training item has the planted mark {mark!r}; there are: {marks}")


def flagged(run: Run) -> Group:
    """All training items that are flagged to be dropped.

    Raises:
        TurnoverError: if none is, or the flags cannot be read.
    """
    chosen = np.zeros(len(run.train), bool)
    chosen[[instance for instance, flag in Flags(run.folder).current().items() if flag.action == "drop" and instance < len(chosen)]] = True
    return _group("flagged to be dropped", chosen, f"{run.folder}: no training item is flagged to be dropped; flag some on the Errors page")


def listed(run: Run, path: Path) -> Group:
    """The training items whose ids a text file lists, one a line; empty lines are left out.

    Raises:
        TurnoverError: if the file cannot be read, names no id, or one that no training item has.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise TurnoverError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise TurnoverError(f"{path}: not UTF-8 text; write one id a line") from None
    positions = dict(zip(run.train["id"].astype(str), run.train["position"], strict=True))
    chosen = np.zeros(len(run.train), bool)
    for number, line in enumerate(lines, start=1):
        if name := line.strip():
            if name not in positions:
                raise TurnoverError(f"{path}, line {number}: no training item has the id {name!r}; ids look like {next(iter(positions))!r}")
            chosen[positions[name]] = True
    return _group(f"listed in {path.name}", chosen, f"{path}: names no id; write one a line")


def ends(run: Run, error: int, top: int) -> list[Group]:
    """The `top` proponents and opponents of a misclassified validation item's prediction; without a side on which there is none.

    Raises:
        TurnoverError: if the run has no usable influence for this item.
    """
    ranked = run.influence.ranked(error, "prediction")
    sides = zip(("proponents", "opponents"), ranked.ends(top), strict=True)
    return [Group(f"top {len(places)} {name}", np.sort(ranked.instances[places]), ranked=True) for name, places in sides if len(places)]


def _group(name: str, chosen: np.ndarray, otherwise: str) -> Group:
    if not chosen.any():
        raise TurnoverError(otherwise)
    return Group(name, np.flatnonzero(chosen))
