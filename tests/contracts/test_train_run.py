"""From data to a run folder: right numbers, and settings that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core import Run, TurnoverError
from core.data.base import WRONG_LABEL
from core.data.digits import load_digits
from core.data.images import png_pixels
from core.pipeline.model import load_model, split_inputs
from core.pipeline.settings import TrainSettings
from core.pipeline.train import train_run
from core.runs import RUN_FILES, find_runs
from core.training import Split, accuracy, item_losses
from tests.helpers.builders import SMALL_RUN, checksums, names, train_digits

CPU = torch.device("cpu")
RESULTS = ("train_size", "validation_size", "validation_accuracy", "validation_loss", "masked_loss", "flipped_loss", "epochs", "plain_accuracy")


# What a run holds


def test_a_run_holds_what_its_command_prints(small_run: Path) -> None:
    manifest = Run(small_run).manifest
    results = manifest["results"]
    assert set(RESULTS) <= set(results)
    assert (results["train_size"], results["validation_size"], results["members"], results["device"]) == (60, 597, 2, "cpu")
    assert manifest["settings"] | {} == TrainSettings(**SMALL_RUN).resolved("image").__dict__
    assert manifest["recipe"]["seed"] == SMALL_RUN["seed"]
    assert set(manifest) >= {"created", "data", "versions", "timings", "leaks", "device", "classes", "kind"}
    assert manifest["leaks"] == ["the convolutions before the first mask", "the output bias"]


def test_a_run_folder_holds_its_files_and_no_others(small_run: Path) -> None:
    assert names(small_run) == sorted([*RUN_FILES, "manifest.json", "influence"])
    assert find_runs(small_run.parent) == [small_run]


def test_items_are_the_data_with_its_planted_labels(small_run: Path) -> None:
    run, data = Run(small_run), load_digits()
    train = run.train
    rows = [data.train.ids.index(name) for name in train["id"]]
    assert np.array_equal(train["true_label"], data.train.labels[rows])
    wrong = train["label"] != train["true_label"]
    assert wrong.sum() == 3
    assert np.array_equal(train["planted"] == WRONG_LABEL, wrong)
    assert list(run.validation["id"]) == data.validation.ids
    assert np.array_equal(run.validation["label"], data.validation.labels)
    assert (run.validation["planted"] == "").all()
    for row, content in zip(rows[:5], train["image"], strict=False):
        assert np.array_equal(png_pixels(content), data.train.images[row])  # type: ignore[index]


def test_the_model_of_a_run_is_the_one_that_its_numbers_come_from(small_run: Path) -> None:
    run = Run(small_run)
    model, results = load_model(run, CPU), run.manifest["results"]
    validation = Split(split_inputs(run, "validation", list(range(597)), CPU), torch.tensor(run.validation["label"].tolist()))
    train = Split(split_inputs(run, "train", list(range(60)), CPU), torch.tensor(run.train["label"].tolist()))
    assert accuracy(model, validation) == results["validation_accuracy"] == pytest.approx(1 - len(run.errors) / 597)
    assert float(item_losses(model, validation).mean()) == pytest.approx(results["validation_loss"], rel=1e-5)
    for flipped, name in enumerate(("masked", "flipped")):
        losses = item_losses(model, train, torch.arange(60), bool(flipped)).mean(0).numpy()
        assert losses.mean() == pytest.approx(results[f"{name}_loss"], rel=1e-5)
        np.testing.assert_allclose(run.array("item_losses")[flipped, results["kept_epoch"] - 1], losses, rtol=1e-4, atol=1e-6)
    for split, rows in (("train", train), ("validation", validation)):
        np.testing.assert_allclose(run.features(split), model.features(rows.inputs).transpose(0, 1).flatten(1).detach(), rtol=1e-4, atol=1e-5)
    assert not model.training


def test_curves_have_one_row_an_epoch(small_run: Path) -> None:
    run = Run(small_run)
    curves, results = run.curves, run.manifest["results"]
    assert list(curves["epoch"]) == list(range(1, results["epochs"] + 1))
    kept = curves.iloc[results["kept_epoch"] - 1]
    for name in ("masked", "flipped", "validation", "unowned"):
        assert kept[name] == results[f"{name}_loss"]
    assert kept["accuracy"] == results["validation_accuracy"]
    assert run.array("item_losses").shape == (2, results["epochs"], 60)
    np.testing.assert_allclose(run.array("item_losses").mean(2), curves[["masked", "flipped"]].to_numpy().T, rtol=1e-5)


def test_another_seed_gives_another_run(small_run: Path, tmp_path: Path) -> None:
    """In every file; that the same seed gives the same run is tested with interruptions below."""
    other = checksums(train_digits(tmp_path / "other", seed=5))
    assert {name for name, value in checksums(small_run).items() if other[name] != value} == set(RUN_FILES)


# Settings that cannot be


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"members": 0}, "--members 0: choose 1 or more"),
        ({"members": -2}, "--members -2: choose 1 or more"),
        ({"limit": 1}, "--limit 1: choose a number from 2 to the 1200 training items"),
        ({"limit": 5000}, "--limit 5000"),
        ({"label_noise": 1.0}, "--label-noise 1.0"),
        ({"groups": 7}, "7 groups do not divide a width of 64"),
        ({"groups": -1}, "-1 groups do not divide"),
        ({"data": "imagenet"}, "unknown data set 'imagenet'"),
        ({"path": "somewhere"}, "leave --path out"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_leave_nothing_behind(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=reason):
        train_run(TrainSettings(**{**SMALL_RUN, **change}), tmp_path / "run", "cpu")
    assert names(tmp_path) == []


def test_an_encoder_that_cannot_be_loaded_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    with pytest.raises(TurnoverError, match=r"encoder '.*encoder' cannot be loaded"):
        train_run(TrainSettings("reviews", encoder=str(tmp_path / "encoder")), tmp_path / "run", "cpu")
    assert names(tmp_path) == ["encoder"]


def test_a_folder_that_exists_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(TurnoverError, match="run exists; choose another --run, or delete it first"):
        train_digits(tmp_path / "run")
    assert names(tmp_path / "run") == ["mine.txt"]


def test_defaults_are_filled_in_by_data_set() -> None:
    digits, reviews = TrainSettings("digits").resolved("image"), TrainSettings("reviews").resolved("text")
    assert (digits.label_noise, digits.members, digits.groups) == (0.05, 8, 16)
    assert (reviews.label_noise, reviews.members, reviews.groups) == (0.0, 16, 16)
    assert TrainSettings("digits", label_noise=0.0, members=1, groups=0).resolved("image").members == 1
