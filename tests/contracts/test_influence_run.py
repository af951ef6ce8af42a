"""Influences added to a run: the engine's, estimated as the manifest says, whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import core.pipeline.influence as influence_pipeline
import core.pipeline.influence_files as influence_files
from core import Run, TurnoverError, influence, mean_influence, self_influence
from core.estimators.stored import stored_estimator
from core.models.text import TextEncoder
from core.pipeline.architecture import image_inputs
from core.pipeline.estimate import describe_targets
from core.pipeline.explain import Explainer
from core.pipeline.influence import compute_influence
from core.pipeline.model import load_model, split_inputs
from core.pipeline.settings import TrainSettings
from core.pipeline.train import train_run
from core.runs import RUN_FILES, write_manifest
from core.training import Split
from tests.helpers.builders import checksums, failing_after, names, train_digits

CPU = torch.device("cpu")


# Influences


def test_influences_of_a_run_are_the_engine_s(small_run: Path) -> None:
    run = Run(small_run)
    part, model, ids = run.influence, load_model(run, CPU), np.arange(60)
    validation = split_inputs(run, "validation", list(range(597)), CPU)
    labels, predicted = (torch.tensor(run.validation[name].tolist()) for name in ("label", "predicted"))
    truth = influence(model, validation, labels, ids)
    np.testing.assert_allclose(part.array("truth_members"), truth.values, atol=1e-5)
    prediction = influence(model, validation[run.errors], predicted[run.errors], ids)
    np.testing.assert_allclose(part.array("prediction_members"), prediction.values, atol=1e-5)
    np.testing.assert_allclose(part.array("mean_members"), mean_influence(model, validation, labels, ids), atol=1e-5)
    train, own = split_inputs(run, "train", list(range(60)), CPU), torch.tensor(run.train["label"].tolist())
    np.testing.assert_allclose(part.array("self"), self_influence(model, train, own, ids), atol=1e-5)
    assert (part.targets, part.errors) == (list(range(597)), run.errors)
    assert part.manifest["layout"] == "full"


def test_estimates_are_made_of_the_members_values_as_the_manifest_says(small_run: Path) -> None:
    """The estimator read from the folder, on the stored members of all targets, against what was written slice by slice."""
    run = Run(small_run)
    part, estimator, model = run.influence, stored_estimator(run), load_model(run, CPU)
    assert part.estimator == estimator.name == "best"
    for meaning, column, targets in (("truth", "label", part.targets), ("prediction", "predicted", part.errors)):
        labels = torch.tensor(run.validation[column].loc[targets].tolist())
        described = describe_targets(model, Split(split_inputs(run, "validation", targets, CPU), labels), run.features("validation")[targets])
        made = estimator.apply(np.asarray(part.array(f"{meaning}_members")), estimator.shape_of(described))
        for name, array in zip(("estimate", "error"), made, strict=True):
            np.testing.assert_allclose(part.array(f"{meaning}_{name}"), array, rtol=1e-4, atol=1e-6)


def test_what_the_command_prints_counts_what_was_computed(run_copy: Path) -> None:
    made = compute_influence(Run(run_copy), device_choice="cpu")
    part = Run(run_copy).influence
    assert (made["targets"], made["train_size"], made["members"], made["estimator"]) == (597, 60, 2, part.estimator)
    assert made["pairs"] >= 2 * 60 * (597 + len(part.errors))
    assert made["pairs_per_second"] > 0
    assert made["path"].startswith("mask algebra")


@pytest.mark.parametrize("top", [4, 25, 100])
def test_the_top_layout_holds_the_ends_of_the_full_one(top: int, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Run(run_copy).influence
    whole = {target: full.ranked(target, "prediction") for target in full.targets}
    monkeypatch.setattr(influence_files, "TOP", top)
    compute_influence(Run(run_copy), device_choice="cpu", full_bytes=0)
    part = Run(run_copy).influence
    assert part.manifest["layout"] == "top"
    assert not (run_copy / "influence" / "truth_members.npy").exists()
    np.testing.assert_allclose(part.mean_influence[0], full.mean_influence[0], atol=1e-6)
    np.testing.assert_allclose(part.self_influence, full.self_influence, atol=1e-6)
    for target, expected in whole.items():
        known = part.ranked(target, "prediction")
        assert len(set(known.instances)) == len(known.instances) == min(60, 2 * top)
        np.testing.assert_allclose(known.values, expected.values[known.instances], atol=1e-5)
        np.testing.assert_allclose(known.errors, expected.errors[known.instances], atol=1e-5)
        ordered = np.sort(expected.values)[::-1]
        ends = ordered if 2 * top >= 60 else np.concatenate((ordered[:top], ordered[-top:]))
        np.testing.assert_allclose(known.values, ends, atol=1e-5)
        for one, other in zip(known.ends(3), expected.ends(3), strict=True):
            np.testing.assert_allclose(known.values[one], expected.values[other], atol=1e-5)


def test_slices_of_targets_change_nothing(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: np.load(path) for path in (run_copy / "influence").glob("*.npy")}
    compute_influence(Run(run_copy), device_choice="cpu")
    assert names(run_copy / "influence") == sorted([*before, "manifest.json"])
    for name, array in before.items():
        np.testing.assert_allclose(np.load(run_copy / "influence" / name), array, atol=1e-5)


def test_the_same_command_gives_the_same_influences(run_copy: Path) -> None:
    before = checksums(run_copy / "influence")
    compute_influence(Run(run_copy), device_choice="cpu")
    assert checksums(run_copy / "influence") == before


def test_influences_on_the_errors_alone(run_copy: Path) -> None:
    full = Run(run_copy).influence
    expected = {(target, meaning): full.ranked(target, meaning).values for target in full.errors for meaning in ("truth", "prediction")}
    made = compute_influence(Run(run_copy), "errors", "cpu")
    run = Run(run_copy)
    assert made["targets"] == len(run.errors)
    assert run.influence.targets == run.influence.errors == run.errors
    if run.influence.estimator == full.estimator == "median":
        for (target, meaning), values in expected.items():
            np.testing.assert_allclose(run.influence.ranked(target, meaning).values, values, atol=1e-5)
    np.testing.assert_allclose(run.influence.array("truth_members"), np.load(run_copy / "influence" / "truth_members.npy"))
    right = next(position for position in range(597) if position not in run.errors)
    with pytest.raises(TurnoverError, match=f"validation item {right} has no influences in this run; compute them with --targets validation"):
        run.influence.ranked(right, "truth")


@pytest.mark.parametrize(("targets", "most", "count"), [("errors", 3, 3), ("validation", 5, 5), ("errors", 10**6, None)])
def test_at_most_so_many_targets_the_same_every_time(targets: str, most: int, count: int | None, run_copy: Path) -> None:
    full, run = Run(run_copy).influence, Run(run_copy)
    truth = np.array(full.array("truth_members"))
    places = {name: {target: place for place, target in enumerate(known)} for name, known in (("truth", full.targets), ("errors", full.errors))}
    wrong = np.array(full.array("prediction_members"))
    assert compute_influence(run, targets, "cpu", most=most)["targets"] == (len(run.errors) if count is None else count)
    part = Run(run_copy).influence
    assert part.targets == sorted(set(part.targets)) and part.errors == [target for target in part.targets if target in run.errors]
    np.testing.assert_allclose(part.array("truth_members"), truth[:, [places["truth"][target] for target in part.targets]], atol=1e-5)
    np.testing.assert_allclose(part.array("prediction_members"), wrong[:, [places["errors"][target] for target in part.errors]], atol=1e-5)
    before = checksums(run_copy / "influence")
    compute_influence(run, targets, "cpu", most=most)
    assert checksums(run_copy / "influence") == before


def without_errors(folder: Path) -> Run:
    """The run as it would be had the model been right everywhere."""
    items = pd.read_parquet(folder / "items.parquet")
    items["predicted"] = items["label"]
    items.to_parquet(folder / "items.parquet", index=False)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    write_manifest(folder, {name: value for name, value in manifest.items() if name not in ("format", "files")}, RUN_FILES)
    return Run(folder)


def test_a_model_without_errors_has_influences_on_the_truth(run_copy: Path) -> None:
    run = without_errors(run_copy)
    compute_influence(run, device_choice="cpu")
    part = Run(run_copy).influence
    assert part.errors == []
    assert part.array("prediction_estimate").shape == (0, 60)
    assert len(part.ranked(0, "prediction").values) == 60


def test_a_model_without_errors_has_no_influences_on_them(run_copy: Path) -> None:
    """Nothing to compute: a clear line or an empty part, and no crash."""
    run = without_errors(run_copy)
    try:
        made = compute_influence(run, "errors", "cpu")
    except TurnoverError as error:
        assert "error" in str(error)
    else:
        assert made["targets"] == 0
        assert Run(run_copy).influence.targets == []


def test_one_member_has_no_standard_errors(tmp_path: Path) -> None:
    folder = train_digits(tmp_path / "run", members=1, limit=30)
    compute_influence(Run(folder), device_choice="cpu")
    part = Run(folder).influence
    assert part.estimator == "raw"
    assert np.isnan(part.array("truth_error")).all()
    assert np.isnan(part.mean_influence[1]).all()
    assert np.isfinite(part.array("truth_estimate")).all()


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device"), RuntimeError("x")])
def test_influences_that_fail_leave_the_old_ones_and_no_scraps(failure: BaseException, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = checksums(run_copy / "influence")
    monkeypatch.setattr(influence_pipeline, "influences", failing_after(2, influence_pipeline.influences, failure))
    with pytest.raises(TurnoverError if isinstance(failure, OSError) else type(failure)):
        compute_influence(Run(run_copy), device_choice="cpu")
    assert checksums(run_copy / "influence") == before
    assert names(run_copy) == sorted([*RUN_FILES, "manifest.json", "influence"])
    assert Run(run_copy).influence.targets == list(range(597))


# A run of texts


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of forty short texts with influence."""
    folder = tmp_path_factory.mktemp("texts")
    words = ("superb", "lovely", "witty", "moving"), ("dreadful", "dull", "clumsy", "tired")
    for name, count in (("train.csv", 40), ("dev.csv", 12)):
        texts = [f"A {words[row % 2][row // 2 % 4]} film, number {row} of the {name[:-4]} list." for row in range(count)]
        pd.DataFrame({"text": texts, "label": [1 - row % 2 for row in range(count)]}).to_csv(folder / name, index=False)
    train_run(TrainSettings("sst2", path=str(folder), members=2, seed=1), folder / "run", "cpu")
    compute_influence(Run(folder / "run"), device_choice="cpu")
    return folder / "run"


