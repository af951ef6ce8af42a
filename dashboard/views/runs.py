"""View models on a run as a whole: the list of runs, the Overview page and the About page.

The confusion matrix counts validation items by true class (rows) and predicted class (columns).
Starting points are a few errors worth reading first, of different pairs of classes where possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from turnover.dashboard.views.errors import ANY
from turnover.errors import counted
from turnover.explain.explanation import ErrorItem
from turnover.runs.ranking import TOP, clearness, known_answers
from turnover.runs.run import Run, find_runs

FIRST = "demo-reviews"
"""Listed first if it exists: its texts have injected causes, so answers can be checked by eye."""


@dataclass(frozen=True)
class RunSummary:
    """A run in words: its data, sizes and accuracy."""

    name: str
    data: str
    sizes: str
    quality: str


def run_names(folder: Path) -> list[str]:
    """Names of the runs in a folder, `FIRST` first."""
    names = [path.name for path in find_runs(folder)]
    return sorted(names, key=lambda name: (name != FIRST, name))


def share_words(share: float | None, unknown: str = "unknown") -> str:
    """A share in percent, or a word if it is unknown, as for a model trained elsewhere, which has
    no plain twin.
    """
    return unknown if share is None else f"{share:.1%}"


def summarise(run: Run) -> RunSummary:
    """Summarise a run in words."""
    results = run.manifest["results"]
    sizes = (
        f"{results['train_size']:,} training and {results['validation_size']:,} validation "
        f"{run.kind}s"
    )
    quality = (
        f"{counted(results['members'], 'member')}, {results['validation_accuracy']:.1%} accurate"
    )
    return RunSummary(run.name, str(run.manifest["data"]["source"]), sizes, quality)


# About page

HOW_TO_READ = (
    (
        "Positive, a proponent",
        (
            "Learning the training item lowered the loss of the label in question: it helps that "
            "label."
        ),
    ),
    ("Negative, an opponent", "Learning it raised that loss: it hurts the label."),
    (
        "Influence on the prediction",
        (
            "The label in question is the one that the model chose. For an error, its proponents "
            "are the training items that taught the mistake."
        ),
    ),
    (
        "Influence on the truth",
        (
            "The label in question is the true one. For an error, its opponents stand in the way of"
            " the right answer."
        ),
    ),
    (
        "Nats",
        (
            "The unit of cross-entropy with natural logarithms. 0.69 nats double or halve the "
            "probability of the label."
        ),
    ),
    (
        "± standard error",
        (
            "Over members: models that differ in masks, initialisation and the order of the "
            "batches. It does not say how another data set would do."
        ),
    ),
)
LIMITS = (
    (
        "An influence compares two halves of one network: one learned the item, one did not. It is "
        "no proof of cause, and other items may teach the same."
    ),
    (
        "Sums over groups of items say more than single items, since noise averages out; the Trust "
        "page says which single items can be read."
    ),
    (
        "Items that stand in for each other have a small influence each, though all of them "
        "together may decide an answer."
    ),
    (
        "Removing what hurts a validation set changes the model for that set; whether it helps "
        "elsewhere is what the Cleanse page measures, beside random removal."
    ),
    (
        "What instances share in spite of their masks leaks between the two halves; the run's leaks"
        " are listed below."
    ),
)


@dataclass(frozen=True)
class About:
    """Facts about the run: groups with a heading, of pairs of a name and a value as text."""

    groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    data_report: tuple[str, ...] = ()
    """Remarks on the data, one per line."""


def build_about(run: Run) -> About:
    """The provenance of a run, from its manifests."""
    manifest = run.manifest
    chosen = {**manifest["settings"], **(manifest["settings"].get("own") or {}), "own": None}
    settings = {name: value for name, value in chosen.items() if value not in (None, "", False)}
    data = [
        ("Name", manifest["data"].get("name")),
        ("Source", manifest["data"].get("source")),
        ("Fingerprint", manifest["data"].get("fingerprint")),
    ]
    creation = [
        ("Created", manifest.get("created")),
        ("Device", manifest.get("device")),
        ("Leaks", ", ".join(manifest.get("leaks", ()))),
        ("Masks that items share", manifest.get("masks")),
    ]
    groups = (
        ("Data", _known(data)),
        ("Settings", _known(sorted(settings.items()))),
        ("Recipe", _known(sorted(manifest["recipe"].items()))),
        (
            "Made",
            _known(
                [
                    *creation,
                    *(
                        (f"Seconds, {name}", seconds)
                        for name, seconds in manifest.get("timings", {}).items()
                    ),
                ]
            ),
        ),
        ("Versions", _known(manifest.get("versions", {}).items())),
        (
            "Files, SHA-256",
            _known((name, facts["sha256"]) for name, facts in manifest["files"].items()),
        ),
    )
    return About(
        tuple(group for group in groups if group[1]),
        tuple(map(str, manifest.get("data_report", ()))),
    )


def _known(pairs: Any) -> tuple[tuple[str, str], ...]:
    """Names and values as text, without unknown values."""
    return tuple((str(name), str(value)) for name, value in pairs if value not in (None, ""))


# Overview page

STARTS = 3


@dataclass(frozen=True)
class Confusion:
    """Counts `(C, C)` of validation items by true class (rows) and predicted class (columns)."""

    classes: tuple[str, ...]
    counts: np.ndarray

    @property
    def misclassified(self) -> np.ndarray:
        """The counts without the diagonal."""
        wrong: np.ndarray = self.counts - np.diag(np.diag(self.counts))
        return wrong

    @property
    def table(self) -> np.ndarray:
        """The counts with the misclassified items of each row in a last column, and of each column
        in a last row, `(C + 1, C + 1)`.
        """
        wrong = self.misclassified
        right = np.append(wrong.sum(1), wrong.sum())[:, None]
        return np.hstack([np.vstack([self.counts, wrong.sum(0)]), right])

    @property
    def options(self) -> list[str]:
        """The choices of a true or predicted class, in the order of the table; the last is any."""
        return [*self.classes, ANY]

    @property
    def alt(self) -> str:
        """The table in words: the most frequent confusions."""
        wrong = self.misclassified
        most = [
            divmod(int(cell), len(self.classes))
            for cell in np.argsort(-wrong, axis=None, kind="stable")[:STARTS]
        ]
        confusions = [
            f"{self.classes[true]} taken for {self.classes[predicted]}, {wrong[true, predicted]:,}"
            for true, predicted in most
            if wrong[true, predicted]
        ]
        return (
            f"Confusion matrix of {self.counts.sum():,} validation items, {wrong.sum():,} of them "
            f"wrong. {'Most often: ' if confusions else ''}{'; '.join(confusions)}"
        )

    def chosen(self, true: str, predicted: str) -> str:
        """What a cell, a row or a column counts, in a sentence."""
        of_class = f" of class “{true}”" if true != ANY else ""
        taken = f" taken for “{predicted}”" if predicted != ANY else ""
        if true == predicted != ANY:
            right = self.classes.index(true)
            return (
                f"Right answers: {self.counts[right, right]:,} of class “{true}”. Choose another "
                "cell to see errors."
            )
        count = self.behind(true, predicted)
        return (
            f"{counted(count, 'error')}{of_class}{taken}."
            if count
            else f"No error{of_class}{taken}."
        )

    def behind(self, true: str, predicted: str) -> int:
        """How many misclassified items a cell, a row or a column has."""
        rows, columns = (
            slice(None) if name == ANY else slice(index := self.classes.index(name), index + 1)
            for name in (true, predicted)
        )
        return int(self.misclassified[rows, columns].sum())


def build_confusion(run: Run) -> Confusion:
    """The confusion matrix of a run's validation items."""
    counts = np.zeros((len(run.classes), len(run.classes)), np.int64)
    np.add.at(
        counts, (run.validation["label"].to_numpy(), run.validation["predicted"].to_numpy()), 1
    )
    return Confusion(tuple(run.classes), counts)


