"""A run as a whole in words: its name among others, its data, sizes and accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from turnover.errors import counted
from turnover.runs.run import Run, find_runs

FIRST = "demo-reviews"
"""Listed first if it exists: its texts have injected causes, so answers can be checked by eye."""


@dataclass(frozen=True)
class RunSummary:
    """A run in words: its data (of a path, the name), sizes and accuracy."""

    name: str
    data: str
    sizes: str
    quality: str


def run_names(folder: Path) -> list[str]:
    """Names of the runs in a folder, `FIRST` first."""
    names = [path.name for path in find_runs(folder)]
    return sorted(names, key=lambda name: (name != FIRST, name))


def summarise(run: Run) -> RunSummary:
    """Summarise a run in words."""
    results = run.manifest["results"]
    sizes = (
        f"{results['train_size']:,} training and {results['validation_size']:,} validation "
        f"{run.kind}s"
    )
    quality = f"{counted(results['members'], 'model')}, {results['validation_accuracy']:.1%} right"
    source = str(run.manifest["data"]["source"])
    return RunSummary(
        run.name, Path(source).name if source.startswith("/") else source, sizes, quality
    )
