"""A small work for every function that tasks may name: begun or gone on with in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

import turnover.workflows.influence as influence_workflow
from tests.helpers.builders import checksums
from tests.helpers.token_builders import encoder_in, sst2_in
from turnover.models.registry import TrainSettings
from turnover.runs.run import Run
from turnover.workflows.train import train_run

Work = Callable[[Path, str | None], dict[str, str]]
"""Does the work in a folder, on a cluster if given, and returns checksums of the result."""


@cache
def data_folder() -> Path:
    """A folder with tiny texts and an encoder of them."""
    folder = Path(mkdtemp(prefix="turnover-works-"))
    sst2_in(folder / "sst2")
    encoder_in(folder / "encoder")
    return folder


def train_members(run: Path, cluster: str | None = None) -> Path:
    """A run of three deep members of tiny texts."""
    data = data_folder()
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


@cache
def a_run() -> Path:
    """Such a run, to be copied."""
    return train_members(Path(mkdtemp(prefix="turnover-works-")) / "run")


def copied(folder: Path) -> Run:
    """That run, in a folder."""
    if not (folder / "run").exists():
        shutil.copytree(a_run(), folder / "run")
    return Run(folder / "run")


def trained(folder: Path, cluster: str | None = None) -> dict[str, str]:
    return checksums(train_members(folder / "run", cluster))


def influenced(folder: Path, cluster: str | None = None) -> dict[str, str]:
    """In chunks of two targets."""
    run = copied(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(influence_workflow, "_FEW", 2)
        influence_workflow.compute_influence(
            run, device_choice="cpu", memory=2**28, cluster=cluster
        )
    assert not (run.folder / ".influence.partial").exists()
    return checksums(run.folder / "influence")


WORKS: dict[str, Work] = {"train": trained, "influence": influenced}