def test_a_text_run_keeps_the_encoder_s_features(text_run: Path, encoder: TextEncoder) -> None:
    run = Run(text_run)
    assert (run.kind, run.classes) == ("text", ["negative", "positive"])
    for split in ("train", "validation"):
        np.testing.assert_allclose(run.features(split), encoder.features(list(run.split(split)["text"])), atol=1e-4)
    assert run.train["label"].tolist() == [1, 0] * 20
    assert run.manifest["settings"]["groups"] == 16
    assert run.manifest["leaks"] == ["the output bias"]
    assert run.manifest["data"]["source"].startswith("train.csv and dev.csv in ")


def test_influences_of_a_text_run_are_the_engine_s(text_run: Path, encoder: TextEncoder) -> None:
    run = Run(text_run)
    features = torch.from_numpy(encoder.features(list(run.validation["text"])))
    expected = influence(load_model(run, CPU), features, torch.tensor(run.validation["label"].tolist()), range(40))
    np.testing.assert_allclose(run.influence.array("truth_members"), expected.values, atol=1e-4)
    torch.testing.assert_close(split_inputs(run, "validation", [3, 1], CPU), features[[3, 1]], atol=1e-4, rtol=0)
    np.testing.assert_array_equal(split_inputs(run, "train", [5, 2], CPU), run.features("train")[[5, 2]])


