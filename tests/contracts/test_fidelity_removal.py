"""Removal: what is measured is retraining done by hand, the truth is the best method, and chance is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import core.fidelity.removal as removal_module
import core.fidelity.retrained as retrained_module
from core import Run, TurnoverError
from core.fidelity.methods import evidence_of, turnover_scores
from core.fidelity.options import Options
from core.fidelity.removal import SAME_SIZE, SPEARMAN, Outcome, alike, figures_of, measure, proponents, retrained_without
from core.fidelity.subject import Subject
from core.pipeline.influence import compute_influence
from core.rivals.plain import plain_classifier
from core.training import epoch_order
from tests.helpers.builders import names, train_digits

SEEDS = 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = train_digits(tmp_path_factory.mktemp("runs") / "pixels", model="heads", limit=80, validation_limit=60)
    compute_influence(Run(folder))
    return folder


@pytest.fixture(scope="module")
def errors(trained: Path) -> Subject:
    return Subject.of(Run(trained), "cpu", 4, "prediction")


# The subject


def test_errors_are_explained_under_their_predicted_labels(errors: Subject) -> None:
    run, part = errors.run, errors.run.influence
    assert len(errors.positions) == 4 and set(errors.positions) <= set(run.errors)
    assert errors.targets.labels.tolist() == run.validation["predicted"].loc[errors.positions].tolist()
    evidence, seconds = evidence_of(errors)
    assert np.array_equal(evidence.values, part.array("prediction_members")[:, [part.errors.index(position) for position in errors.positions]])
    shown = {one.method: one.values for one in turnover_scores(evidence, seconds)}["turn-over, as shown"]
    for row, position in zip(shown, errors.positions, strict=True):
        np.testing.assert_allclose(row, part.ranked(position, "prediction").values, rtol=0, atol=1e-5)
    assert errors.asked != replace(errors, meaning="truth").asked


def test_a_run_without_errors_is_one_line(trained: Path) -> None:
    run = Run(trained)
    run.influence.errors.clear()
    with pytest.raises(TurnoverError, match=r"^[^\n]*no validation item with influences is misclassified, so there is no error to explain$"):
        Subject.of(run, "cpu", 4, "prediction")


# Retraining


def by_hand(errors: Subject, rows: np.ndarray, member: int, error: int) -> float:
    """Loss of an error's predicted label after training one plain model on some rows, a batch at a time."""
    model = plain_classifier(errors.untrained(SEEDS), member)
    optimizer = torch.optim.AdamW(model.parameters(), lr=errors.recipe.learning_rate, weight_decay=errors.recipe.weight_decay)
    inputs, labels = errors.train.inputs[rows], errors.train.labels[rows]
    for epoch in range(errors.epochs()):
        for batch in epoch_order(len(rows), errors.recipe.seed, member, epoch).split(errors.recipe.batch):
            loss = nn.functional.cross_entropy(model(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(errors.targets.inputs[error : error + 1]), errors.targets.labels[error : error + 1]))


def test_the_change_is_that_of_a_plain_loop(errors: Subject) -> None:
    error, removed = 2, proponents(np.random.default_rng(0).normal(size=(4, 80)), 15)
    before, (after,) = retrained_without(errors, [removed], SEEDS)
    everything = np.arange(80)
    left = np.array([row for row in everything if row not in removed[error]])
    expected = [by_hand(errors, left, member, error) - by_hand(errors, everything, member, error) for member in range(SEEDS)]
    np.testing.assert_allclose((after.losses - before.losses)[:, error], expected, rtol=0, atol=1e-3)
    assert np.abs(expected).min() > 1e-2


