"""Retraining on what people decided, and what is kept of a cleansing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

import core.cleansing.results as results
from core import TurnoverError
from core.cleansing.choose import CONDITIONS, FLAGGED, NONE, RANDOM, WITH_FLAGS, Decisions, given_labels, kept_rows
from core.cleansing.results import keep_cleansing, read_cleansings
from core.cleansing.retraining import retrain
from core.cleansing.scores import FOLDER, Scores, has_scores, keep_scores, run_scores
from core.cleansing.summary import Retrained, summarise
from core.cli import main
from core.data.elec import load_elec
from core.estimators.estimator import Estimator
from core.flags import Flag, Flags
from core.influences import mean_influence
from core.pipeline.architecture import TextInputs
from core.pipeline.estimate import describe_targets
from core.pipeline.influence import compute_influence
from core.pipeline.model import item_features, load_model, run_settings, run_split
from core.pipeline.settings import TrainSettings
from core.pipeline.train import train_run
from core.runs import Run
from core.training import Split, accuracy, fit, item_losses
from tests.contracts.test_cleansing import MEASURED, SCORES, build, recipe
from tests.contracts.test_training import TRAIN, VALIDATION
from tests.helpers.builders import names, train_digits

CPU = torch.device("cpu")
DECIDED = Decisions(np.array([3, 11]), np.array([0, 7]), (TRAIN.labels[[0, 7]].numpy() + 1) % 3)


def flag(instance: int, action: str = "drop", label: str = "") -> Flag:
    return Flag(instance, action, label, "", "me", "2026")


# What people decided


def test_flags_drop_and_relabel_and_a_flag_to_keep_changes_nothing() -> None:
    flags = {4: flag(4), 2: flag(2, "relabel", "b"), 9: flag(9, "keep")}
    found = Decisions.of(flags, ["a", "b"], 10)
    assert (found.dropped.tolist(), found.relabelled.tolist(), found.labels.tolist()) == ([4], [2], [1])
    assert kept_rows(FLAGGED, np.zeros(10), 3, 0, found).tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    labels = np.zeros(10, np.int64)
    assert given_labels(FLAGGED, labels, found).tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert given_labels(RANDOM, labels, found) is labels and labels.sum() == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "no training item is flagged to drop or to relabel"),
        ({1: flag(1, "keep")}, "no training item is flagged to drop or to relabel"),
        ({10: flag(10)}, "flag on training item 10 does not fit"),
        ({1: flag(1, "relabel", "zebra")}, "flag on training item 1 does not fit"),
    ],
)
def test_flags_that_cannot_be_trained_on_are_refused(flags: dict[int, Flag], words: str) -> None:
    with pytest.raises(TurnoverError, match=words):
        Decisions.of(flags, ["a", "b"], 10)


def test_retraining_on_flags_is_plain_training_on_what_they_leave() -> None:
    (found,) = retrain(build, recipe, TRAIN, VALIDATION, MEASURED, SCORES, 6, [3], (FLAGGED,), DECIDED)
    rows = torch.tensor([row for row in range(30) if row not in (3, 11)])
    labels = TRAIN.labels.clone()
    labels[[0, 7]] = (labels[[0, 7]] + 1) % 3
    model = build(3)
    fit(model, Split(TRAIN.inputs[rows], labels[rows]), VALIDATION, recipe(3))
    losses = [float(item_losses(model, split).mean()) for split in (MEASURED, VALIDATION)]
    assert found == Retrained(FLAGGED, 3, accuracy(model, MEASURED), *losses)


def test_flags_change_no_other_condition() -> None:
    arguments = (build, recipe, TRAIN, VALIDATION, MEASURED, SCORES, 6, [0, 1])
    with_flags = list(retrain(*arguments, WITH_FLAGS, DECIDED))
    assert [one for one in with_flags if one.condition != FLAGGED] == list(retrain(*arguments, CONDITIONS))


# Intervals


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9))
def test_an_interval_is_scipy_s_and_excludes_zero_where_p_is_below_a_twentieth(differences: list[float]) -> None:
    none = [Retrained(NONE, seed, 0.5, 0.0, 0.0) for seed in range(len(differences))]
    own = [Retrained(RANDOM, seed, 0.5, value, 0.0) for seed, value in enumerate(differences)]
    (found,) = summarise(none + own)[1].against
    assert (found.accuracy_p, found.accuracy_interval) == (None, None)
    if np.ptp(differences) <= 1e-9:
        assert (found.loss_p, found.loss_interval) == (None, None)
        return
    expected = ttest_1samp(differences, 0)
    assert found.loss_interval == pytest.approx(tuple(expected.confidence_interval()), abs=1e-12)
    assert found.loss_interval is not None and found.loss_p is not None
    low, high = found.loss_interval
    assert low <= found.loss <= high
    assert (low > 0 or high < 0) == (found.loss_p < 0.05)


# Scores


@pytest.fixture(scope="module")
def estimated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with enough members for the estimator `best`."""
    folder = train_digits(tmp_path_factory.mktemp("runs") / "estimated", members=4, limit=100)
    compute_influence(Run(folder), device_choice="cpu")
    return folder


