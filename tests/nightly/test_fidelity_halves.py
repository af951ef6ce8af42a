"""Models trained again on halves: each is the one that would be trained alone, and none twice."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import turnover.training.fit as training_module
import turnover.workflows.subsets as retrained_module
from tests.contracts.test_baselines_problems import check_close
from tests.helpers.builders import failing_after, member_heads, names, randn, train_digits
from tests.helpers.token_builders import grown, token_ensemble, token_rows
from turnover import Run, TurnoverError
from turnover.attribution.ensemble import Members, some_members
from turnover.attribution.scope import turnover
from turnover.data.sources import SOURCES
from turnover.models.heads import turnover_heads
from turnover.research.evaluate.task import EvaluationTask
from turnover.storage.artifacts import write_manifest
from turnover.training.fit import fit, item_losses
from turnover.training.history import History
from turnover.workflows.influence import compute_influence
from turnover.workflows.subsets import draw_halves, retrained_losses

SEEDS = 2
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of digits with influence."""
    folder = tmp_path_factory.mktemp("runs") / "pixels"
    train_digits(folder, model="heads", limit=80, validation_limit=60)
    compute_influence(Run(folder))
    return folder


@pytest.fixture
def task(trained: Path, tmp_path: Path, monkeypatch: Patch) -> EvaluationTask:
    """A run of one's own, with few epochs of several batches."""
    few = replace(SOURCES["digits"].recipe, batch=16)
    monkeypatch.setitem(SOURCES, "digits", replace(SOURCES["digits"], recipe=few))
    run = Run(Path(shutil.copytree(trained, tmp_path / "run")))
    facts = {name: run.manifest[name] for name in run.manifest if name not in ("files", "format")}
    facts["results"] |= {"kept_epoch": 4, "plain_kept_epoch": 3}
    write_manifest(run.folder, facts, list(run.manifest["files"]))
    return EvaluationTask.of(Run(run.folder), "cpu", 8)


def halves_of(task: EvaluationTask) -> np.ndarray:
    """Five halves of the training set."""
    return draw_halves(len(task.run.train), 5, 0)


TWICE = [0, 1, 2, 0, 1, 2]
PLACES = [(kind, some) for kind in ("heads", "pixels", "deep") for some in ([1], [2, 0])]


@pytest.mark.parametrize(("kind", "places"), [*PLACES, ("heads", TWICE), ("pixels", TWICE)])
def test_some_members_compute_what_they_did(kind: str, places: Sequence[int]) -> None:
    model: Members = member_heads()
    inputs = randn(4, 8)
    if kind == "deep":
        model, inputs = token_ensemble(), token_rows()
        grown(model)
    elif kind == "pixels":
        model = turnover_heads((1, 4, 4), 3, members=3, groups=4, seed=0).double()
        inputs = randn(4, 1, 4, 4)
    chosen = some_members(model, places)
    assert chosen.members == len(places)

    def outputs(of: Members) -> Tensor:
        with torch.no_grad():
            made = [of(inputs)]
            for flipped in (False, True):
                with turnover(torch.arange(4), flipped):
                    made.append(of(inputs))
        return torch.stack(made)

    before = outputs(model)
    check_close(outputs(chosen), before[:, list(places)])
    with torch.no_grad():
        for parameter in chosen.parameters():
            parameter.zero_()
    assert torch.equal(outputs(model), before), "no weights are shared"


def test_a_half_s_models_are_those_trained_alone(task: EvaluationTask, monkeypatch: Patch) -> None:
    """By `fit`, kept at the last epoch; whatever halves train beside it."""
    halves, together = halves_of(task), SimpleNamespace()
    together.losses = torch.from_numpy(retrained_losses(task, halves, SEEDS))
    assert together.losses.shape == (SEEDS, 5, 8)
    monkeypatch.setattr(History, "kept", property(lambda history: history.epochs - 1))
    recipe = replace(task.recipe, masked=False, epochs=3, patience=3)
    for number in (0, 3):
        model, rows = task.untrained(SEEDS), torch.from_numpy(halves[number])
        fit(model, task.train.take(rows), task.targets, recipe)
        check_close(together.losses[:, number], item_losses(model, task.targets), 1e-4)
    assert (together.losses[:, 0] - together.losses[:, 3]).abs().max() > 1e-2
    assert (together.losses[0] - together.losses[1]).abs().max() > 1e-2
    monkeypatch.setattr(retrained_module, "_TOGETHER", SEEDS)
    shutil.rmtree(task.run.folder / "fidelity")  # so that they are trained anew
    alone = torch.from_numpy(retrained_losses(task, halves, SEEDS))
    check_close(alone, together.losses, 1e-4)


def test_under_masks_each_row_has_its_own(task: EvaluationTask, monkeypatch: Patch) -> None:
    """An id is the item's place in the whole training set; epochs are those of the run."""
    seen, real, halves = list[Tensor](), training_module.turnover, halves_of(task)

    def watch(ids: Any, flipped: bool = False) -> Any:
        seen.append(torch.as_tensor(ids))
        return real(ids, flipped)

    monkeypatch.setattr(training_module, "turnover", watch)
    masked = retrained_losses(task, halves, SEEDS, masked=True)
    rows = torch.cat(seen, 1).view(5, SEEDS, 4, -1).sort(-1).values
    assert torch.equal(rows, torch.from_numpy(halves)[:, None, None].expand_as(rows))
    seen.clear()
    plain = retrained_losses(task, halves, SEEDS)
    assert not seen and np.abs(plain - masked).max() > 1e-2


def test_a_second_call_trains_nothing(task: EvaluationTask, monkeypatch: Patch) -> None:
    halves = halves_of(task)
    first = retrained_losses(task, halves, SEEDS)
    monkeypatch.setattr(retrained_module, "train_epoch", None)
    assert np.array_equal(retrained_losses(task, halves, SEEDS), first)
    for changed in ((halves, SEEDS + 1), (halves, SEEDS, True), (halves[:4], SEEDS)):
        with pytest.raises(TypeError):  # other settings train again
            retrained_losses(task, *changed)
    del task.run.manifest["results"]["plain_kept_epoch"]
    with pytest.raises(TurnoverError, match=r"^[^\n]*plain_kept_epoch[^\n]*train it again$"):
        retrained_losses(task, halves, SEEDS)


def test_it_goes_on_after_the_last_block(task: EvaluationTask, monkeypatch: Patch) -> None:
    """Blocks of 2, 2 and 1 halves, 3 epochs each."""
    halves, real = halves_of(task), retrained_module.train_epoch
    monkeypatch.setattr(retrained_module, "_TOGETHER", 2 * SEEDS)
    folder = Path(shutil.copytree(task.run.folder, task.run.folder.parent / "whole"))
    expected = retrained_losses(replace(task, run=Run(folder)), halves, SEEDS)
    cut = failing_after(5, real, KeyboardInterrupt())
    monkeypatch.setattr(retrained_module, "train_epoch", cut)
    with pytest.raises(KeyboardInterrupt):
        retrained_losses(task, halves, SEEDS)
    (folder,) = (task.run.folder / "fidelity").iterdir()
    assert names(folder) == ["block-000.npz", "block-sets.npz"]
    again = failing_after(7, real, AssertionError("the first block was trained again"))
    monkeypatch.setattr(retrained_module, "train_epoch", again)
    assert np.array_equal(retrained_losses(task, halves, SEEDS), expected)