@dataclass(frozen=True)
class Start:
    """An error to begin with, and the reason for it."""

    item: ErrorItem
    why: str


def starting_points(
    run: Run, errors: Sequence[ErrorItem], with_influence: bool
) -> tuple[Start, ...]:
    """`STARTS` errors, of different pairs of classes where possible: the clearest explanation
    first, or without influence the most confident prediction first.
    """
    order = list(errors) if with_influence else sorted(errors, key=lambda item: -item.probability)
    firsts = {(item.label, item.predicted): item for item in reversed(order)}
    different = [item for item in order if firsts[item.label, item.predicted] is item]
    others = [item for item in order if firsts[item.label, item.predicted] is not item]
    known = frozenset(run.influence.misclassified) if with_influence else frozenset()
    return tuple(
        Start(item, _why(run, item, errors, item.position in known))
        for item in (different + others)[:STARTS]
    )


def _why(run: Run, item: ErrorItem, errors: Sequence[ErrorItem], explained: bool) -> str:
    like = sum((error.label, error.predicted) == (item.label, item.predicted) for error in errors)
    which = (
        f"{f'One of {like:,} errors that take' if like > 1 else 'The only error that takes'} "
        f"“{item.label}” for “{item.predicted}”"
    )
    if not explained:
        return f"{which}. The model is sure of it: {item.probability:.0%}."
    if injected := known_answers(run, item.position):
        return (
            f"{which}. Its cause is known: {injected} of its {TOP} strongest proponents carry the "
            "mark that was injected in it."
        )
    many = int(run.manifest["results"]["members"]) > 1
    measure = (
        "standard errors away from zero"
        if many
        else "standard deviations of a random training item’s influence"
    )
    return (
        f"{which}. Its explanation is clear: the {TOP} clearest proponents are "
        f"{clearness(run, item.position):.1f} {measure} on average."
    )
