"""The demo runs: what `make run` opens and `bench demo` measures.

Torch is imported only when there is something to build, so a second `make run` starts at once.
"""

from __future__ import annotations

from pathlib import Path

DATA = ("digits", "reviews")


def demo_folder(folder: Path, data: str) -> Path:
    """Where the demo run of a data set lies in the runs folder."""
    return folder / f"demo-{data}"


def is_built(folder: Path, data: str) -> bool:
    """Whether a demo run is there with all that pages show; an earlier version kept no causes."""
    run_folder = demo_folder(folder, data)
    return all((run_folder / part).exists() for part in ("influence/manifest.json", "causes"))


def build_demo(folder: Path, data: str, device_choice: str | None = None) -> None:
    """Train one demo run, if it is not there, and compute its influences."""
    from turnover.models.registry import TrainSettings
    from turnover.runs.run import Run
    from turnover.workflows.influence import compute_influence
    from turnover.workflows.train import train_run

    run_folder = demo_folder(folder, data)
    if not run_folder.exists():
        train_run(TrainSettings(data), run_folder, device_choice)
    compute_influence(Run(run_folder), "validation", device_choice)
