"""A small work for every function that tasks may name: begun or gone on with in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.helpers.builders import checksums
from tests.helpers.token_builders import encoder_in, sst2_in
from turnover.models.registry import TrainSettings
from turnover.workflows.train import train_run

Work = Callable[[Path, str | None], dict[str, str]]
"""Does the work in a folder, on a cluster if given, and returns checksums of the result."""


def train_members(folder: Path, cluster: str | None = None, data: Path | None = None) -> Path:
    """A run of three deep members of tiny texts."""
    run, data = folder / "run", data or folder
    if not (data / "sst2").exists():
        sst2_in(data / "sst2")
        encoder_in(data / "encoder")
    settings = TrainSettings(
        "sst2",
        path=str(data / "sst2"),
        encoder=str(data / "encoder"),
        model="masked-encoder",
        limit=20,
        members=3,
        seed=4,
        epochs=3,
    )
    train_run(settings, run, "cpu", cluster)
    return run


def trained(folder: Path, cluster: str | None = None) -> dict[str, str]:
    return checksums(train_members(folder, cluster))


WORKS: dict[str, Work] = {"train": trained}
