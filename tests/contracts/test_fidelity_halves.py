"""Models trained again on halves: each is the one that would be trained alone, whatever trains beside it, and none is trained twice."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import core.fidelity.halves as halves_module
import core.fidelity.retrained as retrained_module
import core.training as training_module
from core import Run, TurnoverError
from core.fidelity.halves import draw_halves, retrained_losses
from core.fidelity.members import some_members
from core.fidelity.subject import Subject
from core.models.members import Members
from core.models.pixels import pixel_heads
from core.pipeline.influence import compute_influence
from core.pipeline.settings import RECIPES
from core.runs import write_manifest
from core.scope import turnover
from core.training import History, Split, fit, item_losses
from tests.helpers.builders import failing_after, member_heads, names, randn, train_digits
from tests.helpers.token_builders import grown, token_ensemble, token_rows

SEEDS = 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = train_digits(tmp_path_factory.mktemp("runs") / "pixels", model="heads", limit=80, validation_limit=30)
    compute_influence(Run(folder))
    return folder


@pytest.fixture
def subject(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    """A run of one's own, with few epochs of several batches."""
    monkeypatch.setitem(RECIPES, "digits", replace(RECIPES["digits"], batch=16))
    run = Run(Path(shutil.copytree(trained, tmp_path / "run")))
    facts = {name: value for name, value in run.manifest.items() if name not in ("files", "format")}
    facts["results"] |= {"kept_epoch": 4, "plain_kept_epoch": 3}
    write_manifest(run.folder, facts, list(run.manifest["files"]))
    return Subject.of(Run(run.folder), "cpu", 8)


def halves_of(subject: Subject, count: int = 5) -> np.ndarray:
    return draw_halves(len(subject.run.train), count, 0)


# Members


_OFTEN = [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("kind", "places"), [*((kind, places) for kind in ("heads", "pixels", "deep") for places in ([1], [2, 0])), ("heads", _OFTEN), ("pixels", _OFTEN)]
)
def test_some_members_compute_what_they_did(kind: str, places: Sequence[int]) -> None:
    model: Members
    if kind == "deep":
        model, inputs = token_ensemble(), token_rows()
        grown(model)
    elif kind == "pixels":
        model, inputs = pixel_heads((1, 4, 4), 3, members=3, groups=4, seed=0).double(), randn(4, 1, 4, 4)
    else:
        model, inputs = member_heads(), randn(4, 8)
    ids, chosen = torch.arange(4), some_members(model, places)
    assert chosen.members == len(places)

    def outputs(of: Members) -> list[Tensor]:
        with torch.no_grad():
            made = [of(inputs)]
            for flipped in (False, True):
                with turnover(ids, flipped):
                    made.append(of(inputs))
        return made

    before = outputs(model)
    for made, known in zip(outputs(chosen), before, strict=True):
        torch.testing.assert_close(made, known[list(places)], rtol=0, atol=1e-12)
    with torch.no_grad():
        for parameter in chosen.parameters():
            parameter.zero_()
    for made, known in zip(outputs(model), before, strict=True):
        assert torch.equal(made, known), "no weights are shared"


# Training


def alone(subject: Subject, rows: np.ndarray, epochs: int, patch: pytest.MonkeyPatch) -> Tensor:
    """Losses `(SEEDS, T)` of the members trained by `fit` on some rows alone, kept at the last epoch."""
    model, chosen = subject.untrained(SEEDS), torch.from_numpy(rows)
    train = Split(subject.train.inputs[chosen], subject.train.labels[chosen])
    patch.setattr(History, "kept", property(lambda history: history.epochs - 1))
    fit(model, train, subject.targets, replace(subject.recipe, masked=False, epochs=epochs, patience=epochs))
    return item_losses(model, subject.targets)


