"""From data to a run folder: its files, its items, and numbers that its model gives again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.builders import SMALL_RUN, checksums, names, train_digits
from turnover import Run
from turnover.data.base import WRONG_LABEL
from turnover.data.images import png_pixels
from turnover.data.sources.images import load_digits
from turnover.models.heads import PIXELS_HIDDEN as HIDDEN
from turnover.models.registry import TrainSettings
from turnover.runs.model import load_model, split_inputs
from turnover.runs.run import RUN_FILES, find_runs
from turnover.training.fit import Split, accuracy, item_losses

CPU = torch.device("cpu")
RESULTS = {
    *("train_size", "validation_size", "validation_accuracy", "validation_loss", "masked_loss"),
    *("flipped_loss", "epochs", "plain_accuracy"),
}
FACTS = {"created", "data", "versions", "timings", "leaks", "device", "classes", "kind"}


def test_a_run_holds_its_files_and_what_its_command_prints(small_run: Path) -> None:
    assert names(small_run) == sorted([*RUN_FILES, "manifest.json", "influence", "causes"])
    assert find_runs(small_run.parent) == [small_run]
    manifest = Run(small_run).manifest
    results = manifest["results"]
    sizes = [results[name] for name in ("train_size", "validation_size", "members", "device")]
    assert sizes == [60, 597, 2, "cpu"]
    assert {*results} >= RESULTS and {*manifest} >= FACTS
    assert manifest["settings"] == TrainSettings.of(**SMALL_RUN).resolved("image").saved
    assert manifest["recipe"]["seed"] == SMALL_RUN["seed"]
    assert manifest["leaks"] == ["the convolutions before the first mask", "the output bias"]


def test_items_are_the_data_with_its_planted_labels(small_run: Path) -> None:
    run, data = Run(small_run), load_digits()
    train, validation = run.train, run.validation
    rows = [data.train.ids.index(name) for name in train["id"]]
    assert np.array_equal(train["true_label"], data.train.labels[rows])
    wrong = train["label"] != train["true_label"]
    assert wrong.sum() == 3
    assert np.array_equal(train["planted"] == WRONG_LABEL, wrong)
    assert list(validation["id"]) == data.validation.ids
    assert np.array_equal(validation["label"], data.validation.labels)
    assert (validation["planted"] == "").all()
    assert data.train.images is not None
    for row, content in zip(rows[:5], train["image"], strict=False):
        assert np.array_equal(png_pixels(content), data.train.images[row])


def test_the_model_of_a_run_is_the_one_that_its_numbers_come_from(small_run: Path) -> None:
    run = Run(small_run)
    model, results = load_model(run, CPU), run.manifest["results"]
    splits = {}
    for name in ("train", "validation"):
        items = run.split(name)
        inputs = split_inputs(run, name, list(range(len(items))), CPU)
        splits[name] = Split(inputs, torch.tensor(items["label"].tolist()))
        features = model.features(inputs).transpose(0, 1).flatten(1).detach()
        np.testing.assert_allclose(run.features(name), features, rtol=1e-4, atol=1e-5)
    told = results["validation_accuracy"]
    assert accuracy(model, splits["validation"]) == told
    assert told == pytest.approx(1 - len(run.misclassified_positions) / 597)
    loss = float(item_losses(model, splits["validation"]).mean())
    assert loss == pytest.approx(results["validation_loss"], rel=1e-5)
    kept = run.array("item_losses")[:, results["kept_epoch"] - 1]
    for flipped, name in enumerate(("masked", "flipped")):
        losses = item_losses(model, splits["train"], torch.arange(60), bool(flipped))
        assert losses.mean() == pytest.approx(results[f"{name}_loss"], rel=1e-5)
        np.testing.assert_allclose(kept[flipped], losses.mean(0).numpy(), rtol=1e-4, atol=1e-6)
    assert not model.training


def test_curves_have_one_row_an_epoch(small_run: Path) -> None:
    run = Run(small_run)
    curves, results = run.curves, run.manifest["results"]
    assert list(curves["epoch"]) == list(range(1, results["epochs"] + 1))
    kept = curves.iloc[results["kept_epoch"] - 1]
    for name in ("masked", "flipped", "validation", "unowned"):
        assert kept[name] == results[f"{name}_loss"]
    assert kept["accuracy"] == results["validation_accuracy"]
    losses = run.array("item_losses")
    assert losses.shape == (2, results["epochs"], 60)
    means = curves[["masked", "flipped"]].to_numpy().T
    np.testing.assert_allclose(losses.mean(2), means, rtol=1e-5)


def test_the_seed_decides_every_file_of_a_run(tmp_path: Path) -> None:
    settings = {"epochs": 2, "validation_limit": 20}
    runs = {"one": 3, "again": 3, "other": 5}
    files = [
        checksums(train_digits(tmp_path / name, seed=seed, **settings))
        for name, seed in runs.items()
    ]
    assert files[0] == files[1]
    assert {name for name in files[0] if files[0][name] != files[2][name]} == set(RUN_FILES)


def test_a_run_of_images_can_be_of_perceptrons(tmp_path: Path) -> None:
    settings = {"limit": 200, "validation_limit": 50, "epochs": 30}
    run = Run(train_digits(tmp_path / "run", model="heads", **settings))
    results, model = run.manifest["results"], load_model(run, CPU)
    rows = split_inputs(run, "validation", list(range(50)), CPU)
    split = Split(rows, torch.tensor(run.validation["label"].tolist()))
    told = results["validation_accuracy"]
    assert told == pytest.approx(accuracy(model, split)) and told > 0.6
    assert run.array("features").shape == (250, 2 * HIDDEN)
    assert 1 <= results["plain_kept_epoch"] <= results["epochs"] + 30