def test_a_target_is_described_alike_alone_and_in_company(small_run: Path) -> None:
    """Whatever the slice, so that explaining one item later agrees with the run."""
    run = Run(small_run)
    model, rows = load_model(run, CPU), [4, 9, 300, 12]
    inputs, labels = split_inputs(run, "validation", rows, CPU), torch.tensor(run.validation["label"].loc[rows].tolist())
    together = describe_targets(model, Split(inputs, labels), run.features("validation")[rows])
    alone = describe_targets(model, Split(inputs[2:3], labels[2:3]), run.features("validation")[rows[2:3]])
    np.testing.assert_allclose(together.residuals[2:3], alone.residuals, atol=1e-6)


@pytest.mark.parametrize("target", [0, 5, 11])
def test_explaining_a_validation_text_gives_the_stored_influences(target: int, text_run: Path) -> None:
    """Encoded, described and estimated anew, by the estimator read from the folder."""
    run = Run(text_run)
    item = run.item("validation", target)
    made = Explainer(run, "cpu").explain_text(item["text"], run.classes[item["label"]], 5)
    stored = run.influence.ranked(target, "truth")
    proponents, opponents = stored.ends(5)
    assert run.influence.estimator == "best"
    for name, places in (("proponents", proponents), ("opponents", opponents)):
        assert len(made[name]) == len(places)
        scale = np.abs(stored.values).max()
        np.testing.assert_allclose([entry["influence"] for entry in made[name]], stored.values[places], atol=1e-3 * scale)
        np.testing.assert_allclose([entry["standard_error"] for entry in made[name]], stored.errors[places], rtol=1e-3)


def test_images_are_scaled_to_minus_one_and_one() -> None:
    images = np.array([[[0, 255], [51, 204]]], np.uint8)
    torch.testing.assert_close(image_inputs(images), torch.tensor([[[[-1.0, 1.0], [-0.6, 0.6]]]]))