def test_scores_from_the_run_s_influence_are_those_computed_anew(estimated: Path) -> None:
    run = Run(estimated)
    scores, model = run_scores(run), load_model(run, CPU)
    targets = run_split(run, "validation", CPU)
    members = mean_influence(model, targets.inputs, targets.labels, np.arange(len(run.train))).numpy()
    shape = scores.estimator.shape_of(describe_targets(model, targets, item_features(model, targets.inputs)))
    values, errors = scores.estimator.apply(members[:, None], shape.mean(0, keepdims=True))
    for found, expected in zip(scores.estimates, (values[0], errors[0]), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert scores.targets == len(run.validation)


def test_a_sum_is_the_sum_of_the_scores_with_an_error_of_its_own(estimated: Path) -> None:
    scores = run_scores(Run(estimated))
    values, errors = scores.estimates
    some = np.array([3, 50, 7, 21])
    total, error = scores.total(some)
    assert total == pytest.approx(values[some].sum(), rel=1e-4)
    alone = scores.total(some[:1])
    assert alone == pytest.approx((values[3], errors[3]), rel=1e-3)
    assert error is not None and error > 0


def test_without_a_shape_the_members_own_sums_say_the_error() -> None:
    members = np.random.default_rng(0).standard_normal((5, 40)) + np.random.default_rng(1).standard_normal((5, 1))
    scores = Scores(members, None, Estimator("median", {}), 7)
    total, error = scores.total(np.arange(10))
    sums = members[:, :10].sum(1)
    assert (total, error) == pytest.approx((sums.mean(), sums.std(ddof=1) / 5**0.5))
    assert error is not None and error > np.sqrt(np.square(scores.estimates[1][:10]).sum())  # their errors are shared
    assert Scores(members[:1], None, Estimator("median", {}), 7).total(np.arange(3))[1] is None


def test_scores_of_another_domain_are_kept_and_refused_when_stale_or_damaged(run_copy: Path) -> None:
    run = Run(run_copy)
    with pytest.raises(TurnoverError, match="no influences on elec yet"):
        run_scores(run, "elec")
    assert has_scores(run, "validation") and not has_scores(run, "elec")
    own = run_scores(run)
    path = keep_scores(run, "elec", Scores(own.members, own.shape, own.estimator, 200, "some <folder>"))
    found = run_scores(Run(run_copy), "elec")
    assert (found.targets, found.path) == (200, "some <folder>")
    np.testing.assert_array_equal(found.estimates[0], own.estimates[0])
    compute_influence(Run(run_copy), "errors", "cpu")
    with pytest.raises(TurnoverError, match=r"influences were computed again since this was computed\. So compute them again"):
        run_scores(Run(run_copy), "elec")
    for content in (b"", b"PK\x03\x04 torn", path.read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(TurnoverError, match=r"elec\.npz: not readable as scores"):
            run_scores(Run(run_copy), "elec")


# The command


def cleansed(capsys: pytest.CaptureFixture[str], run: Path, *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["cleanse", "--run", str(run), "--fraction", "0.1", "--repeats", "2", "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_command_trains_on_flags_and_keeps_what_came_out(run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(run_copy)
    without = cleansed(capsys, run_copy)
    flags = Flags(run_copy)
    flags.put(5, "drop")
    flags.put(6, "keep")
    other = next(name for name in run.classes if name != run.classes[int(run.item("train", 7)["label"])])
    flags.put(7, "relabel", other)
    result = cleansed(capsys, run_copy, "--flags")
    assert [one["condition"] for one in result["conditions"]] == list(WITH_FLAGS)
    assert result["flags"] == {"dropped": 1, "relabelled": 1} and without["flags"] is None
    assert [one for one in result["models"] if one["condition"] != FLAGGED] == without["models"]
    assert [other["other"] for other in result["conditions"][-1]["against"]] == list(CONDITIONS)
    found, problems = read_cleansings(Run(run_copy))
    assert problems == [] and {one.name for one in found} == {"validation-0.1-2-seeds", "validation-0.1-2-seeds-flags"}
    kept = next(one for one in found if one.name == "validation-0.1-2-seeds-flags")
    assert kept.finished and not kept.stale and kept.seeds == dict.fromkeys(WITH_FLAGS, 2)
    assert kept.facts["removed_ids"] == result["removed_ids"]
    assert json.loads(json.dumps([asdict(one) for one in kept.conditions])) == result["conditions"]


def test_flags_that_leave_a_class_empty_are_one_line(run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(run_copy)
    Flags(run_copy).put_many(run.train.index[run.train["label"] == 4], "drop")
    assert main(["cleanse", "--run", str(run_copy), "--fraction", "0.1", "--flags"]) == 2
    assert "the flags take away every training item of class '4'" in capsys.readouterr().err
    assert read_cleansings(Run(run_copy)) == ([], [])


def test_models_are_kept_as_they_finish(run_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, bool]] = []
    real = keep_cleansing

    def looking(run: Run, result: dict[str, Any], finished: bool = True) -> Path:
        path = real(run, result, finished)
        (found,), _ = read_cleansings(run)
        seen.append((found.seeds.total(), found.finished))
        return path

    monkeypatch.setattr(results, "keep_cleansing", looking)
    cleansed(capsys, run_copy)
    assert seen == [*((count, False) for count in range(1, 7)), (6, True)]
    assert names(run_copy / FOLDER) == ["validation-0.1-2-seeds.json"]


def a_result(seeds: int) -> dict[str, Any]:
    """What `cleanse --json` prints of so many seeds."""
    models = [Retrained(name, seed, 0.5, 0.5 + 0.1 * seed, 0.5) for seed in range(seeds) for name in CONDITIONS]
    told = {"validation": "validation", "fraction": 0.1, "flags": None, "removed": 6, "repeats": seeds, "targets": 9, "measured_on": 9, "removed_ids": []}
    return told | {"conditions": [asdict(one) for one in summarise(models)], "models": [asdict(one) for one in models]}


def test_a_cleansing_of_fewer_seeds_does_not_take_the_place_of_one_of_more(run_copy: Path) -> None:
    run = Run(run_copy)
    for seeds in (8, 2, 2):
        keep_cleansing(run, a_result(seeds), finished=False)
        keep_cleansing(run, a_result(seeds))
    found, problems = read_cleansings(run)
    assert problems == [] and {one.name: one.seeds[NONE] for one in found} == {"validation-0.1-8-seeds": 8, "validation-0.1-2-seeds": 2}


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept["result"].pop("conditions"),
        lambda kept: kept["result"].update(removed="many"),
        lambda kept: kept["result"]["conditions"][0].update(loss="NaN"),
        lambda kept: kept["result"]["conditions"][1]["against"][0].update(loss_interval=[1]),
        lambda kept: kept["result"]["conditions"][0].update(condition="<b>"),
        lambda kept: kept["result"].update(flags={}),
        lambda kept: kept["result"].update(flags={"dropped": "<b>", "relabelled": 1}),
    ],
)
def test_a_damaged_result_is_named_and_hides_no_other(run_copy: Path, capsys: pytest.CaptureFixture[str], change: Any) -> None:
    run, result = Run(run_copy), a_result(2)
    path = keep_cleansing(run, result)
    keep_cleansing(run, result | {"fraction": 0.2})
    kept = json.loads(path.read_text())
    change(kept)
    path.write_text(json.dumps(kept))
    found, problems = read_cleansings(run)
    assert [one.name for one in found] == ["validation-0.2-2-seeds"]
    assert problems == [f"{path}: not readable as a cleansing; delete it, and retrain again"]


def test_scores_for_elec_are_computed_without_retraining(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "elec"
    folder.mkdir()
    for name in ("valid.csv", "test.csv"):
        (folder / name).write_text("text,label\nworks well and looks good,1\nbroke after a day,0\ngood sound,1\nnever buy this,0\n")
    run = tmp_path / "run"
    train_run(TrainSettings("reviews", limit=40, members=2), run, "cpu")
    compute_influence(Run(run), device_choice="cpu")
    capsys.readouterr()
    assert main(["cleanse", "--run", str(run), "--validation", "elec", "--path", str(folder), "--score-only", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": str(run), "validation": "elec", "targets": 4, "scored": 40}
    scores = run_scores(Run(run), "elec")
    reviews = load_elec(folder).validation
    inputs = torch.from_numpy(TextInputs(run_settings(Run(run)), CPU)(reviews.texts or []))
    expected = mean_influence(load_model(Run(run), CPU), inputs, torch.from_numpy(reviews.labels), np.arange(40))
    np.testing.assert_allclose(scores.members, expected, atol=1e-6)
    assert read_cleansings(Run(run)) == ([], [])
