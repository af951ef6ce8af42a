"""Influence of groups of training items on a mistake.

One influence is mostly noise, and where forty training items teach the same thing, each of them
alone matters little: the others would have taught it too. Their sum says more, and its standard
error grows far more slowly (`turnover.attribution.estimators.shrinkage`).

Sums rank groups; as predictions they are far too large. Influences are those of sub-networks, where
a mask doubles what is left on, and of items removed one by one: when a group goes, the remaining
items stand in for it. A whole network retrained without the group moves many times less; how many
times is measured (`turnover.explain.flips`). Choosing the largest *estimates* adds to that: `best`
is shrunk to allow for it; with `median` or one member the largest are too large by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnover.attribution.estimators.significance import freedom_of, trust_words
from turnover.data.tables.checks import read_lines
from turnover.errors import TurnoverError
from turnover.flags.flag_file import flags_on
from turnover.runs.ranking import finite, stored_estimator
from turnover.runs.run import Run

# Groups


@dataclass(frozen=True)
class Group:
    """Training items, by position in rising order, and what they have in common in a few words.

    `ranked`: chosen by their influences, so a comparison with random groups is meaningless.
    """

    name: str
    instances: np.ndarray
    ranked: bool = False


def containing(run: Run, words: str) -> Group:
    """All training texts in which `words` occur, case-insensitively.

    Raises:
        TurnoverError: for an image run, for no words, or if there is no such text.
    """
    if run.kind != "text":
        raise TurnoverError(
            f"{run.name} is an image run, so no training item contains words; choose groups by "
            "class, injected mark, flags or ids"
        )
    wanted = words.strip().casefold()
    if not wanted:
        raise TurnoverError("no words to look for; name some that training texts contain")
    matches = run.train["text"].astype(str).str.casefold().str.contains(wanted, regex=False)
    return _group(
        f"texts with “{words.strip()}”",
        matches.to_numpy(),
        f"no training text contains {words.strip()!r}; try fewer or shorter words",
    )


def of_class(run: Run, name: str) -> Group:
    """All training items with this label.

    Raises:
        TurnoverError: if there is no such class, or no item of it.
    """
    if name not in run.classes:
        raise TurnoverError(f"unknown class {name!r}; choose one of {', '.join(run.classes)}")
    return _group(
        f"class {name}",
        run.train["label"].to_numpy() == run.classes.index(name),
        f"no training item is labelled {name!r}",
    )


def injected_marks(run: Run) -> list[str]:
    """The injected marks that training items carry."""
    return sorted(mark for mark in run.train["planted"].astype(str).unique() if mark)


def injected(run: Run, mark: str) -> Group:
    """All training items with this injected mark.

    Raises:
        TurnoverError: if none has it.
    """
    marks = ", ".join(injected_marks(run)) or "none in this run"
    return _group(
        f"injected {mark}",
        run.train["planted"].to_numpy() == mark,
        f"no training item has the injected mark {mark!r}; there are: {marks}",
    )


def flagged(run: Run) -> Group:
    """All training items that are flagged to be dropped.

    Raises:
        TurnoverError: if none is, or the flags cannot be read.
    """
    dropped = [instance for instance, flag in flags_on(run).items() if flag.action == "drop"]
    return _group(
        "flagged to be dropped",
        np.isin(np.arange(len(run.train)), dropped),
        f"{run.folder}: no training item is flagged to be dropped; flag some on the Errors page",
    )


def listed(run: Run, path: Path) -> Group:
    """The training items whose ids a text file lists, one per line; empty lines are skipped.

    Raises:
        TurnoverError: if the file cannot be read, names no id, or one that no training item has.
    """
    names, ids = read_lines(path), run.train["id"].astype(str)
    known = {"", *ids}
    for number, name in enumerate(names, start=1):
        if name not in known:
            raise TurnoverError(
                f"{path}, line {number}: no training item has the id {name!r}; ids look like "
                f"{ids.iloc[0]!r}"
            )
    chosen = ids.isin(filter(None, names)).to_numpy()
    return _group(f"listed in {path.name}", chosen, f"{path}: names no id; write one a line")


def ends(run: Run, error: int, top: int) -> list[Group]:
    """The `top` proponents and opponents of a misclassified validation item's prediction; without
    an empty side.

    Raises:
        TurnoverError: if the run has no usable influence for this item.
    """
    ranked = run.influence.ranked(error, "prediction")
    sides = zip(("proponents", "opponents"), ranked.ends(top), strict=True)
    return [
        Group(f"top {len(indices)} {name}", np.sort(ranked.instances[indices]), ranked=True)
        for name, indices in sides
        if len(indices)
    ]


def _group(name: str, chosen: np.ndarray, otherwise: str) -> Group:
    if not chosen.any():
        raise TurnoverError(otherwise)
    return Group(name, np.flatnonzero(chosen))


# Sums


@dataclass(frozen=True)
class Sum:
    """A group's influence on a loss in nats, its standard error, and its trust word; the latter two
    None for one member.

    `random`: mean and standard deviation of the influence of all groups with as many items of each
    label; None where the group was chosen by its influences, or is the only such group.
    """

    influence: float
    std_error: float | None
    trust: str | None
    random: tuple[float, float] | None


MEANINGS = ("prediction", "truth")


class Summable:
    """The influences of all N training items on two losses, ready to be summed.

    `evidence` is the input of each estimate, as `RunInfluence.evidence` gives it, and `items` the
    estimates, `(N,)` each, made of it where they are not given.
    """

    def __init__(
        self,
        run: Run,
        evidence: dict[str, tuple[np.ndarray, np.ndarray]],
        items: dict[str, np.ndarray] | None = None,
    ) -> None:
        self.run, self.evidence, self.estimator = run, evidence, stored_estimator(run)
        self.items = items or {
            meaning: self.estimator.apply(*parts)[0][0] for meaning, parts in evidence.items()
        }

    def sums(self, groups: Sequence[Group], meaning: str) -> list[Sum]:
        """The groups' influences on the loss of the predicted label (`prediction`) or of the true
        one (`truth`).

        Trust words are for all groups together: of the strong ones, at most 5 % are expected to
        have the wrong sign.
        """
        if not groups:
            return []
        inside = self._inside([group.instances for group in groups])
        values, std_errors = (
            array[0] for array in self.estimator.group(*self.evidence[meaning], inside)
        )
        # a sum of medians has the spread of K sums
        masks = self.run.influence.manifest.get("masks")
        freedom = freedom_of(self.estimator.name, len(self.evidence[meaning][0]), masks)
        words = trust_words(values, std_errors, freedom=freedom)
        words = np.where(np.isfinite(std_errors), words, "")
        return [
            Sum(float(value), finite(error), str(word) or None, self._random(group, meaning))
            for group, value, error, word in zip(groups, values, std_errors, words, strict=True)
        ]

    def _inside(self, chosen: Sequence[np.ndarray]) -> np.ndarray:
        """Membership `(G, N)`."""
        inside = np.zeros((len(chosen), len(self.run.train)), bool)
        for row, instances in zip(inside, chosen, strict=True):
            row[instances] = True
        return inside

    def _random(self, group: Group, meaning: str) -> tuple[float, float] | None:
        """Mean and standard deviation of the influence of random groups with as many items of each
        label, drawn without replacement.
        """
        labels, values = self.run.train["label"].to_numpy(), self.items[meaning]
        counts, totals = (
            np.bincount(chosen, minlength=len(self.run.classes))
            for chosen in (labels[group.instances], labels)
        )
        if group.ranked or not (counts % np.maximum(totals, 1)).any():
            return None
        mean, variance = 0.0, 0.0
        for label in np.flatnonzero(counts):
            of_label, count = values[labels == label], counts[label]
            mean += count * of_label.mean()
            if len(of_label) > count:
                variance += count * (1 - count / len(of_label)) * of_label.var(ddof=1)
        return float(mean), float(variance**0.5)


class Mistake(Summable):
    """The influences on one misclassified validation item.

    Raises:
        TurnoverError: if the run has no usable influence for this item, or did not keep what sums
            need.
    """

    def __init__(self, run: Run, position: int) -> None:
        self.position, part = position, run.influence
        evidence = {meaning: part.evidence(position, meaning) for meaning in MEANINGS}
        items = None
        if part.manifest["layout"] == "full":
            rows = {meaning: part.ranked(position, meaning).values for meaning in MEANINGS}
            items = {name: row.astype(float) for name, row in rows.items()}
        super().__init__(run, evidence, items)


class MeanMistake(Summable):
    """The influences on the mean loss of all misclassified validation items that have influences:
    estimated as a target of its own.

    A training item has the same mask for all targets, so its errors on them are correlated, and the
    standard error of the mean does not follow from theirs; this one target has it. Nor is the
    estimate the mean of theirs: less of it is noise, so it is shrunk less.

    Raises:
        TurnoverError: if no mistake has usable influences, or the run did not keep what sums need.
    """

    def __init__(self, run: Run) -> None:
        if not run.influence.misclassified:
            raise TurnoverError(
                f"{run.folder}: no error has influences, so there is nothing to sum"
            )
        part = run.influence
        super().__init__(
            run, {meaning: part.evidence(part.misclassified, meaning) for meaning in MEANINGS}
        )