def test_a_half_s_models_are_those_trained_alone(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    halves = halves_of(subject)
    losses = torch.from_numpy(retrained_losses(subject, halves, SEEDS))
    assert losses.shape == (SEEDS, 5, 8)
    for number in (0, 3):
        torch.testing.assert_close(losses[:, number], alone(subject, halves[number], 3, monkeypatch), rtol=0, atol=1e-4)
    assert (losses[:, 0] - losses[:, 3]).abs().max() > 1e-2
    assert (losses[0] - losses[1]).abs().max() > 1e-2


def test_a_half_does_not_depend_on_the_halves_beside_it(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    halves = halves_of(subject)
    together = retrained_losses(subject, halves, SEEDS)
    monkeypatch.setattr(retrained_module, "_TOGETHER", SEEDS)
    monkeypatch.setattr(halves_module, "Store", lambda run, name, settings: Stored())
    np.testing.assert_allclose(retrained_losses(subject, halves, SEEDS), together, rtol=0, atol=1e-4)


def test_with_turnover_dropout_each_row_has_its_own_mask(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    real = training_module.turnover

    def watch(ids: Any, flipped: bool = False) -> Any:
        seen.append(torch.as_tensor(ids))
        return real(ids, flipped)

    monkeypatch.setattr(training_module, "turnover", watch)
    halves = halves_of(subject)
    masked = retrained_losses(subject, halves, SEEDS, masked=True)
    epochs = 4  # those of the run, not of its plain twin
    rows = torch.cat(seen, 1).view(5, SEEDS, epochs, -1).sort(-1).values
    assert torch.equal(rows, torch.from_numpy(halves)[:, None, None].expand_as(rows)), "an id is the item's place in the whole training set"
    seen.clear()
    plain = retrained_losses(subject, halves, SEEDS)
    assert not seen and np.abs(plain - masked).max() > 1e-2


# Kept


class Stored:
    """A store of nobody else's."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def filling(self) -> AbstractContextManager[None]:
        return nullcontext()

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def keep(self, name: str, array: np.ndarray) -> None:
        self.arrays[name] = array

    def load(self, name: str) -> tuple[np.ndarray, dict[str, Any]]:
        return self.arrays[name], {}


def test_a_second_call_trains_nothing_and_gives_the_same_bits(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    halves = halves_of(subject)
    first = retrained_losses(subject, halves, SEEDS)
    monkeypatch.setattr(retrained_module, "train_epoch", None)
    assert np.array_equal(retrained_losses(subject, halves, SEEDS), first)
    for changed in ((halves, SEEDS + 1, False), (halves, SEEDS, True), (halves[:4], SEEDS, False)):
        with pytest.raises(TypeError):  # other settings train again
            retrained_losses(subject, *changed)


def test_an_interrupted_call_goes_on_after_the_last_block(subject: Subject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    halves = halves_of(subject)
    monkeypatch.setattr(retrained_module, "_TOGETHER", 2 * SEEDS)  # blocks of 2, 2 and 1 halves, 3 epochs each
    whole = Subject(Run(Path(shutil.copytree(subject.run.folder, tmp_path / "whole"))), subject.device, subject.positions)
    expected = retrained_losses(whole, halves, SEEDS)
    real = retrained_module.train_epoch
    monkeypatch.setattr(retrained_module, "train_epoch", failing_after(5, real, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        retrained_losses(subject, halves, SEEDS)
    (folder,) = (subject.run.folder / "fidelity").iterdir()
    assert names(folder) == ["block-000.npy", "manifest.json"]
    monkeypatch.setattr(retrained_module, "train_epoch", failing_after(7, real, AssertionError("the first block was trained again")))
    assert np.array_equal(retrained_losses(subject, halves, SEEDS), expected)


def test_a_run_that_does_not_say_its_epochs_is_one_line(subject: Subject) -> None:
    del subject.run.manifest["results"]["plain_kept_epoch"]
    with pytest.raises(TurnoverError, match=r"^[^\n]*plain_kept_epoch[^\n]*train it again$"):
        retrained_losses(subject, halves_of(subject), SEEDS)
