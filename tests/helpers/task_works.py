"""A small work for every function that tasks may name: begun or gone on with in a folder."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch

import turnover.workflows.influence as influence_workflow
from tests.helpers.builders import checksums
from tests.helpers.token_builders import encoder_in, sst2_in
from turnover.models.registry import TrainSettings
from turnover.research.evaluate.task import EvaluationTask
from turnover.runs.run import Run
from turnover.workflows.cleanse import cleanse, prepare
from turnover.workflows.subsets import draw_halves, retrained_losses
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
    settings = TrainSettings.of(
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
    """Such a run with influence, to be copied."""
    run = train_members(Path(mkdtemp(prefix="turnover-works-")) / "run")
    influence_workflow.compute_influence(Run(run), device_choice="cpu")
    return run


def copied(folder: Path) -> Run:
    """That run, with influence, in a folder."""
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


def cleanse_command(run: Path, repeats: int = 2) -> list[str]:
    """Three models for each repeat, as a command."""
    shares = ["--fraction", ".2", "--repeats", str(repeats)]
    return ["cleanse", "--run", str(run), *shares, "--device", "cpu"]


def cleansed(folder: Path, cluster: str | None = None) -> dict[str, str]:
    """Three conditions from two seeds."""
    prepared = prepare(copied(folder), device_choice="cpu")
    result = cleanse(prepared, [0.2], 2, cluster=cluster)
    assert not (folder / "run" / ".cleanse.partial").exists()
    return {name: str(result[name]) for name in ("models", "conditions", "removed_ids")}


def retrained(folder: Path, cluster: str | None = None) -> dict[str, str]:
    """Four halves, two seeds each."""
    run = copied(folder)
    task = EvaluationTask(run, torch.device("cpu"), [0, 1, 2], cluster=cluster)
    halves = draw_halves(len(run.train), 4, 0)
    losses = retrained_losses(task, halves, 2)
    return {"losses": hashlib.sha256(losses.tobytes()).hexdigest()}


WORKS: dict[str, Work] = {
    "train": trained,
    "influence": influenced,
    "cleanse": cleansed,
    "retrain": retrained,
}
