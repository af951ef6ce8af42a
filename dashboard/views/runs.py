"""Which runs there are, and what one is, in a line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from turnover.runs import Run, find_runs
from turnover.wording import counted

FIRST = "demo-reviews"
"""Shown first where it exists: its texts have planted causes, so the answers can be checked by eye."""


@dataclass(frozen=True)
class RunSummary:
    """A run in words: what it was made of, and how good it is."""

    name: str
    data: str
    sizes: str
    quality: str


def run_names(folder: Path) -> list[str]:
    """Names of the runs in a folder, the one to show first in front."""
    names = [path.name for path in find_runs(folder)]
    return sorted(names, key=lambda name: (name != FIRST, name))


def share_words(share: float | None, unknown: str = "unknown") -> str:
    """A share in percent; a word where it is not known, as of the plain twin of a model that was trained elsewhere."""
    return unknown if share is None else f"{share:.1%}"


def summarise(run: Run) -> RunSummary:
    """What a run is, in words."""
    results = run.manifest["results"]
    sizes = f"{results['train_size']:,} training and {results['validation_size']:,} validation {run.kind}s"
    quality = f"{counted(results['members'], 'member')}, {results['validation_accuracy']:.1%} accurate"
    return RunSummary(run.name, str(run.manifest["data"]["source"]), sizes, quality)
