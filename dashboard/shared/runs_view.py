"""View models on a run as a whole: the list of runs and the About page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnover.errors import counted
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
        f"averaged over {counted(results['members'], 'model')}, "
        f"{results['validation_accuracy']:.1%} accurate"
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