def test_the_same_items_are_trained_without_once(errors: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(1).normal(size=(4, 80))
    first, second = proponents(scores, 7), proponents(-scores, 7)
    before, (one,) = retrained_without(errors, [first], SEEDS)
    blocks = {name for folder in names(errors.run.folder / "fidelity") for name in names(errors.run.folder / "fidelity" / folder)}
    monkeypatch.setattr(retrained_module, "train_epoch", None)
    again, (same,) = retrained_without(errors, [first[:, ::-1]], SEEDS)
    assert np.array_equal(again.losses, before.losses) and np.array_equal(same.losses, one.losses)
    for changed in (([first, second], SEEDS), ([first], SEEDS + 1)):
        with pytest.raises(TypeError):  # others are trained anew
            retrained_without(errors, *changed)
    assert "everything-000.npy" in blocks


def test_what_is_removed_for_every_error_is_trained_without_once(errors: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = proponents(np.random.default_rng(2).normal(size=(4, 80)), 9)
    removed[2:] = removed[0, ::-1]
    seen: list[int] = []
    real = retrained_module._train_block

    def watch(few: Any, subject: Subject, rows: torch.Tensor, *rest: Any) -> Any:
        seen.append(len(rows))
        return real(few, subject, rows, *rest)

    monkeypatch.setattr(retrained_module, "_train_block", watch)
    before, (after,) = retrained_without(errors, [removed], SEEDS)
    assert seen[-1] == 2
    changes = after.losses - before.losses
    alone, (same,) = retrained_without(errors, [removed[[0, 0, 0, 0]]], SEEDS)
    np.testing.assert_allclose((same.losses - alone.losses)[:, [0, 2, 3]], changes[:, [0, 2, 3]], rtol=0, atol=1e-4)


# Whose items


def test_proponents_are_the_highest_scores() -> None:
    scores = np.array([[0.5, 2, -1, 2, 0], [-3, -2, -5, -4, -1.0]])
    assert proponents(scores, 3).tolist() == [[1, 3, 0], [4, 1, 0]]


@given(st.integers(0, 2**31), st.integers(1, 10))
def test_the_control_has_the_same_labels_and_more_holds_all_of_fewer(seed: int, count: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, 60)
    scores = np.random.default_rng(seed + 1).normal(size=(5, 60))
    few, many = (alike(proponents(scores, size), labels, seed) for size in (count, 2 * count))
    for row, drawn in enumerate(many):
        assert len(set(drawn)) == 2 * count and set(few[row]) <= set(drawn)
        assert sorted(labels[drawn]) == sorted(labels[proponents(scores, 2 * count)[row]])


def test_the_control_is_random() -> None:
    labels, removed = np.zeros(1000, int), np.tile(np.arange(500), (2, 1))
    drawn = alike(removed, labels, 0)
    assert len(np.intersect1d(drawn[0], removed[0])) == pytest.approx(250, abs=40)
    assert not np.array_equal(np.sort(drawn[0]), np.sort(drawn[1])) and not np.array_equal(alike(removed, labels, 1), drawn)


# Figures


def test_only_models_that_made_the_error_can_lose_it() -> None:
    losses = np.zeros((4, 3))
    before = Outcome(losses, np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 0]], bool))
    after = Outcome(losses, np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 1]], bool))
    assert after.flipped(before).tolist() == [0.25, 1.0]
    chances = np.log(np.array([[[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]]))
    made = Outcome.of(chances, np.array([1, 2]))
    np.testing.assert_allclose(made.losses, [[-np.log(0.5), -np.log(0.1)]])
    assert made.stands.tolist() == [[True, False]]


def additive(truth: np.ndarray, margin: float) -> Any:
    """Retraining in a world where removing an item adds so much to an error's loss, whatever else is removed; two classes."""

    def retrained(subject: Subject, sets: Mapping[str, np.ndarray], seeds: int, *_: Any) -> dict[str, np.ndarray]:
        made = {}
        for name, rows in sets.items():
            lost = truth.sum(1) - np.stack([truth[:, own].sum(1) for own in rows])
            loss = np.logaddexp(0, -margin) + lost
            made[name] = np.stack([np.stack([-loss, np.log(-np.expm1(-np.maximum(loss, 1e-9)))], 2)] * seeds)
        return made

    return retrained


def in_an_additive_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Figures of methods that know the truth, part of it, and nothing of it, for 40 errors."""
    rng = np.random.default_rng(0)
    truth = 0.02 * rng.normal(size=(40, 200))
    methods = {"truth": truth, "partly": truth + 0.02 * rng.normal(size=truth.shape), "chance": rng.normal(size=truth.shape), "contrary": -truth}
    run = SimpleNamespace(folder=tmp_path, train=range(200), manifest={"files": {"weights.safetensors": {"sha256": "abc"}}})
    targets = SimpleNamespace(labels=torch.zeros(40, dtype=torch.int64), inputs=None)
    subject = cast(Subject, SimpleNamespace(run=run, asked={}, epochs=lambda: 1, positions=list(range(40)), targets=targets))
    monkeypatch.setattr(removal_module, "retrained", additive(truth, 0.4))
    rows = {}
    for name, scores in methods.items():
        removed = {count: proponents(scores, count) for count in (5, 20, 60)}
        before, after = retrained_without(subject, list(removed.values()), 3)
        predicted = np.stack([np.take_along_axis(scores, own, 1).sum(1) for own in removed.values()], 1)
        rows[name] = figures_of(predicted, before, dict(zip(removed, after, strict=True)))
    return rows, truth


def test_the_truth_comes_out_best_and_chance_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows, truth = in_an_additive_world(monkeypatch, tmp_path)
    for count in (5, 20, 60):
        changes = [rows[name][f"change@{count}"].value for name in ("truth", "partly", "chance", "contrary")]
        assert changes == sorted(changes, reverse=True) and changes[1] > 2 * abs(changes[2]), changes
        assert changes[0] == pytest.approx(np.sort(truth, 1)[:, -count:].sum(1).mean())
        gone = [rows[name][f"flipped@{count}"].value for name in ("truth", "partly", "chance", "contrary")]
        assert gone == sorted(gone, reverse=True) and gone[3] == 0
    assert rows["truth"]["flipped@20"].value > 0.9 > 0.1 > rows["chance"]["flipped@20"].value
    for name in (SPEARMAN, SAME_SIZE):
        assert rows["truth"][name].value == pytest.approx(1)
        assert 0.3 < rows["partly"][name].value < 1
        assert abs(rows["chance"][name].value) < 0.25
        assert (rows["chance"][name].low or 0) < 0 < (rows["chance"][name].high or 0)


def test_a_method_that_predicts_nothing_and_few_errors_have_no_correlation() -> None:
    before, after = (Outcome(np.full((2, 3), loss), np.ones((2, 3), bool)) for loss in (0.5, 0.75))
    for predicted in (None, np.ones((3, 1))):
        figures = figures_of(predicted, before, {5: after})
        assert {name: figure.value for name, figure in figures.items()} == {"change@5": 0.25, "flipped@5": 0}
    nobody = Outcome(before.losses, ~before.stands)
    assert set(figures_of(None, nobody, {5: after})) == {"change@5"}


def test_more_than_half_is_refused(errors: Subject) -> None:
    with pytest.raises(TurnoverError, match=r"^--remove 41: the run has 80 training items; remove half of them at most$"):
        measure(errors, Options(removed=(5, 41)))
